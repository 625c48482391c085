"""Fitting a code for masks (:mod:`semflow.codecs.blocks`) to the masks of a corpus.

The linear part is known at once: principal components of blocks, rarer classes weighted more. The
networks beside it are then trained by cross-entropy alone, as JoDiffusion (arXiv 2512.13014) and
LDMSeg (arXiv 2401.10227) train theirs, on random crops with a little noise on the latents, and on
some crops with the classes exchanged, so that a code of a rare class is as good as that of a common
one. A fit is the same again for the same masks, seed, machine and number of threads.

Shapes: N masks, B batch, H and W pixels, h and w latent size, E dimensions of a class's direction.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from semflow.codecs.blocks import Blocks, Shape
from semflow.masks.palette import IGNORE, Palette

RARE = 0.25
"""A pixel weighs ``frequency ** -RARE`` of its class."""
SAMPLE = 400
"""Masks of which the principal components are known well enough."""
CROP = 12
"""Latents a side of a crop that is trained on."""
BATCH = 16
EXCHANGED = 0.3
"""Share of the crops whose classes are exchanged for others."""
NOISE = 0.1
"""Of normalized latents, at most; its deviation is uniform below."""
LR = 2e-3
SHARPNESS = 8.0
"""Of logits in the beginning: a class's own direction has length 1."""


def fit(
    ids: Tensor,
    palette: Palette,
    shape: Shape,
    *,
    steps: int,
    seed: int = 0,
    told: Callable[[int], None] = lambda step: None,
) -> Blocks:
    """A code for masks like ``ids``, frozen.

    Args:
        ids: class ids ``[N, H, W]``, sides of whole blocks, with ignored pixels.
        palette: of the classes.
        shape: sizes of the code; without a width it is linear and needs no training.
        steps: of the training.
        seed: of its crops, noise and networks.
        told: is called after each step.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        codec = Blocks(shape, palette)
        weights = _class_weights(ids, len(palette))
        _principal(codec, ids, weights)
        _normalize(codec, ids)
        if shape.width:
            _train(codec, ids, weights, steps, told)
            _normalize(codec, ids)
    return codec.eval().requires_grad_(False)


def _class_weights(ids: Tensor, classes: int) -> Tensor:
    counts = torch.bincount(ids.flatten().long(), minlength=256)[:classes].double()
    share = (counts / counts.sum()).clamp(min=1e-5)
    weights = share**-RARE
    return (weights * share.sum() / (weights * share).sum()).float()


@torch.no_grad()
def _principal(codec: Blocks, ids: Tensor, weights: Tensor) -> None:
    """Set directions and the linear map, each way."""
    shape = codec.shape
    codec.directions.copy_(_apart(shape.classes, codec.directions.shape[1]))
    codec.readers.copy_(SHARPNESS * codec.directions)
    of_id = torch.zeros(256)
    of_id[: shape.classes] = weights
    total, mean, second = 0.0, torch.zeros(shape.block).double(), torch.zeros(()).double()
    for some in _some(ids).split(16):
        blocks = codec.blocks(some.long()).movedim(1, -1).flatten(0, 2)
        heavy = F.avg_pool2d(of_id[some.long()][:, None], shape.factor).flatten()[:, None]
        total += float(heavy.sum())
        mean += (heavy * blocks).sum(0)
        second = second + ((heavy * blocks).T @ blocks).double()
    mean /= total
    values, vectors = torch.linalg.eigh(second / total - mean[:, None] * mean)
    basis, spread = vectors.flip(1)[:, : shape.coded].float(), values.flip(0)[: shape.coded]
    # Half whitened: the networks see neither the largest alone nor the noise of the least.
    root = spread.clamp(min=1e-9).float().sqrt()
    scale = root.clamp(min=0.02 * float(root[0])).sqrt()
    rank = basis.shape[1]  # a few classes in small blocks have fewer components than channels
    into, out_of = codec.into.state_dict(), codec.out_of.state_dict()  # the tensors themselves
    for part in (*into.values(), *out_of.values()):
        part.zero_()
    into["weight"][:rank, :, 0, 0] = (basis / scale).T
    into["bias"][:rank] = -(mean.float() @ basis) / scale
    out_of["weight"][:, :rank, 0, 0] = basis * scale
    out_of["bias"].copy_(mean.float())


def _apart(classes: int, dimensions: int) -> Tensor:
    """Unit vectors ``[K, E]`` far apart; the corners of a simplex where there is room for one."""
    if classes <= dimensions:
        return F.normalize(torch.eye(classes, dimensions) - 1 / classes, dim=1)
    points = F.normalize(torch.randn(classes, dimensions), dim=1)
    for _ in range(300):
        near = points @ points.T
        near.fill_diagonal_(-9.0)
        points = F.normalize(points - 0.1 * (20 * near).softmax(1) @ points, dim=1)
    return points


@torch.no_grad()
def _normalize(codec: Blocks, ids: Tensor) -> None:
    code = torch.cat([codec.code(some) for some in _some(ids).split(16)])
    codec.mean.copy_(code.mean((0, 2, 3)))
    codec.std.copy_(code.std((0, 2, 3)).clamp(min=1e-3))


def _some(ids: Tensor) -> Tensor:
    """At most :data:`SAMPLE` masks, spread over all."""
    return ids[torch.linspace(0, len(ids) - 1, min(SAMPLE, len(ids))).long()]


def _train(
    codec: Blocks, ids: Tensor, weights: Tensor, steps: int, told: Callable[[int], None]
) -> None:
    optimizer = torch.optim.AdamW(codec.parameters(), LR, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: min(1, (i + 1) / 50) * 0.5 * (1 + math.cos(math.pi * i / steps))
    )
    for step in range(steps):
        crops = _crops(ids, codec.shape)
        code = codec.code(crops)
        latents = codec.normalized(code)
        deviation = NOISE * torch.rand(len(latents), 1, 1, 1)
        logits = codec.logits(latents + deviation * torch.randn_like(latents))
        loss = F.cross_entropy(logits, crops, weights, ignore_index=IGNORE)
        optimizer.zero_grad()
        loss.nan_to_num().backward()  # NaN where all pixels are ignored
        optimizer.step()
        schedule.step()
        with torch.no_grad():  # the code moves while it is trained
            codec.mean.lerp_(code.mean((0, 2, 3)), 0.02)
            codec.std.lerp_(code.std((0, 2, 3)).clamp(min=1e-3), 0.02)
        told(step + 1)


def _crops(ids: Tensor, shape: Shape) -> Tensor:
    """Random crops ``[B, H, W]`` int64 at whole blocks, half of them mirrored."""
    factor = shape.factor
    sides = [min(CROP * factor, size // factor * factor) for size in ids.shape[1:]]
    crops = []
    for number in torch.randint(len(ids), (BATCH,)).tolist():
        top, left = (
            factor * int(torch.randint((size - side) // factor + 1, ()))
            for size, side in zip(ids.shape[1:], sides, strict=True)
        )
        crop = ids[number, top : top + sides[0], left : left + sides[1]].long()
        chance = torch.rand(2)
        if chance[0] < EXCHANGED:
            others = torch.arange(256)
            others[: shape.classes] = torch.randperm(shape.classes)
            crop = others[crop]
        crops.append(crop.flip(-1) if chance[1] < 0.5 else crop)
    return torch.stack(crops)
