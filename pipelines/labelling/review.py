"""The photos whose labels a person should look at first: a list, and a page to send.

A photo's score is the share of its pixels whose margin is not low: that orders photos much more as
their faults do than the mean margin does (docs/reference/labelling.md). Each shard keeps small
pictures of its lowest photos, so those of the lowest of all are there, whichever they turn out to
be: the end of a job reads the table shard by shard, keeps the lowest so far, and looks up their
pictures.
"""

from __future__ import annotations

import base64
import csv
import heapq
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from infra import storage
from pipelines.corpora import parts, pixels
from pipelines.dataset.latents import parquet_bytes
from pipelines.inference.products import shard_number
from pipelines.pages import pictures
from pipelines.pages.page import template
from pipelines.sharding.job import Row
from pipelines.sharding.plan import PROGRESS
from pipelines.sharding.threads import side_by_side
from semflow import Palette

LIST, PAGE = "review.csv", "review.html"
SMALL = f"{PROGRESS}/review"
"""Folder of the shards' small pictures."""
SIDE = 320
"""Longest side of a small picture."""
SHARP = 160
"""Up to this side pictures are shown with their pixels as squares."""
LOW = 0.1
"""A pixel of a margin below this is one that could as well be of another class."""
BINS, BARS = 1000, 25
"""Of the shares while they are counted, and at most on the page."""
COLUMNS = ["image", "image_id", "mean_margin", "low_margin_share", "width", "height", "class_share"]


def low_share(confidence: pixels.Pixels) -> float:
    """Share of the pixels whose margin is below :data:`LOW`."""
    return np.count_nonzero(confidence < math.ceil(255 * LOW)) / confidence.size


def _order(row: Row) -> tuple[float, float, int]:
    return -row["low_margin_share"], row["mean_margin"], row["image_id"]


def lowest(count: int, rows: Iterator[Row] | Sequence[Row]) -> list[Row]:
    """The ``count`` rows of the table of the lowest score, lowest first.

    Of rows alike, those of the lower mean margin, then the earlier ones.
    """
    return heapq.nsmallest(count, rows, key=_order)


def small_path(number: str) -> str:
    """Where a shard's small pictures are, below the output."""
    return f"{SMALL}/{number}.parquet"


