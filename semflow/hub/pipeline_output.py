"""What :class:`semflow.SemFlowPipeline` returns, as diffusers' pipelines do it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from diffusers.utils.outputs import BaseOutput


@dataclass
class SemFlowSegmentationOutput(BaseOutput):
    """What photos show: lists, since photos differ in size."""

    masks: list[Any]
    """Class ids at each photo's own size: index images, NumPy uint8 or torch int64 ``[H, W]``."""
    margins: list[Any]
    """How clear each pixel is, in [0, 1], see :meth:`semflow.Palette.decode`: float32 ``[H, W]``,
    NumPy, or torch with output_type "pt"."""
    nfe: int
    """Evaluations of the UNet, on a batch each."""


@dataclass
class SemFlowSynthesisOutput(BaseOutput):
    """What masks could have been taken of."""

    images: Any
    """Of the model's size, first all of the first mask: PIL images, NumPy ``[N, H, W, 3]`` or torch
    ``[N, 3, H, W]`` in [0, 1]."""
    seeds: list[int]
    """Of the perturbation of each image; ``synthesize(mask, seeds=[seed])`` makes it again."""
    nfe: int
    """Evaluations of the UNet, on a batch each."""
