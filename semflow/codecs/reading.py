"""Class logits to class ids, strip by strip: by themselves, over a window, or through a refiner.

Shapes: B batch, K classes, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from semflow.codecs.base import Read
from semflow.codecs.refiner import HALO, Refiner
from semflow.masks.decoding import PIXELS, check_window, most_probable
from semflow.masks.palette import Decoded

TOGETHER = 16
"""Classes that :data:`PIXELS` reckons with: K numbers a pixel are held at once."""


@dataclass(frozen=True)
class Reader:
    """How logits are read."""

    window: int = 1
    """Pixels a side over which probabilities are averaged; not with a refiner."""
    refiner: Refiner | None = None
    photos: Tensor | None = None
    """``[B, 3, H, W]`` in [-1, 1], which a refiner looks at."""

    def __post_init__(self) -> None:
        check_window(self.window)

    @property
    def halo(self) -> int:
        """Pixels around one that reading it looks at."""
        return HALO if self.refiner else self.window // 2

    def __call__(self, logits: Tensor, rows: slice) -> Decoded:
        """Ids and margins, each ``[B, H, W]``, of logits ``[B, K, H, W]`` of these pixel rows."""
        if self.refiner:
            assert self.photos is not None
            return most_probable(self.refiner(logits, self.photos[:, :, rows]).softmax(1))
        return most_probable(logits.softmax(1), self.window)


@dataclass(frozen=True)
class Strip:
    """Rows that are read at once, in cells: latents or pixels."""

    wider: slice
    """With what is looked at around them."""
    inner: slice
    """Those that count, of the wider ones."""


def strips(rows: int, row_pixels: int, classes: int, halo: int) -> Iterator[Strip]:
    """Strips of a plane of ``rows``, each of which has ``row_pixels`` pixels over the batch."""
    step = max(1, PIXELS * TOGETHER // (max(classes, TOGETHER) * row_pixels))
    for top in range(0, rows, step):
        first, bottom = max(0, top - halo), min(rows, top + step)
        yield Strip(slice(first, min(rows, bottom + halo)), slice(top - first, bottom - first))


def joined(parts: list[Read]) -> Read:
    """Strips, one below the other."""
    return Read(*(torch.cat(part, -2) for part in zip(*parts, strict=True)))
