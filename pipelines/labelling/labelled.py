"""What becomes of a labelled photo: its files in every form, its row of the table, the review."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from infra import storage, tracking
from pipelines.corpora import pixels
from pipelines.inference.products import rows_of, shard_number, write_shard
from pipelines.labelling import review
from pipelines.labelling.forms import FORMS, FormName, Labelled, Png
from pipelines.sharding.job import Row
from pipelines.sharding.threads import THREADS, side_by_side
from semflow import Palette

SCHEMA = pa.schema(
    {
        "image": pa.string(),
        "image_id": pa.int64(),
        "mask": pa.string(),
        "width": pa.int64(),
        "height": pa.int64(),
        "class_share": pa.list_(pa.float64()),
        "mean_margin": pa.float64(),
        "low_margin_share": pa.float64(),
    }
)
"""Of the table."""


class WriteLabels:
    """A shard of ids to its files in every form, small pictures for the review, and the table."""

    def __init__(
        self, output: str, palette: Palette, fingerprint: str, *, images: str,
        forms: Sequence[FormName] = ("png",), confidence: bool = False, own_size: bool = True,
        review: int = 50, threads: int = THREADS,
    ) -> None:  # fmt: skip
        """What to write, and where.

        Args:
            output: of the job.
            palette: the classes.
            fingerprint: of the job, for the table's files.
            images: folder of the photos.
            forms: of the masks.
            confidence: whether to write the margin of each pixel.
            own_size: whether masks have the photo's size, not the model's.
            review: photos of the list of the lowest; 0 for no list.
            threads: photos that are written at once in a process.
        """
        self.output, self.palette, self.fingerprint = output, palette, fingerprint
        self.forms = [FORMS[name](palette) for name in forms]
        self.images, self.confidence, self.own_size = images, confidence, own_size
        self.review, self.threads = review, threads

    def __call__(self, shard: str, columns: dict[str, Any]) -> dict[str, Any]:
        rows = rows_of(columns)
        written = side_by_side(self.write_photo, rows, self.threads)
        table, entries = zip(*written, strict=True)
        files: dict[str, bytes] = {}
        number = shard_number(shard)
        for form, of_form in zip(self.forms, zip(*entries, strict=True), strict=True):
            files |= form.shard(number, of_form)
        if self.review:
            worst = {row["image_id"] for row in review.lowest(self.review, table)}
            shown = [opened(row) for row in rows if row["image_id"] in worst]
            files[review.small_path(number)] = review.small_pictures(shown)
        metadata = json.dumps({"fingerprint": self.fingerprint, "classes": self.palette.names})
        made = pa.Table.from_pylist(list(table), SCHEMA)
        makers = {path: partial(bytes, data) for path, data in files.items()}
        return write_shard(self.output, shard, made, makers, metadata, self.threads)

    def write_photo(self, row: Row) -> tuple[Row, list[Any]]:
        """Write a photo's own files; its row of the table, and what each form has to say of it."""
        row = opened(row)
        ids, confidence = row["ids"], row["confidence"]
        count = np.bincount(ids.ravel(), minlength=len(self.palette))
        if self.own_size:
            ids = pixels.resize_ids(ids, int(row["width"]), int(row["height"]))
        photo = Labelled(
            row["name"], row["path"], int(row["image_id"]), ids, row["ids"], confidence
        )
        files: dict[str, bytes] = {}
        for form in self.forms:
            files |= form.files(photo)
        mask = Png.path(photo.name)
        told = {
            "image": photo.path,
            "image_id": photo.image_id,
            "mask": mask if mask in files else None,
            "width": int(row["width"]),
            "height": int(row["height"]),
            "class_share": (count / count.sum()).tolist(),
            "mean_margin": float(row["margin"]),
            "low_margin_share": review.low_share(confidence),
        }
        if self.confidence:
            files[f"confidence/{photo.name}.png"] = pixels.png(confidence)
        for path, data in files.items():
            storage.write_bytes(storage.join(self.output, path), data)
        return told, [form.entry(photo) for form in self.forms]

    def finish(self, shards: Sequence[Row], run: tracking.Run) -> Row:
        """What there is one of for all shards: merged files and the review."""
        made: list[str] = []
        numbers = [shard_number(shard["path"]) for shard in shards]
        for form in self.forms:
            made += form.merge(self.output, numbers)
        if self.review and shards:
            page = review.publish(self.output, shards, self.review, self.images, self.palette)
            run.file(review.PAGE, page)
            made += [review.LIST, review.PAGE]
        return {"files": made}


def opened(row: Row) -> Row:
    """A row whose ids and confidence are pixels; they come as PNG where sizes differ."""
    found = {key: row[key] for key in ("ids", "confidence") if isinstance(row[key], bytes)}
    return row | {key: pixels.read_png(data) for key, data in found.items()}
