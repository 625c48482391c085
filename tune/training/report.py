"""A training search as one HTML page: what was tried, how it went, and what is worth it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.lines import Line2D
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from pipelines.evaluation.scores import signed
from pipelines.pages.page import embedded, template
from pipelines.pages.plots import BLUE, GREY, RED, plt, png
from tune.training import space


def sentence(result: dict[str, Any]) -> str:
    """What came of it, in words."""
    best, preset, gap = result["best"], result["preset"], result["difference"]
    verdict = (
        "the search beats the preset"
        if gap["low"] > 0
        else "that is no safe gain over the preset"
        if gap["value"] > 0
        else "nothing that was tried beats the preset"
    )
    return (
        f"best: {result['flags']}: mIoU {best['miou']:.3f}, {signed(gap)} from the preset's "
        f"{preset['miou']:.3f} on the same {result['rows']} rows: {verdict}. One training each: "
        "another seed may differ by more"
    )


def render(result: dict[str, Any]) -> tuple[str, dict[str, bytes]]:
    """The page, and its pictures as PNG by name."""
    trials = sorted(result["trials"], key=lambda t: (-t["step"], -(t["miou"] or 0)))
    rows = [
        trial | {
            "flags": space.flags(trial["values"]),
            "best": trial["trial"] == result["best"]["trial"],
            "preset": trial["values"] == result["preset"]["values"],
            "whole": trial["step"] >= result["steps"],
        }
        for trial in trials
    ]  # fmt: skip
    pictures = {"trials": draw(rows, result["log"])}
    page = template("search_training.html", Path(__file__).parent).render(
        result=result, rows=rows, sentence=sentence(result),
        pictures=embedded(pictures),
    )  # fmt: skip
    return page, pictures


def draw(rows: list[dict[str, Any]], log: list[str]) -> bytes:
    """Scores by step, and the last score by each dimension, those of ``log`` by their scale."""
    keys = list(rows[0]["values"])
    figure, axes = plt.subplots(1, 1 + len(keys), figsize=(5 + 3.2 * len(keys), 3.8), squeeze=False)
    first, *others = axes[0]
    for row in reversed(rows):
        colour = BLUE if row["best"] else RED if row["preset"] else GREY
        if row["curve"]:
            steps, scores = zip(*row["curve"], strict=True)
            first.plot(steps, scores, color=colour, marker="o", markersize=3,
                       linewidth=2 if row["best"] else 1)  # fmt: skip
    first.set_xlabel("step")
    handles = [
        Line2D([], [], color=colour, marker="o", linestyle="", markersize=size, label=label)
        for colour, size, label in (
            (BLUE, 7, "best"), (RED, 4, "preset"), (GREY, 7, "trained to the end"),
            (GREY, 4, "ended early"),
        )
    ]  # fmt: skip
    first.legend(handles=handles, fontsize=8)
    first.set_ylabel("validation mIoU")
    for axis, key in zip(others, keys, strict=True):
        for row in rows:
            value = row["values"][key]
            if row["miou"] is not None:
                colour = BLUE if row["best"] else RED if row["preset"] else GREY
                number = isinstance(value, int | float) and not isinstance(value, bool)
                axis.scatter(value if number else str(value), row["miou"], color=colour,
                             s=12 + 40 * row["whole"], alpha=0.8)  # fmt: skip
        if key in log:
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
            axis.xaxis.set_major_formatter(FormatStrFormatter("%g"))
            axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_xlabel(key)
    return png(figure)
