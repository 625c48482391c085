"""A code for masks alone: blocks of class ids to latents of the photo's shape, and class logits.

A class is a direction in a space of a few dimensions, all of them far apart. A block of ``f x f``
pixels is what its pixels' directions are along the principal components of such blocks, which
:mod:`semflow.codecs.fit` finds in a corpus's masks. Two small networks beside the linear map, one
each way, learn what it leaves out. Since the map is linear but for them, halfway between two masks
lie mixtures of their classes and no third one, as there does between two colours.

The last ``style`` channels hold the perturbation and nothing else: no label is read from them, so
that none can change, whatever the amplitude.

Shapes: B batch, K classes, H and W pixels, C latent channels, h and w latent size, f the factor
between them, S style channels, E dimensions of a class's direction.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from semflow.codecs.base import MaskCodec, Read
from semflow.masks.decoding import PIXELS, check_window
from semflow.masks.palette import IGNORE, TEMPERATURE, Palette
from semflow.masks.perturb import Perturbation
from semflow.networks import trusted
from semflow.networks.base import weights_hash

WEIGHTS = "weights.safetensors"
HALO = 1
"""Latents around one that decoding it looks at."""
STYLED = 12
"""Of so many channels one is for style."""
MOST_CLASSES = IGNORE


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What decides how many numbers a code has."""

    classes: int
    channels: int
    """C, those of the photo's latents."""
    factor: int
    """f, pixels a latent spans in each direction: the photo's."""
    width: int
    """Of the networks beside the linear map; 0 is none."""
    dimensions: int = 16
    """E at most; fewer classes take fewer."""

    def __post_init__(self) -> None:
        numbers = (self.classes - 1, self.channels, self.factor, self.width + 1, self.dimensions)
        if not all(isinstance(n, int) and 1 <= n <= trusted.MOST for n in numbers):
            raise ValueError(f"no code for masks has the sizes {asdict(self)}")

    @property
    def style(self) -> int:
        """S: channels that only a perturbation is in."""
        return self.channels // STYLED

    @property
    def coded(self) -> int:
        """Channels that the classes are in."""
        return self.channels - self.style

    @property
    def block(self) -> int:
        """Numbers of a block of directions."""
        return min(self.classes, self.dimensions) * self.factor**2


