"""What quality control sees: images with their own masks, and with the masks of other images.

    python -m tests.benchmarks.quality --model out/demo/run/model \
        --masks out/demo/corpus/masks/val --picture docs/reference/pictures/quality.png

One image a mask; each is segmented again as synthesize.py does, and what was seen is compared with
its own mask and with those of the next ``--shifts`` masks. Prints quantiles of the agreement, the
share rejected at thresholds, and how well the two are told apart: the chance that a true pair
agrees more than a shuffled one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import torch
import tyro

from infra import storage
from pipelines import corpora
from pipelines.inference.masks import mask_reader
from pipelines.inference.predictors import ModelOptions
from pipelines.inference.products import unique_names
from pipelines.pages import pictures
from pipelines.synthesis.drafts import DecodeMask, sample_seed
from pipelines.synthesis.edits import Recipe
from pipelines.synthesis.quality import CheckedSynthesizer, Quality, agreement
from semflow import Palette

SHARES = (0, 5, 25, 50, 75, 95, 100)
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


@dataclass(frozen=True)
class Args:
    model: str
    masks: str
    shifts: int = 5
    batch_size: int = 16
    threshold: float = 0.6
    """Of the picture."""
    picture: str | None = None
    """Where to draw it."""


def decoded(actor: CheckedSynthesizer, args: Args) -> dict[str, np.ndarray]:
    """The masks as synthesize.py reads them: ids [N, H, W] and seeds [N]."""
    defaults, palette = actor.model.defaults, actor.model.palette
    size = (defaults.width, defaults.height)
    reader = mask_reader(palette, defaults, "corpus" if defaults.class_map else None)
    decode = DecodeMask(args.masks, size, reader, Recipe())
    paths = storage.list_files(args.masks, corpora.MASKS)
    rows = [
        decode({"source": storage.join(args.masks, path), "variant": 0})[0]
        | {"seed": sample_seed(0, name, 0)}
        for name, path in zip(unique_names(paths), paths, strict=True)
    ]
    return {key: np.stack([row[key] for row in rows]) for key in ("ids", "seed", "error")}


def draw(found: dict[str, np.ndarray], shuffled: np.ndarray, palette: Palette, args: Args) -> None:
    """Histograms, and rejected examples beside kept ones."""
    true = found["agreement"]
    figure = plt.figure(figsize=(10.5, 3.9), dpi=110, layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.25))
    axes = left.subplots()
    bins = np.linspace(0, 1, 41)
    for values, label, colour in ((shuffled, "masks of other images", "#c44e52"),
                                  (true, "their own masks", "#2f8f5b")):  # fmt: skip
        weights = np.full(len(values), 100 / len(values))
        axes.hist(values, bins, weights=weights, label=label, color=colour, alpha=0.75)
    axes.axvline(args.threshold, color="black", lw=1, ls="--")
    axes.set(xlabel="agreement of images with", ylabel="% of the pairs", xlim=(0, 1))
    axes.legend(frameon=False, loc="upper center")
    axes.spines[["top", "right"]].set_visible(False)
    order = np.argsort(true, kind="stable")
    rejected = [int(i) for i in order if true[i] < args.threshold][:4]
    kept = [int(i) for i in order if true[i] >= args.threshold]
    kept = kept[:: max(1, len(kept) // 4)][:4]
    grid = right.subplots(4, 6)
    for column, rows in ((0, rejected), (3, kept)):
        for line, row in zip(grid, rows, strict=False):
            tiles = [found["pixels"][row]] + [
                pictures.colours(torch.from_numpy(found[key][row]), palette)
                for key in ("ids", "seen")
            ]
            for cell, tile in zip(line[column : column + 3], tiles, strict=True):
                cell.imshow(tile, interpolation="nearest")
            line[column].set_ylabel(f"{true[row]:.2f}", fontsize=9)
    heads = ["rejected", "mask", "seen", "kept", "mask", "seen"]
    for cell, head in zip(grid[0], heads, strict=True):
        cell.set_title(head, fontsize=9)
    for cell in grid.ravel():
        cell.set(xticks=[], yticks=[])
        cell.spines[:].set_visible(False)
    figure.savefig(args.picture)


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    quality, options = Quality(min_agreement=0), ModelOptions()
    actor = CheckedSynthesizer(args.model, options, None, None, None, quality)  # the model's own
    batch = decoded(actor, args)
    started = time.perf_counter()
    parts = [
        actor({key: values[start : start + args.batch_size] for key, values in batch.items()})
        for start in range(0, len(batch["ids"]), args.batch_size)
    ]
    seconds = time.perf_counter() - started
    found = {key: np.concatenate([part[key] for part in parts])
             for key in ("pixels", "ids", "seen", "agreement")}  # fmt: skip
    classes = len(actor.model.palette)
    shuffled = np.array([
        agreement(seen, other, classes).agreement
        for shift in range(1, args.shifts + 1)
        for seen, other in zip(found["seen"], np.roll(found["ids"], shift, 0), strict=True)
    ])  # fmt: skip
    print(f"{len(batch['ids'])} masks, {len(shuffled)} shuffled pairs; made and checked at "
          f"{len(batch['ids']) / seconds:.1f} images/s")  # fmt: skip
    pairs = {"true": found["agreement"], "shuffled": shuffled}
    print("agreement   mean  " + "  ".join(f"{share:3d} %" for share in SHARES))
    for name, values in pairs.items():
        quantiles = "  ".join(f"{v:.3f}" for v in np.percentile(values, SHARES))
        print(f"{name:9} {values.mean():.3f}  {quantiles}")
    print("rejected at " + "  ".join(f"{least:6.1f}" for least in THRESHOLDS))
    for name, values in pairs.items():
        print(f"{name:12}" + "  ".join(f"{np.mean(values < least):6.1%}" for least in THRESHOLDS))
    apart = np.mean(found["agreement"][:, None] > shuffled[None])
    print(f"a true pair agrees more than a shuffled one in {apart:.1%}")
    if args.picture:
        draw(found, shuffled, actor.model.palette, args)


if __name__ == "__main__":
    main()
