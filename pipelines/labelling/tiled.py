"""Labelling in tiles: photos of unlike sizes go through the job as files, masks as PNG bytes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
import tyro

from pipelines.corpora import parts, pixels
from pipelines.inference.predictors import ModelOptions, Predictor
from pipelines.inference.products import check_name
from pipelines.sharding.threads import ahead
from semflow import Solver, segment_tiled
from semflow.tiles import OVERLAP

PHOTOS_A_BLOCK = 4
"""Photos that an actor takes together. Each is computed alone: this decides nothing but how well
the reading of one hides behind the model's work on another, and how evenly actors end."""


@dataclass(frozen=True, kw_only=True)
class TileOptions:
    """Photos in tiles of the model's size, instead of resized to it."""

    on: Annotated[bool, tyro.conf.arg(name="tiles", prefix_name=False)] = False
    """Segment photos whole, by overlapping tiles that are blended while the flow runs."""
    overlap: float = OVERLAP
    """Share of a tile's side that neighbours have in common at least: 0 to below 1."""
    scale: float = 1.0
    """Photo pixels a model pixel: at 1 a tile has the photo's own pixels, at 2 the photo is first
    made half as wide and high. Right is what shows things as large as in training."""

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < 1:
            raise ValueError(f"--tiles.overlap lies in [0, 1), not at {self.overlap}")
        if self.scale <= 0:
            raise ValueError(f"--tiles.scale is positive, not {self.scale}")
        if not self.on and (self.overlap, self.scale) != (OVERLAP, 1):
            raise ValueError("--tiles.overlap and --tiles.scale need --tiles")


class ReadFile:
    """``{name, source}`` to the file's bytes, which are a few megabytes where pixels are many."""

    def __call__(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        try:
            check_name(row["name"])
            data, error = parts.read(row["source"]), ""
        except pixels.BadInput as bad:
            data, error = b"", str(bad)
        return [row | {"file": data, "width": 0, "height": 0, "error": error}]


class TileSegmenter(Predictor):
    """``file`` to ``ids`` and ``confidence`` (PNG bytes), ``margin``, ``width`` and ``height``.

    Width and height are the photo's; ids and confidence (the margin of each pixel, times 255) have
    these divided by the scale. What is no photo gets an ``error``.
    """

    def __init__(
        self, model: str, options: ModelOptions, solver: Solver, tiles: TileOptions,
        max_pixels: int = pixels.MAX_PIXELS, window: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(model, options, window)
        self.solver, self.tiles, self.batch_size = solver, tiles, options.batch_size
        self.max_pixels = max_pixels

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        files = zip(batch.pop("file"), batch["error"], strict=True)
        with ThreadPoolExecutor(1) as pool:  # PNG is made of one photo while the next is segmented
            packed = [
                pool.submit(self.pack, *self.segment(*opened))
                for opened in ahead(self.open(*file) for file in files)
            ]
            rows = [future.result() for future in packed]
        kinds = {"ids": object, "confidence": object, "margin": np.float32}
        return batch | {
            key: np.array([row[key] for row in rows], kinds.get(key)) for key in rows[0]
        }

    def open(self, file: bytes, error: str) -> tuple[pixels.Pixels, dict[str, Any]]:
        """The photo at the model's scale; its own size, or why it is none."""
        try:
            if error:
                raise pixels.BadInput(error)
            photo = pixels.read_photo(file, self.max_pixels)
        except pixels.BadInput as bad:
            return np.zeros((0, 0, 3), np.uint8), {"width": 0, "height": 0, "error": str(bad)}
        height, width = photo.shape[:2]
        if self.tiles.scale != 1:
            size = (max(1, round(side / self.tiles.scale)) for side in (width, height))
            photo = pixels.resize_photo(photo, *size)
        return photo, {"width": width, "height": height, "error": ""}

    def segment(
        self, photo: pixels.Pixels, facts: dict[str, Any]
    ) -> tuple[pixels.Pixels, pixels.Pixels, dict[str, Any]]:
        """Ids and confidence ``[H, W]`` of a photo ``[H, W, 3]``; none of what is none."""
        if facts["error"]:
            return photo, photo, facts | {"margin": np.nan}
        result = segment_tiled(
            self.model, torch.tensor(photo).movedim(-1, 0), self.solver,
            overlap=self.tiles.overlap, batch_size=self.batch_size,
        )  # fmt: skip
        margin = result.margin[0]
        ids, confidence = result.ids[0], margin.mul(255).round_().byte()
        facts = facts | {"margin": float(margin.mean(dtype=torch.float64))}
        return ids.cpu().numpy(), confidence.cpu().numpy(), facts

    @staticmethod
    def pack(
        ids: pixels.Pixels, confidence: pixels.Pixels, facts: dict[str, Any]
    ) -> dict[str, Any]:
        pictures = {"ids": ids, "confidence": confidence}
        return facts | {
            key: pixels.png(value) if value.size else b"" for key, value in pictures.items()
        }