class Blocks(MaskCodec):
    """The code; :func:`semflow.codecs.fit.fit` makes one for a corpus."""

    seamless = True
    mean: Tensor
    std: Tensor

    def __init__(self, shape: Shape, palette: Palette) -> None:
        """One with weights that are to be set.

        Raises:
            ValueError: when the palette has another number of classes.
        """
        super().__init__()
        if shape.classes != len(palette):
            raise ValueError(f"a code for {shape.classes} classes, a palette of {len(palette)}")
        self.shape, self.palette = shape, palette
        across = min(shape.classes, shape.dimensions)
        self.directions = nn.Parameter(torch.zeros(shape.classes, across))
        self.readers = nn.Parameter(torch.zeros(shape.classes, across))
        self.into = nn.Conv2d(shape.block, shape.coded, 1)
        self.out_of = nn.Conv2d(shape.coded, shape.block, 1)
        self.more_into = _beside(shape.block, shape.coded, shape.width, first=1)
        self.more_out_of = _beside(shape.coded, shape.block, shape.width, first=2 * HALO + 1)
        self.register_buffer("mean", torch.zeros(shape.coded))
        self.register_buffer("std", torch.ones(shape.coded))

    def encode(
        self,
        ids: Tensor,
        perturbation: Perturbation | None = None,
        seeds: Sequence[int] | None = None,
    ) -> Tensor:
        code = self.normalized(self.code(ids)).float()
        rows, _, height, width = code.shape
        style = code.new_zeros(rows, self.shape.style, height, width)
        if perturbation and seeds is not None and self.shape.style:
            style = perturbation.apply(style, seeds)
        return torch.cat((code, style), 1)

    def code(self, ids: Tensor) -> Tensor:
        """Of class ids ``[B, H, W]``, before it is normalized: ``[B, C - S, h, w]``."""
        ids = ids.long()
        wrong = (ids != IGNORE) & ((ids < 0) | (ids >= self.shape.classes))
        if wrong.any():
            raise ValueError(
                f"class ids {sorted(set(ids[wrong].tolist()))[:8]} are beyond the "
                f"{self.shape.classes} classes of this code ({IGNORE} is ignored)"
            )
        known = (ids != IGNORE)[..., None]
        pixels = self.directions[ids.where(known[..., 0], 0)] * known
        blocks = F.pixel_unshuffle(pixels.movedim(-1, 1), self.shape.factor)
        code = cast(Tensor, self.into(blocks))
        return code if self.more_into is None else code + self.more_into(blocks)

    def normalized(self, code: Tensor) -> Tensor:
        """Channels of mean 0 and deviation 1 over the corpus."""
        return (code - self.mean[:, None, None]) / self.std[:, None, None]

    def logits(self, latents: Tensor, temperature: float = TEMPERATURE) -> Tensor:
        code = latents[:, : self.shape.coded].to(self.into.weight.dtype)
        code = code * self.std[:, None, None] + self.mean[:, None, None]
        blocks = self.out_of(code)
        if self.more_out_of is not None:
            blocks = blocks + self.more_out_of(code)
        pixels = F.pixel_shuffle(blocks, self.shape.factor)
        return torch.einsum("behw,ke->bkhw", pixels, self.readers).float()

    def read(self, latents: Tensor, window: int = 1) -> Read:
        check_window(window)
        parts = [
            self._read(latents[:, :, wider], window, inner)
            for wider, inner in self._strips(latents, window)
        ]
        ids, margin, picture = (torch.cat(part, -2) for part in zip(*parts, strict=True))
        return Read(ids, margin, picture)

    def _read(self, latents: Tensor, window: int, inner: slice) -> Read:
        posterior = self.logits(latents).softmax(1)
        anchors = self.palette.anchors.to(posterior)
        picture = torch.einsum("bkhw,kc->bchw", posterior, anchors)
        if window > 1:
            posterior = F.avg_pool2d(posterior, window, 1, window // 2, count_include_pad=False)
        most, best = posterior.topk(2, 1)
        found = best[:, 0], most[:, 0] - most[:, 1], picture
        return Read(*(part[..., inner, :] for part in found))

    def _strips(self, latents: Tensor, window: int) -> Iterator[tuple[slice, slice]]:
        """Latent rows to read at once, and which pixel rows of what they give count."""
        factor, (rows, height, width) = self.shape.factor, (len(latents), *latents.shape[2:])
        halo = HALO + -(-(window // 2) // factor)
        most = PIXELS * TOGETHER // (max(self.shape.classes, TOGETHER) * rows)
        step = max(1, most // (width * factor**2))
        for top in range(0, height, step):
            first, bottom = max(0, top - halo), min(height, top + step)
            inner = slice((top - first) * factor, (bottom - first) * factor)
            yield slice(first, min(height, bottom + halo)), inner

    def identity(self) -> dict[str, Any]:
        """Its sizes and a hash of the weights: alike for two that encode alike."""
        return {"_class_name": "Blocks", **asdict(self.shape), "weights": weights_hash(self)}

    def save(self, folder: str | Path) -> None:
        """Write ``config.json`` and the weights, as :func:`load` reads them."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous() for k, v in self.state_dict().items()},
                  Path(folder) / WEIGHTS)  # fmt: skip
        (Path(folder) / "config.json").write_text(json.dumps(self.identity(), indent=2) + "\n")

    @classmethod
    def load(cls, folder: str | Path, palette: Palette) -> Blocks:
        """From a folder that :meth:`save` wrote, frozen.

        Raises:
            ValueError: when it is none, is damaged, or is for other classes.
        """
        where = Path(folder) / "config.json"
        config = trusted.read_json(where)
        if config.get("_class_name") != "Blocks":
            raise ValueError(f"{where} names {config.get('_class_name')!r}, which is no mask codec")
        names = Shape.__dataclass_fields__
        try:
            shape = Shape(**{name: config[name] for name in names})
            with torch.device("meta"):
                asked = sum(v.numel() for v in cls(shape, palette).state_dict().values())
            if asked != trusted.values_in([Path(folder) / WEIGHTS]):
                raise ValueError("the weights are of other sizes than config.json says")
            codec = cls(shape, palette)
            codec.load_state_dict(load_file(Path(folder) / WEIGHTS))
        except (KeyError, TypeError, RuntimeError, OSError, SafetensorError, ValueError) as error:
            raise ValueError(f"{folder} holds no mask codec that can be loaded: {error}") from error
        return codec.eval().requires_grad_(False)


TOGETHER = 16
"""Classes that :data:`PIXELS` reckons with."""


def _beside(into: int, out_of: int, width: int, first: int) -> nn.Sequential | None:
    """A network whose last layer is zero, so that it begins as nothing."""
    if not width:
        return None
    network = nn.Sequential(
        nn.Conv2d(into, width, first, padding=first // 2), nn.SiLU(),
        nn.Conv2d(width, out_of, 4 - first, padding=(4 - first) // 2),
    )  # fmt: skip
    nn.init.zeros_(cast(Tensor, network[-1].weight))
    nn.init.zeros_(cast(Tensor, network[-1].bias))
    return network
