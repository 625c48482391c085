"""A reflow as one HTML page: how straight the flow was and is, and what few steps are worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import FormatStrFormatter
from numpy.typing import NDArray

from pipelines.evaluation.scores import signed
from pipelines.pages import pictures
from pipelines.pages.page import embedded, template
from pipelines.pages.plots import BLUE, GREY, plt, png

TITLES = {"segment": "Masks from photos", "synthesize": "Images from masks"}
Tiles = dict[Any, dict[int, NDArray[np.uint8]]]
"""By direction and steps: ``[N, H, W, 3]``."""


def headline(result: dict[str, Any]) -> dict[str, float]:
    """The figures that MLflow gets."""
    found = {
        f"{when}_{way}_straightness": value
        for way, both in result["straightness"].items()
        for when, value in both.items()
    }
    for way, by_steps in result["scores"].items():
        for steps, both in by_steps.items():
            for when in ("before", "after"):
                found[f"{when}_{way}_miou_{steps}"] = both[when]["miou"]
                if way == "synthesize":
                    found[f"{when}_{way}_frechet_{steps}"] = both[when]["frechet"]
    return found


def sentences(result: dict[str, Any]) -> list[str]:
    """What came of it, in words: for each direction, and at the fewest and the most steps."""
    found = []
    for way, by_steps in result["scores"].items():
        both = result["straightness"][way]
        text = f"{TITLES[way]}: straightness {both['before']:.3f} before, {both['after']:.3f} after"
        for steps in dict.fromkeys((min(by_steps, key=int), max(by_steps, key=int))):
            one = by_steps[steps]
            gaps = one["difference"]
            what = "mIoU" if way == "segment" else "agreement"
            text += (f"; {steps} step{'s' * (steps != '1')}: {what} {one['before']['miou']:.3f} to "
                     f"{one['after']['miou']:.3f}, {signed(gaps['miou'])}")  # fmt: skip
            if "frechet" in gaps:
                text += (f", Frechet distance {one['before']['frechet']:.3f} to "
                         f"{one['after']['frechet']:.3f}, {signed(gaps['frechet'])}")  # fmt: skip
        found.append(text)
    return found


def render(
    result: dict[str, Any], masks: NDArray[np.uint8], before: Tiles, after: Tiles
) -> tuple[str, dict[str, bytes]]:
    """The page, and its pictures as PNG by name.

    Args:
        result: what :func:`pipelines.reflow.reflow` found.
        masks: true masks of the shown rows ``[N, H, W, 3]``.
        before: what the model made of them.
        after: what the reflowed one did.
    """
    images = {"steps": draw_steps(result["scores"])}
    for way in TITLES:
        columns: list[tuple[str, NDArray[np.uint8]]] = [("mask", masks)]
        for name, tiles in (("before", before), ("after", after)):
            columns += [(f"{name}, {steps}", shown) for steps, shown in tiles[way].items()]
        rows = list(zip(*(shown for _, shown in columns), strict=True))
        images[way] = pictures.sheet(rows, [heading for heading, _ in columns])
    page = template("reflow.html", Path(__file__).parent).render(
        result=result, sentences=sentences(result), titles=TITLES, pictures=embedded(images)
    )
    return page, images


def draw_steps(scores: dict[str, Any]) -> bytes:
    """Quality by steps of Euler, before and after; bars are two standard errors."""
    panels = [("segment", "miou", "masks: mIoU"), ("synthesize", "miou", "images: agreement"),
              ("synthesize", "frechet", "images: Fréchet distance (pyramid)")]  # fmt: skip
    figure, axes = plt.subplots(1, len(panels), figsize=(13, 3.8))
    for axis, (way, key, label) in zip(axes, panels, strict=True):
        by_steps = scores[way]
        for when, colour in (("before", GREY), ("after", BLUE)):
            values = [one[when][key] for one in by_steps.values()]
            errors = [2 * one[when].get(f"{key}_se", 0.0) for one in by_steps.values()]
            axis.errorbar([int(steps) for steps in by_steps], values, yerr=errors, color=colour,
                          marker="o", markersize=5, capsize=2, label=when)  # fmt: skip
        axis.set_xscale("log", base=2)
        axis.set_xticks([int(steps) for steps in by_steps])
        axis.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        axis.set_xlabel("steps of Euler")
        axis.set_ylabel(label)
    axes[0].legend(fontsize=8)
    return png(figure)
