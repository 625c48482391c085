"""The evaluation report as one HTML page, with its pictures inside."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.corpora.pixels import png
from pipelines.evaluation.imagemetrics import DESCRIPTIONS
from pipelines.pages import pictures
from pipelines.pages.page import embedded, template
from pipelines.pages.plots import BLUE, GREY, RED, plt
from pipelines.pages.plots import png as plot_png
from semflow import Palette

COLUMNS = ["image", "mask", "segmented", "margin", "synthesized", "segmented again", "round trip"]


def headline(result: dict[str, Any]) -> dict[str, float]:
    """The figures that stand for the rest; NaN where there was nothing to score."""
    segmentation, synthesis = result["segmentation"], result["synthesis"]
    scores = {"ece": segmentation["calibration"]["ece"], "boundary_f": segmentation["boundary_f"]}
    return {
        "miou": segmentation["miou"],
        "accuracy": segmentation["accuracy"],
        **{name: math.nan if value is None else value for name, value in scores.items()},
        "agreement_miou": synthesis["agreement"]["miou"],
        "agreement_accuracy": synthesis["agreement"]["accuracy"],
        "round_trip_psnr_db": result["round_trip"]["psnr_db"],
        "segment_nfe": segmentation["nfe"],
        "segment_images_per_s": segmentation["images_per_s"],
        "synthesize_nfe": synthesis["nfe"],
        "synthesize_images_per_s": synthesis["images_per_s"],
        **result["image_metrics"]["values"],
    }


def render(
    result: dict[str, Any], shown: dict[str, Any], palette: Palette
) -> tuple[str, dict[str, bytes]]:
    """The page, and its pictures as PNG by name.

    Args:
        result: what :func:`pipelines.evaluate.evaluate` found.
        shown: ``tiles`` ``[N, 7, H, W, 3]`` and ``diversity`` ``[M, H, W, 3]``, uint8.
        palette: for the colours of the classes.
    """
    images = {"samples": pictures.sheet([list(row) for row in shown["tiles"]], COLUMNS)}
    if "diversity" in shown:
        tiles = list(shown["diversity"])
        headings = ["mask", *(f"seed {n + 1}" for n in range(len(tiles) - 1))]
        images["diversity"] = pictures.sheet([tiles], headings)
    images["confusion"] = confusion_picture(np.array(result["segmentation"]["confusion"]))
    images["reliability"] = reliability_picture(result["segmentation"]["calibration"])
    again, ceiling = result["synthesis"]["agreement"]["iou"], result["codec_ceiling"]["iou"]
    classes = [
        {"name": name, "colour": "#" + bytes(colour).hex(), "iou": iou, "again": again[name],
         "ceiling": ceiling[name], "border": result["segmentation"]["boundary_f_by_class"][name]}
        for (name, iou), colour in zip(
            result["segmentation"]["iou"].items(), palette.colours, strict=True
        )
    ]  # fmt: skip
    page = template("report.html", Path(__file__).parent).render(
        result=result,
        headline=headline(result),
        metrics=metric_rows(result["image_metrics"]),
        classes=classes,
        pictures=embedded(images),
    )
    return page, images


def metric_rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Image metrics as a table shows them: ``{name, about, value, note}``."""
    shown = {name: f"{value:.4g}" for name, value in found["values"].items()}
    shown |= dict.fromkeys(found["unavailable"], "unavailable")
    notes = found["notes"] | found["unavailable"]
    return [
        {"name": name, "about": DESCRIPTIONS.get(name, "Fréchet distance of other features"),
         "value": value, "note": notes.get(name, "")}
        for name, value in shown.items()
    ]  # fmt: skip


def confusion_picture(counts: np.ndarray[Any, Any]) -> bytes:
    """A confusion matrix as squares, each row's shares from white to blue."""
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    cell = max(4, min(28, 560 // len(share)))
    shade = np.stack([255 * (1 - share), 255 * (1 - 0.7 * share), 255 - 60 * share], -1)
    picture = np.kron(shade, np.ones((cell, cell, 1))).astype(np.uint8)
    return png(picture)


def reliability_picture(calibration: dict[str, Any]) -> bytes:
    """A reliability diagram (Guo et al. 2017, figure 1), and how many pixels are how confident.

    Args:
        calibration: ``ece``, and ``bins`` of ``{from, to, share, accuracy, confidence}``.
    """
    found = [one for one in calibration["bins"] if one["share"]]
    left, right, share, accuracy, confidence = (
        [one[key] for one in found] for key in ("from", "to", "share", "accuracy", "confidence")
    )
    width = 1 / len(calibration["bins"])
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(5.4, 6), sharex=True, height_ratios=(3.4, 1)
    )
    top.bar(left, accuracy, width, align="edge", color=BLUE, edgecolor="white",
            label="pixels that are right")  # fmt: skip
    top.hlines(confidence, left, right, color=RED, linewidth=2.5, label="their mean confidence")
    top.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
    top.set_ylabel("share of the pixels of a bar")
    top.legend(fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    bottom.bar(left, share, width, align="edge", color=GREY, edgecolor="white")
    bottom.set_ylabel("of all pixels")
    bottom.set_xlabel("confidence")
    top.set(xlim=(0, 1), ylim=(0, 1))
    return plot_png(figure)
