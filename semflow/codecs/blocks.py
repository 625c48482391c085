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

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semflow.codecs.base import MaskCodec, Read
from semflow.codecs.reading import Reader, joined, strips
from semflow.codecs.refiner import Refiner
from semflow.masks.palette import IGNORE, TEMPERATURE, Palette
from semflow.masks.perturb import Perturbation
from semflow.networks import small, trusted
from semflow.networks.base import weights_hash

HALO = 1
"""Latents around one that decoding it looks at."""
STYLED = 12
"""Of so many channels one is for style."""


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

    def paint(self, ids: Tensor) -> Tensor:
        return self.normalized(self.code(ids)).float()

    def latents(
        self, painted: Tensor, perturbation: Perturbation | None, seeds: Sequence[int]
    ) -> Tensor:
        rows, _, height, width = painted.shape
        style = painted.new_zeros(rows, self.shape.style, height, width)
        if perturbation and self.shape.style:
            style = perturbation.apply(style, seeds)
        return torch.cat((painted, style), 1)

    def code(self, ids: Tensor) -> Tensor:
        """Of class ids ``[B, H, W]``, before it is normalized: ``[B, C - S, h, w]``."""
        ids = ids.long()
        wrong = (ids != IGNORE) & ((ids < 0) | (ids >= self.shape.classes))
        if wrong.any():
            raise ValueError(
                f"class ids {sorted(set(ids[wrong].tolist()))[:8]} are beyond the "
                f"{self.shape.classes} classes of this code ({IGNORE} is ignored)"
            )
        blocks = self.blocks(ids)
        code = cast(Tensor, self.into(blocks))
        return code if self.more_into is None else code + self.more_into(blocks)

    def blocks(self, ids: Tensor) -> Tensor:
        """Directions ``[B, E f^2, h, w]`` of class ids ``[B, H, W]`` int64; 0 where ignored."""
        known = (ids != IGNORE)[..., None]
        pixels = self.directions[ids.where(known[..., 0], 0)] * known
        return F.pixel_unshuffle(pixels.movedim(-1, 1), self.shape.factor)

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

    def read(
        self, latents: Tensor, window: int = 1, refiner: Refiner | None = None,
        photos: Tensor | None = None,
    ) -> Read:  # fmt: skip
        reader, factor = Reader(window, refiner, photos), self.shape.factor
        rows, height, width = len(latents), *latents.shape[2:]
        halo = HALO + -(-reader.halo // factor)
        parts = []
        for strip in strips(height, rows * width * factor**2, self.shape.classes, halo):
            first, inner = strip.wider.start * factor, strip.inner
            logits = self.logits(latents[:, :, strip.wider])
            read = *reader(logits, slice(first, first + logits.shape[2])), self._picture(logits)
            counts = slice(inner.start * factor, inner.stop * factor)
            parts.append(Read(*(part[..., counts, :] for part in read)))
        return joined(parts)

    def _picture(self, logits: Tensor) -> Tensor:
        anchors = self.palette.anchors.to(logits)
        return torch.einsum("bkhw,kc->bchw", logits.softmax(1), anchors)

    def identity(self) -> dict[str, Any]:
        """Its sizes and a hash of the weights: alike for two that encode alike."""
        return {"_class_name": "Blocks", **asdict(self.shape), "weights": weights_hash(self)}

    def save(self, folder: str | Path) -> None:
        """Write it as :meth:`load` reads it."""
        small.save(folder, self, self.identity())

    @classmethod
    def load(cls, folder: str | Path, palette: Palette) -> Blocks:
        """From a folder that :meth:`save` wrote, frozen.

        Raises:
            ValueError: when it is none, is damaged, or is for other classes.
        """

        def build(config: dict[str, Any]) -> Blocks:
            shape = Shape(**{name: config[name] for name in Shape.__dataclass_fields__})
            return cls(shape, palette)

        return small.load(folder, "Blocks", "mask codec", build)


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
