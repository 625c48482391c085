"""What is counted of synthesized images: a shard's counts, which add up to those of all.

Counts are written beside the shards and added one after another, so that no process holds those of
all shards, and a sum does not depend on what was killed in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from infra import storage
from pipelines.sharding.plan import PROGRESS
from pipelines.synthesis.quality import agreement

BINS = 40
"""Of the histogram of agreement, over [0, 1]."""
AHEAD = 64
"""Tallies that are read side by side."""


@dataclass(kw_only=True)
class Tally:
    """Counts; lists have a number a class, or a bin."""

    rows: int
    kept: int
    attempts: int
    agreement: float
    """Sum over all rows."""
    kept_agreement: float
    """Sum over the kept ones."""
    histogram: list[int]
    """Rows by agreement."""
    pixels: list[int]
    """Of each class, in kept masks."""
    images: list[int]
    """That are kept and have the class."""
    rejected: list[int]
    """Images that have the class in their mask and are not kept."""
    shared: list[int]
    """Pixels of the class that are seen as it, in all images."""
    either: list[int]
    """Pixels that are of the class, are seen as it, or both."""
    distance: float
    """Sum of distances between neighbouring samples of a mask."""
    pairs: int
    """Of such neighbours."""
    splits: dict[str, int]
    """Kept images of each split."""
    variants: int
    """Kept images of edited masks."""

    @classmethod
    def empty(cls, classes: int) -> Tally:
        zeros = {name: [0] * classes for name in ("pixels", "images", "rejected", "shared",
                                                  "either")}  # fmt: skip
        return cls(rows=0, kept=0, attempts=0, agreement=0.0, kept_agreement=0.0,
                   histogram=[0] * BINS, distance=0.0, pairs=0, splits={}, variants=0,
                   **zeros)  # fmt: skip

    def __add__(self, other: Tally) -> Tally:
        mine, theirs = asdict(self), asdict(other)
        return Tally(**{name: _sum(value, theirs[name]) for name, value in mine.items()})


def _sum(one: Any, other: Any) -> Any:
    if isinstance(one, list):
        return [a + b for a, b in zip(one, other, strict=True)]
    if isinstance(one, dict):
        return {key: one.get(key, 0) + other.get(key, 0) for key in sorted({*one, *other})}
    return one + other


def count(rows: Sequence[dict[str, Any]], classes: int, *, checked: bool) -> Tally:
    """The counts of rows that follow one another in the plan.

    Args:
        rows: ``{ids, pixels, path, variant, edit, split, kept}``; when ``checked`` also ``seen``,
            ``agreement`` and ``attempts``.
        classes: how many there are.
        checked: whether the images were segmented again.
    """
    tally = Tally.empty(classes)
    before: dict[str, Any] | None = None
    for row in rows:
        tally.rows += 1
        present = np.bincount(row["ids"].ravel(), minlength=256)[:classes]
        if checked:
            _check(tally, row, classes)
        if not row["kept"]:
            tally.rejected = _sum(tally.rejected, (present > 0).astype(int).tolist())
            continue
        tally.kept += 1
        tally.variants += bool(row["edit"])
        tally.splits = _sum(tally.splits, {str(row["split"]): 1})
        tally.pixels = _sum(tally.pixels, present.tolist())
        tally.images = _sum(tally.images, (present > 0).astype(int).tolist())
        if before and all(before[key] == row[key] for key in ("path", "variant")):
            tally.distance += distance(before["pixels"], row["pixels"])
            tally.pairs += 1
        before = row
    return tally


def _check(tally: Tally, row: dict[str, Any], classes: int) -> None:
    score = float(row["agreement"])
    found = agreement(row["seen"], row["ids"], classes)
    tally.attempts += int(row["attempts"])
    tally.agreement += score
    tally.kept_agreement += score * bool(row["kept"])
    tally.histogram[min(int(score * BINS), BINS - 1)] += 1
    tally.shared = _sum(tally.shared, found.shared.tolist())
    tally.either = _sum(tally.either, found.either.tolist())


def distance(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    """RMS difference of two images, uint8, in units of pixels in [-1, 1]."""
    return float(np.sqrt(np.mean(np.square((one.astype(np.float64) - other) / 127.5))))


def uri(output: str, shard: str) -> str:
    """Where a shard's tally is."""
    return storage.join(output, path(shard))


def path(shard: str) -> str:
    """The same, below the output."""
    return f"{PROGRESS}/tally/{shard.rpartition('/')[2]}.json"


def total(output: str, shards: Iterable[str], classes: int) -> Tally:
    """The sum over shards, in their order; a few tallies are held at a time."""
    result = Tally.empty(classes)
    for tally in _read(output, list(shards)):
        result = result + tally
    return result


def _read(output: str, shards: Sequence[str]) -> Iterator[Tally]:
    with ThreadPoolExecutor(16) as pool:
        for start in range(0, len(shards), AHEAD):
            found = pool.map(
                lambda shard: storage.read_json(uri(output, shard)), shards[start : start + AHEAD]
            )
            yield from (Tally(**data) for data in found)
