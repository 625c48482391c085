"""Whether the review list finds faults: wrong pixels in the photos of the lowest scores.

    python -m tests.benchmarks.review --labels out/labels --masks out/demo/corpus/masks/val

compares what ``pipelines/label.py`` wrote (PNG masks, at the photos' own size) with true masks of
the same names. For each score of the table: Spearman's rank correlation with the share of right
pixels, and the share of all wrong pixels that stand in the lowest 10, 20 and 50 % of the photos,
where chance has as much as there are photos and knowing the truth has the most.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import tyro
from PIL import Image
from scipy.stats import spearmanr


@dataclass(frozen=True)
class Args:
    labels: str
    """Output of a label job."""
    masks: str
    """Folder of true masks, ids as the model has them."""


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    rows = pq.read_table(Path(args.labels) / "table").to_pylist()
    wrong = []
    for row in rows:
        found = np.asarray(Image.open(Path(args.labels) / row["mask"]))
        truth = np.asarray(Image.open(Path(args.masks) / Path(row["image"]).with_suffix(".png")))
        wrong.append(np.mean((found != truth) & (truth != 255)))
    faults = np.array(wrong)
    scores = {
        "mean_margin": np.array([row["mean_margin"] for row in rows]),
        "1 - low_margin_share": 1 - np.array([row["low_margin_share"] for row in rows]),
        "the truth": 1 - faults,
    }
    print(f"{len(rows)} photos, {100 * faults.mean():.2f} % of their pixels wrong\n")
    print("| score | rank correlation | wrong pixels in the lowest 10 % | 20 % | 50 % |")
    print("|---|--:|--:|--:|--:|")
    for name, score in scores.items():
        order = np.argsort(score, kind="stable")
        shares = [faults[order[: round(part * len(order))]].sum() / faults.sum()
                  for part in (0.1, 0.2, 0.5)]  # fmt: skip
        cells = " | ".join(f"{100 * share:.0f} %" for share in shares)
        print(f"| {name} | {spearmanr(score, 1 - faults).statistic:.2f} | {cells} |")


if __name__ == "__main__":
    main()
