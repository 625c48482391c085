"""What a mask codec keeps: mIoU of validation masks that went through a code and back.

    python -m tests.benchmarks.ceilings --masks ../shared/data/ccp/masks --classes 59 \
        --height 144 --width 96 --channels 48 --factor 4

MASKS holds train/ and val/, index or grey PNGs whose values are class numbers; from ``--classes``
on they are ignored. Codes are fitted to the training masks, the linear one and the learned one as
``encode.py`` fits it. No photo and no flow has a part in it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image
from torch import Tensor

from pipelines.dataset.maskcodec import STEPS, WIDTH
from semflow import IGNORE, ConfusionMatrix, make_palette
from semflow.codecs.blocks import Blocks, Shape
from semflow.codecs.fit import fit

BATCH = 8


@dataclass(frozen=True, kw_only=True)
class Args:
    masks: Path
    """Folder with train/ and val/."""
    classes: int
    """How many."""
    height: int
    """Pixels, to which masks are resized by nearest neighbour."""
    width: int
    """Likewise."""
    channels: int = 48
    """Of the photo's latents."""
    factor: int = 4
    """Pixels a latent spans."""
    steps: int = STEPS
    """Of the learned one's training."""


def ids_in(folder: Path, args: Args) -> Tensor:
    """``[N, H, W]`` uint8."""
    size = args.width, args.height
    found = [
        np.asarray(Image.open(path).resize(size, Image.Resampling.NEAREST))
        for path in sorted(folder.iterdir())
    ]
    ids = torch.from_numpy(np.stack(found))
    return ids.where(ids < args.classes, IGNORE)


@torch.inference_mode()
def ceiling(codec: Blocks, ids: Tensor) -> ConfusionMatrix:
    """Of masks that only go there and back."""
    confusion = ConfusionMatrix(codec.shape.classes)
    for some in torch.split(ids, BATCH):
        confusion.update(codec.read(codec.encode(some)).ids, some)
    return confusion


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    train, val = (ids_in(args.masks / split, args) for split in ("train", "val"))
    palette = make_palette("sphere", args.classes)
    print("| code | numbers | fit, s | mIoU | accuracy |\n|---|--:|--:|--:|--:|")
    for name, width, steps in (("linear", 0, 0), ("learned", WIDTH, args.steps)):
        shape = Shape(classes=args.classes, channels=args.channels, factor=args.factor, width=width)
        before = time.perf_counter()
        codec = fit(train, replace(palette, style=shape.style), shape, steps=steps)
        seconds, found = time.perf_counter() - before, ceiling(codec, val)
        numbers = sum(p.numel() for p in codec.parameters())
        print(f"| {name} | {numbers:,} | {seconds:.0f} | {found.miou:.4f} | {found.accuracy:.4f} |",
              flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
