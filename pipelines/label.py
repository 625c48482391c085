"""Label photos with a trained model: an index PNG mask for each, and a table of results.

    python pipelines/label.py --model out/run/model --images DIR --output out/labels

writes OUTPUT/masks/NAME.png (class ids; viewers show the anchor colours), OUTPUT/table/*.parquet
(path, size, share of each class, mean margin) and OUTPUT/labels.json. Stopped at any moment, the
same command goes on where it was.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import ray.data
from PIL import Image

from infra import storage
from pipelines import config, corpora, pixels, raydata, sharded
from pipelines.config import RayOptions
from pipelines.corpora import parts
from pipelines.predictors import ModelOptions, Segmenter, SolverChoice
from pipelines.products import produce, rows_of, unique_names, write_shard
from pipelines.settings import read_defaults, read_model_index
from semflow import Palette

SUMMARY = "labels.json"


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """What to label, and how."""

    model: str
    """Folder or URI of a trained model."""
    images: str
    """Folder or URI of photos, searched through."""
    output: str = "out/labels"
    """Folder or URI of the results."""
    resolution: Literal["photo", "model"] = "photo"
    """Size of the masks: each photo's own (nearest), or the model's."""
    settings: str | None = None
    """A file that tune/search_solver.py made: what it found goes before the model's own."""
    solver: SolverChoice = field(default_factory=SolverChoice)
    """Instead of the model's own."""
    actors: ModelOptions = field(default_factory=ModelOptions)
    """How the model runs."""
    photos_per_shard: int = 256
    """Photos a file of the table; a restart repeats at most so many."""
    max_bad_share: float = 0.05
    """The job stops when more than this share of the photos cannot be used."""
    overwrite: bool = False
    """Remove what is at the output first."""
    ray: RayOptions = field(default_factory=RayOptions)


class DecodePhoto:
    """``{name, source}`` to pixels at the model's size, or an error."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height

    def __call__(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        try:
            photo = pixels.read_photo(parts.read(row["source"]))
            size, error = (photo.shape[1], photo.shape[0]), ""
            photo = pixels.resize_photo(photo, self.width, self.height)
        except pixels.BadInput as bad:
            photo = np.zeros((self.height, self.width, 3), np.uint8)
            size, error = (0, 0), str(bad)
        return [row | {"pixels": photo, "width": size[0], "height": size[1], "error": error}]


class WriteLabels:
    """A shard of ids to PNG files and one file of the table."""

    def __init__(self, cfg: LabelConfig, palette: Palette, fingerprint: str) -> None:
        self.cfg, self.palette, self.fingerprint = cfg, palette, fingerprint

    def __call__(self, shard: str, columns: dict[str, Any]) -> dict[str, Any]:
        rows = rows_of(columns)
        files = {f"masks/{row['name']}.png": partial(self.png, row) for row in rows}
        table = pa.table(
            {
                "image": pa.array([row["path"] for row in rows]),
                "mask": pa.array(list(files)),
                "width": pa.array([int(row["width"]) for row in rows]),
                "height": pa.array([int(row["height"]) for row in rows]),
                "class_share": pa.array([self.shares(row["ids"]) for row in rows]),
                "mean_margin": pa.array([float(row["margin"]) for row in rows]),
            }
        )
        metadata = json.dumps({"fingerprint": self.fingerprint, "classes": self.palette.names})
        return write_shard(self.cfg.output, shard, table, files, metadata)

    def png(self, row: dict[str, Any]) -> bytes:
        ids = row["ids"]
        if self.cfg.resolution == "photo":
            size = (int(row["width"]), int(row["height"]))
            ids = np.asarray(Image.fromarray(ids).resize(size, Image.Resampling.NEAREST))
        return pixels.png(ids, self.palette.png_palette())

    def shares(self, ids: pixels.Pixels) -> list[float]:
        counts = np.bincount(ids.ravel(), minlength=len(self.palette))[: len(self.palette)]
        return [float(share) for share in counts / ids.size]


def label(cfg: LabelConfig) -> dict[str, Any]:
    """Run the job; returns the summary, which is also written.

    Raises:
        ValueError: when there is no model, no photo, or the output holds other work.
        TooManyBad: when too many photos cannot be used.
    """
    index = read_model_index(cfg.model)
    palette, defaults = Palette.from_json(index["palette"]), read_defaults(index, cfg.settings)
    solver = cfg.solver.over(defaults.segment)
    paths = storage.list_files(cfg.images, corpora.PHOTOS)
    if not paths:
        raise ValueError(f"no photos in {cfg.images} ({', '.join(corpora.PHOTOS)})")
    inputs = [
        {"name": name, "path": path, "source": storage.join(cfg.images, path)}
        for name, path in zip(unique_names(paths), paths, strict=True)
    ]
    fingerprint = config.fingerprint(
        [index, config.to_dict(solver), cfg.actors.precision, cfg.resolution,
         cfg.photos_per_shard, paths]
    )  # fmt: skip

    def compute(blocks: ray.data.Dataset) -> ray.data.Dataset:
        arguments = (cfg.model, cfg.actors, solver)
        return raydata.actor_stage(
            blocks, Segmenter, arguments, actors=cfg.actors.actors,
            most=cfg.actors.max_actors, gpus=cfg.ray.gpus_per_actor,
        )  # fmt: skip

    job = sharded.ShardedJob(
        verb="label", output=cfg.output, fingerprint=fingerprint,
        decode=DecodePhoto(defaults.width, defaults.height), compute=compute,
        write=WriteLabels(cfg, palette, fingerprint), inputs_per_shard=cfg.photos_per_shard,
        inputs_per_block=cfg.actors.batch_size, key="name",
        max_bad_share=cfg.max_bad_share,
    )  # fmt: skip
    more = {
        "palette": palette.to_json(),
        "solver": config.to_dict(solver),
    }
    return produce(job, cfg, SUMMARY, inputs, more)


def main() -> None:
    cfg = config.parse(LabelConfig, __doc__)
    cfg = config.absolute_paths(cfg, "model", "images", "output", "settings")
    raydata.init(cfg.ray.address)
    summary = label(cfg)
    print(f"{cfg.output}: {summary['rows']} masks, {len(summary['quarantined'])} quarantined")


if __name__ == "__main__":
    config.exit_on_error(main)
