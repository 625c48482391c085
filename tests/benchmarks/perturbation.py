"""Images of a mask under several seeds, by models that were trained with other perturbations.

    python -m tests.benchmarks.perturbation --models out/white/model out/smooth/model \
        --masks out/demo/corpus/masks/val --picture docs/measurements/pictures/perturbation.png

A row of the picture is a mask and its images; a mask has a row for each model. Prints the root mean
square difference of two images of a mask (pixels in [-1, 1]) and the mIoU of all images, segmented
again, with their masks.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
import tyro

from pipelines.corpora import pixels
from pipelines.inference.masks import mask_reader
from pipelines.pages import pictures
from semflow import ConfusionMatrix, SemFlow, Solver
from semflow.masks.given import MasksAre


@dataclass(frozen=True)
class Args:
    models: tuple[str, ...]
    masks: Path
    picture: Path
    count: int = 20
    """Masks to measure with."""
    shown: int = 3
    """Of which these are drawn."""
    samples: int = 6
    """Images a mask."""
    steps: int | None = None
    """Steps of Euler, instead of each model's own solver."""


@torch.inference_mode()
def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    rows: list[list[list[np.ndarray]]] = [[] for _ in range(args.shown)]
    for folder in args.models:
        model = SemFlow.load(folder)
        defaults, classes = model.defaults, len(model.palette)
        solver = Solver(steps=args.steps) if args.steps else defaults.synthesize
        masks_are: MasksAre | None = "corpus" if defaults.class_map else None
        labels = mask_reader(model.palette, defaults, masks_are)
        confusion, apart = ConfusionMatrix(classes), []
        for number, path in enumerate(sorted(args.masks.rglob("*.png"))[: args.count]):
            mask = labels.read(path.read_bytes())
            ids = torch.from_numpy(pixels.resize_ids(mask, defaults.width, defaults.height))[None]
            many = ids.expand(args.samples, -1, -1)
            images = model.synthesize(many, list(range(args.samples)), solver=solver).images
            confusion.update(model.segment(images).ids, many)
            apart += [(a - b).square().mean().sqrt().item() for a, b in combinations(images, 2)]
            if number < args.shown:
                made = [pictures.to_uint8(image) for image in images]
                rows[number].append([pictures.colours(ids[0], model.palette), *made])
        print(f"{folder}: {defaults.perturbation}, {solver.name} {solver.steps}: diversity "
              f"{np.mean(apart):.3f}, agreement {confusion.miou:.3f}")  # fmt: skip
    headings = ["mask", *(f"seed {seed}" for seed in range(args.samples))]
    drawn = [row for of_mask in rows for row in of_mask]
    args.picture.write_bytes(pictures.sheet(drawn, headings))


if __name__ == "__main__":
    main()
