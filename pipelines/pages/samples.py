"""What a validation shows."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Samples(NamedTuple):
    """A few rows to look at; pixels in [-1, 1] ``[B, 3, H, W]``, ids ``[B, H, W]``."""

    images: Tensor
    truth: Tensor
    predicted: Tensor
    margin: Tensor
    synthesized: Tensor
    forth: Tensor  # [B, len(TIMES), 3, H, W]: from the image towards the mask
    back: Tensor  # the same places, on the way from the mask to the image
