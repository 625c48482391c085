"""The evaluation report as one HTML page, with its pictures inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipelines.corpora.pixels import png
from pipelines.evaluation.imagemetrics import DESCRIPTIONS
from pipelines.pages import pictures
from pipelines.pages.page import embedded, template
from semflow import Palette

COLUMNS = ["image", "mask", "segmented", "margin", "synthesized", "segmented again", "round trip"]


def headline(result: dict[str, Any]) -> dict[str, float]:
    """The figures that stand for the rest."""
    segmentation, synthesis = result["segmentation"], result["synthesis"]
    return {
        "miou": segmentation["miou"],
        "accuracy": segmentation["accuracy"],
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
    again, ceiling = result["synthesis"]["agreement"]["iou"], result["codec_ceiling"]["iou"]
    classes = [
        {"name": name, "colour": "#" + bytes(colour).hex(), "iou": iou, "again": again[name],
         "ceiling": ceiling[name]}
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
