"""card.json and README.md: what a synthesized dataset holds and where it comes from.

They say nothing of when or where to it was written: the same work gives the same bytes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from infra import storage
from pipelines.pages.page import template
from pipelines.synthesis.tally import Tally
from semflow import Palette

CARD, README = "card.json", "README.md"
DEFINITION = (
    "mean, over the classes that a mask has, of the IoU between the mask and the image segmented "
    "again by the same model; ignored pixels left out"
)
DIVERSITY = "mean RMS difference of neighbouring samples of one mask, pixels in [-1, 1]"
SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"),
         (10**7, "1M<n<10M"), (10**8, "10M<n<100M"))  # fmt: skip
"""Hugging Face's size categories."""


def describe(
    tally: Tally, palette: Palette, *, checked: bool, min_agreement: float | None, **about: Any
) -> dict[str, Any]:
    """The card as JSON data.

    Args:
        tally: counts of all shards.
        palette: names and colours of the classes.
        checked: whether images were segmented again.
        min_agreement: the threshold, if there is one.
        about: what else the card says: size, formats, provenance.
    """
    return {
        "images": tally.kept,
        "rejected": tally.rows - tally.kept,
        "of_edited_masks": tally.variants,
        "splits": tally.splits,
        "classes": [_of_class(tally, palette, number) for number in range(len(palette))],
        "agreement": {
            "definition": DEFINITION,
            "min_agreement": min_agreement,
            "mean": _mean(tally.agreement, tally.rows),
            "mean_kept": _mean(tally.kept_agreement, tally.kept),
            "mean_attempts": _mean(tally.attempts, tally.rows),
            "histogram": tally.histogram,
        }
        if checked
        else None,
        "diversity": {
            "definition": DIVERSITY,
            "mean_distance": tally.distance / tally.pairs,
            "pairs": tally.pairs,
        }
        if tally.pairs
        else None,
        **about,
    }


def _mean(total: float, count: int) -> float | None:
    return total / count if count else None


def _of_class(tally: Tally, palette: Palette, number: int) -> dict[str, Any]:
    asked = tally.images[number] + tally.rejected[number]
    return {
        "id": number,
        "name": palette.names[number],
        "colour": "#" + bytes(palette.colours[number]).hex(),
        "pixels": tally.pixels[number],
        "images": tally.images[number],
        "rejected": tally.rejected[number],
        "iou": _mean(tally.shared[number], tally.either[number]) if asked else None,
    }


def write(output: str, card: dict[str, Any]) -> None:
    """Write card.json, and README.md with Hugging Face's front matter."""
    storage.write_json(storage.join(output, CARD), card)
    size = next((name for most, name in SIZES if card["images"] < most), "n>100M")
    text = template("card.md", Path(__file__).parent).render(
        card=card,
        size=size,
        files=[_files(card, split) for split in card["splits"]],
        provenance=json.dumps(card["provenance"], indent=2),
        cell=lambda name: str(name).replace("|", "\\|"),
    )
    storage.write_bytes(storage.join(output, README), text.encode())


def _files(card: dict[str, Any], split: str) -> dict[str, Any]:
    """What Hugging Face reads of a split; it has no reader for the two folders."""
    for name, pattern in (("parquet", "data/{}-*.parquet"), ("webdataset", "webdataset/{}-*.tar")):
        if name in card["formats"]:
            return {"split": split, "path": pattern.format(split)}
    return {"split": split, "path": ""}