def small(width: int, height: int) -> tuple[int, int]:
    """Size of a small picture of a photo."""
    scale = min(1, SIDE / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def small_pictures(rows: Sequence[Row]) -> bytes:
    """A Parquet file of ``ids`` and ``confidence [H, W]`` of rows, made small: PNG and JPEG."""
    made = []
    for row in rows:
        size = small(int(row["width"]), int(row["height"]))
        ids = pixels.resize_ids(row["ids"], *size)
        margin = Image.fromarray(row["confidence"]).resize(size, Image.Resampling.BOX)
        data = pixels.png(ids), encoded(np.asarray(margin))
        made.append({"image_id": int(row["image_id"]), "ids": data[0], "margin": data[1]})
    table = pa.Table.from_pylist(made)
    return parquet_bytes(table, table.num_rows)[0]


def encoded(picture: pixels.Pixels) -> bytes:
    """PNG where pixels are shown as squares, else JPEG, or pages get too large to send."""
    if max(picture.shape[:2]) <= SHARP:
        return pixels.png(picture)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


@dataclass
class Overview:
    """What one pass over the table finds."""

    photos: int = 0
    margin: float = 0.0
    """Sum over the photos, as the next."""
    low: float = 0.0
    counts: np.ndarray[Any, Any] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    """Photos by their share of pixels of low margin, in equal bins from 0 to 1."""
    worst: list[Row] = field(default_factory=list)
    """Rows of the table, with the ``number`` of their shard, lowest score first."""

    def add(self, rows: list[Row], keep: int) -> None:
        shares = np.array([row["low_margin_share"] for row in rows])
        self.photos += len(rows)
        self.margin += sum(row["mean_margin"] for row in rows)
        self.low += float(shares.sum())
        self.counts += np.histogram(shares, BINS, (0, 1))[0]
        self.worst = lowest(keep, [*self.worst, *rows])

    def bars(self) -> tuple[list[int], float, int]:
        """Photos a bar, the share at which the last bar ends, and the first bar of the worst."""
        width = -(-(int(np.flatnonzero(self.counts)[-1]) + 1) // BARS)
        bars = self.counts[: width * BARS]
        bars = np.pad(bars, (0, width * BARS - len(bars))).reshape(BARS, width).sum(1)
        first = int(self.worst[-1]["low_margin_share"] * BINS / width)
        return bars.tolist(), width * BARS / BINS, min(first, BARS - 1)


def survey(output: str, shards: Sequence[Row], keep: int) -> Overview:
    """Read the table, a shard after the other, with the ``keep`` lowest rows in memory."""

    def read(shard: Row) -> list[Row]:
        with storage.open_columnar(storage.join(output, shard["path"])) as file:
            rows = pq.ParquetFile(file).read(COLUMNS).to_pylist()
        number = shard_number(shard["path"])
        return [row | {"number": number} for row in lowest(len(rows), rows)]

    found = Overview()
    for rows in side_by_side(read, shards):
        found.add(rows, keep)
    return found


def listing(worst: Sequence[Row]) -> bytes:
    """The list as CSV."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["rank", "path", "score", "mean_margin"])
    for rank, row in enumerate(worst, start=1):
        score, margin = 1 - row["low_margin_share"], row["mean_margin"]
        lines.writerow([rank, row["image"], f"{score:.6f}", f"{margin:.6f}"])
    return text.getvalue().encode()


def publish(output: str, shards: Sequence[Row], count: int, images: str, palette: Palette) -> bytes:
    """Write the list and the page of the ``count`` lowest photos; returns the page.

    Args:
        output: of the job.
        shards: the table's files, ``{path}``.
        count: how many at most.
        images: folder of the photos, which are read for the page.
        palette: the classes.
    """
    found = survey(output, shards, count)

    def show(row: Row) -> Row:
        return row | {"shown": _pictures(output, row, images, palette)}

    page = template(PAGE, Path(__file__).parent).render(
        found=found, bars=found.bars(), images=images, palette=palette, SHARP=SHARP, LOW=LOW,
        shown=list(side_by_side(show, found.worst)),
    ).encode()  # fmt: skip
    storage.write_bytes(storage.join(output, LIST), listing(found.worst))
    storage.write_bytes(storage.join(output, PAGE), page)
    _prune(output, {row["number"] for row in found.worst})
    return page


def _prune(output: str, shown: set[str]) -> None:
    """Remove the small pictures of shards that have none of the lowest: more photos change none."""
    folder = storage.join(output, SMALL)
    names = storage.list_files(folder)
    storage.remove_files(
        [storage.join(folder, name) for name in names if shard_number(name) not in shown]
    )


def _pictures(output: str, row: Row, images: str, palette: Palette) -> dict[str, str]:
    """Photo, labels over it, and margin, as a page holds them; without photo if it is gone."""
    with storage.open_columnar(storage.join(output, small_path(row["number"]))) as file:
        table = pq.ParquetFile(file).read()
    (kept,) = (r for r in table.to_pylist() if r["image_id"] == row["image_id"])
    ids = torch.from_numpy(pixels.read_png(kept["ids"]).copy())
    painted = pictures.colours(ids, palette)
    made = {"labels": encoded(painted), "margin": kept["margin"]}
    try:
        photo = pixels.read_photo(parts.read(storage.join(images, row["image"])))
        photo = pixels.resize_photo(photo, *small(row["width"], row["height"]))
        grey = np.asarray(Image.fromarray(photo).convert("L"))[..., None]  # leaves colours readable
        over = (0.6 * painted + 0.4 * grey).astype(np.uint8)
        made = {"photo": encoded(photo), "labels": encoded(over), "margin": kept["margin"]}
    except pixels.BadInput:
        pass
    return {name: _data_uri(data) for name, data in made.items()}


def _data_uri(data: bytes) -> str:
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
