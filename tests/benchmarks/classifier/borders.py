"""Classes that are nowhere near, where the truth has a border.

What an average of two anchors leaves between two regions is often a third class's anchor, and
mIoU has the thin seam drown in the regions. To be replaced by the library's own function.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from semflow import IGNORE

REACH = 4
"""Pixels, along rows and columns."""


def foreign(predicted: Tensor, truth: Tensor, classes: int, reach: int = REACH) -> Tensor:
    """``[2]`` int64: pixels near a border of the truth whose class is none of those near, and all.

    Near are the pixels of a square with this one in its middle; a border is near where two classes
    are. Ignored pixels are no class, and are not counted themselves.

    Args:
        predicted: class ids ``[B, H, W]``.
        truth: the true ones.
        classes: K.
        reach: of the square, to each side.
    """
    counts = torch.zeros(2, dtype=torch.int64)
    for one, other in zip(predicted.cpu().long(), truth.cpu().long(), strict=True):
        there = F.one_hot(other.clamp(max=classes), classes + 1)[..., :classes].movedim(-1, 0)
        near = F.max_pool2d(there[None].float(), 2 * reach + 1, 1, reach)[0] > 0  # [K, H, W]
        border = (near.sum(0) > 1) & (other != IGNORE)
        known = near.gather(0, one[None])[0]
        counts += torch.stack([(border & ~known).sum(), border.sum()])
    return counts
