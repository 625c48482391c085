"""How well a segmentation follows the borders of the truth, in counts that workers can add up.

A *border* pixel is one that has a neighbour of another class to its left, right, above or below; it
is a border pixel of its own class. So a border between two classes is two pixels wide, one of each.
The picture's edge is no border, and neither is where ignored pixels begin. Distances are Euclidean,
between the pixels' middles: what is within 3 pixels is a disc of 29.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from semflow.masks.palette import IGNORE

TOLERANCE = 3
"""Pixels that a border may be off."""
RING = 4
"""Pixels around a pixel in which its predicted class is looked for in the truth."""
NOTHING = -1
"""What is beyond the picture, and where no border is."""
NO_CLASS = -2
"""A prediction that is no class."""


def border(ids: Tensor) -> Tensor:
    """Which pixels of ``[B, H, W]`` are border pixels: bool ``[B, H, W]``."""
    found = torch.zeros_like(ids, dtype=torch.bool)
    for axis in (1, 2):
        rest = ids.shape[axis] - 1
        one, other = ids.narrow(axis, 0, rest), ids.narrow(axis, 1, rest)
        change = (one != other) & (one != IGNORE) & (other != IGNORE)
        found.narrow(axis, 0, rest).logical_or_(change)
        found.narrow(axis, 1, rest).logical_or_(change)
    return found


def around(values: Tensor, radius: int, beyond: int = NOTHING) -> Iterator[Tensor]:
    """Integers ``[B, H, W]`` as seen from each pixel: once for each place of a disc around it.

    Args:
        values: the integers.
        radius: of the disc, in pixels.
        beyond: what is seen beyond the picture.
    """
    height, width = values.shape[1:]
    padded = F.pad(values, (radius,) * 4, value=beyond)
    for y in range(-radius, radius + 1):
        for x in range(-radius, radius + 1):
            if x * x + y * y <= radius * radius:
                yield padded[:, radius + y :, radius + x :][:, :height, :width]


def within(places: Tensor, radius: int) -> Tensor:
    """Which pixels have one of ``places``, bool ``[B, H, W]``, within ``radius`` pixels."""
    found = torch.zeros_like(places)
    for seen in around(places.byte(), radius, 0):
        found |= seen.bool()
    return found


class BoundaryScore:
    """Precision and recall of border pixels, class by class, within a tolerance.

    A predicted border pixel of a class is right when a true border pixel of that class lies within
    the tolerance; a true one is found when a predicted one does. Any number may match the same one,
    as in DAVIS (Perazzi et al. 2016, CVPR) and Csurka et al. 2013 (BMVC). Those score picture by
    picture; here pixels are counted over all of them, as mIoU counts. Where an ignored pixel lies
    within the tolerance, the true border may run unseen: border pixels there are not counted, on
    neither side, though others may still match them.
    """

    def __init__(self, num_classes: int, counts: Tensor | None = None) -> None:
        """Start empty, or from ``counts`` ``[K, 4]`` int64 of another.

        Their columns: predicted border pixels, right ones of them, true ones, found ones of them.
        """
        self.num_classes = num_classes
        shape = (num_classes, 4)
        self.counts = torch.zeros(shape, dtype=torch.int64) if counts is None else counts
        if tuple(self.counts.shape) != shape:
            raise ValueError(f"counts of shape {tuple(self.counts.shape)}, not {shape}")

    def update(self, predicted: Tensor, truth: Tensor) -> None:
        """Add pictures: class ids ``[B, H, W]``. Predicted ids of no class have no border pixels.

        Raises:
            ValueError: when shapes differ, or a true id is neither a class nor ignored.
        """
        predicted, truth = _alike(predicted, truth)
        if ((truth != IGNORE) & ((truth < 0) | (truth >= self.num_classes))).any():
            raise ValueError(f"a true class id lies beyond the {self.num_classes} classes")
        counted = ~within(truth == IGNORE, TOLERANCE)
        lines = [
            torch.where(border(ids) & (ids >= 0) & (ids < self.num_classes), ids, NOTHING)
            for ids in (predicted, truth)
        ]
        columns = []
        for line, other in (lines, reversed(lines)):
            met = torch.zeros_like(counted)
            for seen in around(other, TOLERANCE):
                met |= seen == line
            for which in (counted, counted & met):
                ids = line[which & (line != NOTHING)].long()
                columns.append(ids.bincount(minlength=self.num_classes))
        self.counts += torch.stack(columns, 1).to(self.counts.device)

    def __add__(self, other: BoundaryScore) -> BoundaryScore:
        return BoundaryScore(self.num_classes, self.counts + other.counts)

    @property
    def f(self) -> Tensor:
        """``[K]`` float64, ``2 P R / (P + R)``; NaN for a class without a border pixel anywhere."""
        predicted, right, true, found = self.counts.double().T
        # 2 / (1 / P + 1 / R) without dividing by 0 where there are none of one side
        both = right * true + found * predicted
        f = 2 * right * found / both.clamp_min(1)
        return torch.where(predicted + true > 0, f, torch.nan)

    @property
    def mean_f(self) -> float:
        """Mean over the classes with border pixels in truth or prediction; NaN when none has."""
        return float(self.f.nanmean())


def foreign_ring(predicted: Tensor, truth: Tensor) -> Tensor:
    """Pixels beside true borders whose predicted class is none of those that meet there.

    What an interpolated colour looks like: between the anchors of two classes a third one's may be.

    Args:
        predicted: class ids ``[B, H, W]``.
        truth: class ids ``[B, H, W]``; ignored pixels do not count, and are of no class.

    Returns:
        ``[2]`` int64. The second: pixels beside a border, which are those from which a true pixel
        of another class is within :data:`RING` pixels. The first: those of them whose predicted
        class no true pixel within as many has.

    Raises:
        ValueError: when shapes differ.
    """
    predicted, truth = _alike(predicted, truth)
    near, familiar = torch.zeros((2, *truth.shape), dtype=torch.bool, device=truth.device)
    for seen in around(truth, RING):
        near |= (seen != truth) & (seen != IGNORE) & (seen != NOTHING)
        familiar |= seen == predicted
    near &= truth != IGNORE
    return torch.stack([(near & ~familiar).sum(), near.sum()]).cpu()


def _alike(predicted: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Both in 16 bits, which shift quickly, and ignored where the truth is."""
    if predicted.shape != truth.shape:
        raise ValueError(f"shapes differ: {tuple(predicted.shape)} and {tuple(truth.shape)}")
    predicted, truth = predicted.short(), truth.short()
    predicted = torch.where(predicted == IGNORE, NO_CLASS, predicted)
    return torch.where(truth == IGNORE, truth, predicted), truth
