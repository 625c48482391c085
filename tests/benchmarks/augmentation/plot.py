"""The runs as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.augmentation.study import FRESH, POOL


def draw(runs: list[dict[str, Any]], path: Path) -> None:
    """The picture of docs/measurements/augmentation.md; every dot is a run."""
    import matplotlib.pyplot as plt  # comes with MLflow

    figure, axes = plt.subplots(2, 2, figsize=(9, 7), layout="constrained")
    by_views = {str(v or "fresh"): (v, FRESH) for v in (1, 2, 8, 32, FRESH)}
    shades = plt.colormaps["viridis"](np.linspace(0, 0.9, len(by_views)))
    for (name, arm), shade in zip(by_views.items(), shades, strict=True):
        for run in chosen(runs, "lossless", *arm):
            steps, losses = zip(
                *((p["step"], p["val_perturbed"]) for p in run["curve"]), strict=True
            )
            again = run["arm"]["seed"]
            axes[0, 0].plot(steps, losses, "o--" if again else "o-", color=shade, markersize=3,
                            label=None if again else f"V={name}")  # fmt: skip
    axes[0, 0].set(title="Validation loss, by views V (K fresh)", xlabel="step")
    measures = {"own": "training, the arm's own draws", "fresh": "training images, fresh crops",
                "val_perturbed": "validation"}  # fmt: skip
    for measure, label in measures.items():
        dots(axes[0, 1], runs, "lossless", by_views, measure, label)
    axes[0, 1].set(title="Loss at the last step, by views V (K fresh)", xlabel="views V")
    swept = [k for k in (1, 2, 4, 8, FRESH) if any(run["arm"]["draws"] == k for run in runs)]
    for kind, v in (("lossless", 1), ("lossless", 8), ("lossy", 2)):
        by_draws = {str(k or "fresh"): (v, k) for k in swept}
        dots(axes[1, 0], runs, kind, by_draws, "unseen_over_own", f"{kind}, V={v}")
        dots(axes[1, 1], runs, kind, by_draws, "over_fresh", f"{kind}, V={v}")
    below = f"draws K (lossy, fresh: a pool of {POOL - 1})"
    axes[1, 0].set(title="Training loss: unseen perturbations over own", xlabel=below)
    axes[1, 1].set(title="Validation loss over that of fresh K", xlabel=below)
    for axis in axes.flat:
        axis.set(ylabel="velocity loss" if axis in axes[0] else "%")
        axis.grid(alpha=0.3)
        axis.margins(0.1)
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=100)


def chosen(runs: list[dict[str, Any]], kind: str, views: int, draws: int) -> list[dict[str, Any]]:
    """The runs of an arm, one a seed; the lossy pool counts as fresh."""
    draws = POOL if (kind, draws) == ("lossy", FRESH) else draws
    wanted = {"kind": kind, "views": views, "draws": draws}
    return [run for run in runs if run["arm"].items() >= wanted.items()]


def dots(axis: Any, runs: Any, kind: str, arms: dict[str, Any], measure: str, label: str) -> None:
    """A dot for each run at its last step, and a line through the means of the arms."""
    fresh = {
        run["arm"]["seed"]: run["curve"][-1]["val_perturbed"]
        for run in chosen(runs, kind, next(iter(arms.values()))[0], FRESH)
    }
    means: dict[int, Any] = {}
    (line,) = axis.plot([], [], label=label)
    for place, arm in enumerate(arms.values()):
        values = []
        for run in chosen(runs, kind, *arm):
            last, seed = run["curve"][-1], run["arm"]["seed"]
            if measure == "unseen_over_own":
                values.append(100 * (last["own_unseen"] / last["own"] - 1))
            elif measure == "over_fresh":  # of the same seed: same weights, images and times
                values += [100 * (last["val_perturbed"] / fresh[seed] - 1)] if seed in fresh else []
            else:
                values.append(last[measure])
        axis.plot([place] * len(values), values, "o", color=line.get_color(), markersize=4)
        if values:
            means[place] = np.mean(values)
            if measure in ("unseen_over_own", "over_fresh") and kind == "lossy":
                text = f"{means[place]:.1f} %"
                axis.annotate(text, (place, means[place]), (7, 5), textcoords="offset points")
    line.set_data(list(means), list(means.values()))
    axis.set_xticks(range(len(arms)), list(arms))
