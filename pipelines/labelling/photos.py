"""Photos as a labelling takes them: listed with names that stay, and decoded."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np
import pyarrow as pa

from infra import storage
from pipelines.corpora import parts, pixels
from pipelines.inference.products import check_name, unique_names
from pipelines.sharding.job import Row


class DecodePhoto:
    """``{name, source}`` to pixels at the model's size, or an error."""

    def __init__(self, width: int, height: int, max_pixels: int) -> None:
        self.width, self.height, self.max_pixels = width, height, max_pixels

    def __call__(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        try:
            check_name(row["name"])
            photo = pixels.read_photo(parts.read(row["source"]), self.max_pixels)
            size, error = (photo.shape[1], photo.shape[0]), ""
            photo = pixels.resize_photo(photo, self.width, self.height)
        except pixels.BadInput as bad:
            photo = np.zeros((self.height, self.width, 3), np.uint8)
            size, error = (0, 0), str(bad)
        return [row | {"pixels": photo, "width": size[0], "height": size[1], "error": error}]


def listing(images: str, files: dict[str, int], before: pa.Table | None) -> Iterator[Row]:
    """The photos that are there, as rows of the plan; those of ``before`` keep name and id."""
    kept: dict[str, tuple[str, int]] = {}
    if before is not None:
        columns = [before[key].to_pylist() for key in ("path", "name", "image_id")]
        kept = {path: (name, number) for path, name, number in zip(*columns, strict=True)}
    # Of all paths that ever were: a new photo takes no name of one that is gone.
    paths = list(kept | files)
    names = dict(zip(paths, unique_names(paths), strict=True))
    new = count(len(kept) + 1)
    for path, size in files.items():
        name, number = kept[path] if path in kept else (names[path], next(new))
        yield {"name": name, "path": path, "source": storage.join(images, path),
               "image_id": number, "bytes": size}  # fmt: skip
