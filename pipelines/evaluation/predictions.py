"""Predicted masks in a folder, and which photo of a corpus each is of."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from infra import storage
from pipelines.labelling.config import SUMMARY
from semflow.masks.given import MasksAre

Row = dict[str, Any]


def find(labels: str, classes: Sequence[str], masks_are: MasksAre = "classes") -> dict[str, str]:
    """URIs of the predictions in a folder, or in label.py's output, by their path without ``.png``.

    Raises:
        ValueError: when there is none, or label.py wrote them for other classes, or they are said
            not to have class numbers, which label.py writes.
    """
    folder, summary = labels, storage.join(labels, SUMMARY)
    if storage.exists(summary):
        names = storage.read_json(summary)["palette"]["names"]
        if list(names) != list(classes):
            raise ValueError(f"{labels} has the classes {names}, the corpus {list(classes)}")
        if masks_are != "classes":
            raise ValueError(f"label.py wrote {labels}, whose masks are class numbers: "
                             "--masks-are classes")  # fmt: skip
        folder = storage.join(folder, "masks")
    found = storage.list_files(folder, [".png"])
    if not found:
        raise ValueError(f"no predictions in {folder} (index PNGs)")
    return {os.path.splitext(path)[0]: storage.join(folder, path) for path in found}


def match(pairs: Sequence[Row], files: Mapping[str, str]) -> tuple[list[Row], list[str]]:
    """Pairs with their ``predicted`` file, and the ids of those that have none.

    A prediction has the path of the photo, of the mask, or the pair's id, from any folder on
    downwards: ``a/b.png`` is that of ``.../val/a/b.jpg``. The longest such path wins.

    Raises:
        ValueError: when one prediction is that of two pairs.
    """
    matched: list[Row] = []
    missing: list[str] = []
    owner: dict[str, str] = {}
    for pair in pairs:
        name = next((name for name in _names(pair) if name in files), None)
        if name is None:
            missing.append(pair["id"])
            continue
        if name in owner:
            raise ValueError(
                f"{files[name]} would be the prediction of two photos, {owner[name]} and "
                f"{pair['id']}: keep the photos' folders in the names of predictions"
            )
        owner[name] = pair["id"]
        matched.append(pair | {"predicted": files[name]})
    return matched, missing


def _names(pair: Row) -> Iterator[str]:
    for where, part in (("image", "image_part"), ("mask", "mask_part")):
        if not pair[part]:
            yield from _tails(pair[where])
    yield from _tails(pair["id"])


def _tails(path: str) -> Iterator[str]:
    """``a/b``, ``a/b.jpg``, ``b``, ``b.jpg`` of ``a/b.jpg``: label.py keeps a suffix in need."""
    folders = path.split("/")
    for start in range(len(folders)):
        tail = "/".join(folders[start:])
        yield from (os.path.splitext(tail)[0], tail)
