"""Label photos with a trained model: a mask for each, a table, and a list of what to look at.

    python pipelines/label.py --model out/run/model --images DIR --output out/labels

writes OUTPUT/masks/NAME.png (class ids; viewers show the anchor colours), OUTPUT/table/*.parquet
(path, size, share of each class, margins), OUTPUT/review.html and OUTPUT/labels.json. Stopped at
any moment, the same command goes on where it was; finished, it does nothing, and when photos were
added it labels those. docs/labelling.md has more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from infra import storage
from pipelines import config, corpora, pixels, plan, raydata, sharded
from pipelines.config import RayOptions
from pipelines.corpora import parts
from pipelines.labelling.forms import FORMS, FormName
from pipelines.labelling.labelled import WriteLabels
from pipelines.labelling.tiled import PHOTOS_A_BLOCK, ReadFile, TileOptions, TileSegmenter
from pipelines.predictors import ModelOptions, Segmenter, SolverChoice
from pipelines.products import TABLE, find_inputs, produce, table_of, unique_names
from pipelines.settings import read_defaults, read_model_index
from pipelines.sharded import Row
from pipelines.threads import threads_for
from semflow import Palette
from semflow.decoding import check_window

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
    """Size of the masks: each photo's own (nearest), or what the model saw."""
    tiles: TileOptions = field(default_factory=TileOptions)
    """Photos in tiles of the model's size, instead of resized to it."""
    formats: tuple[FormName, ...] = ("png",)
    """What masks are written as; several may be given."""
    confidence: bool = False
    """Write confidence/NAME.png: each pixel's margin, 8-bit grey, at the size the model saw."""
    review: int = 50
    """List so many photos with most pixels of low margin, review.csv and .html; 0 for no list."""
    settings: str | None = None
    """A file that tune/search_solver.py made: what it found goes before the model's own."""
    solver: SolverChoice = field(default_factory=SolverChoice)
    """Instead of the model's own."""
    window: int | None = None
    """Pixels a side over which class probabilities are averaged, instead of the model's own number;
    1 takes the nearest anchor."""
    actors: ModelOptions = field(default_factory=ModelOptions)
    """How the model runs."""
    photos_per_shard: int | None = None
    """Photos a file of the table; a restart repeats at most two files' photos an actor. If not
    given, 256, or 32 with --tiles, which is for large photos."""
    max_bad_share: float = 0.05
    """The job stops when more than this share of the photos cannot be used."""
    overwrite: bool = False
    """Remove what is at the output first."""
    max_pixels: int = pixels.MAX_PIXELS
    """Photos with more are quarantined. While one is read, it takes an actor ten bytes a pixel."""
    ray: RayOptions = field(default_factory=RayOptions)

    def __post_init__(self) -> None:
        check_window(self.window or 1)
        if not self.formats:
            raise ValueError(f"--formats takes one or more of {', '.join(FORMS)}")
        if self.review < 0 or (self.photos_per_shard or 1) < 1:
            raise ValueError("--review is at least 0 and --photos-per-shard at least 1")

    @property
    def shard(self) -> int:
        """Photos a shard."""
        return self.photos_per_shard or (32 if self.tiles.on else 256)


class DecodePhoto:
    """``{name, source}`` to pixels at the model's size, or an error."""

    def __init__(self, width: int, height: int, max_pixels: int) -> None:
        self.width, self.height, self.max_pixels = width, height, max_pixels

    def __call__(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        try:
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


def label(cfg: LabelConfig) -> dict[str, Any]:
    """Run the job; returns the summary, which is also written.

    Raises:
        ValueError: when there is no model, no photo, the output holds other work, or a photo
            changed after it was labelled.
        TooManyBad: when too many photos cannot be used.
    """
    index = read_model_index(cfg.model)
    palette, defaults = Palette.from_json(index["palette"]), read_defaults(index, cfg.settings)
    solver, window = cfg.solver.over(defaults.segment), cfg.window or defaults.window
    found = find_inputs(cfg.images, corpora.PHOTOS, cfg.output)
    fingerprint = config.fingerprint(
        [index, config.to_dict(solver), window, cfg.actors.arithmetic, cfg.resolution, cfg.shard,
         cfg.images, config.to_dict(cfg.tiles), sorted(set(cfg.formats)), cfg.confidence,
         cfg.review, cfg.max_pixels]
    )  # fmt: skip

    gpus = cfg.ray.gpus_per_actor
    options = raydata.staffed(cfg.actors, gpus)
    arguments = (cfg.model, options, solver)
    if cfg.tiles.on:
        actors = raydata.Actors.of(options, gpus, TileSegmenter, *arguments, cfg.tiles,
                                    cfg.max_pixels, window)  # fmt: skip
    else:
        actors = raydata.Actors.of(options, gpus, Segmenter, *arguments, window)
    decode = (
        ReadFile() if cfg.tiles.on else DecodePhoto(defaults.width, defaults.height, cfg.max_pixels)
    )
    write = WriteLabels(
        cfg.output, palette, fingerprint, forms=sorted(set(cfg.formats)), images=cfg.images,
        confidence=cfg.confidence, own_size=cfg.resolution == "photo", review=cfg.review,
        threads=threads_for(cfg.output, gpus),
    )  # fmt: skip
    job = sharded.ShardedJob(
        verb="label", output=cfg.output, fingerprint=fingerprint, decode=decode, model=actors,
        write=write, inputs_per_shard=cfg.shard, key="name",
        inputs_per_block=PHOTOS_A_BLOCK if cfg.tiles.on else cfg.actors.batch_size,
        max_bad_share=cfg.max_bad_share, read_threads=threads_for(cfg.images, gpus),
    )  # fmt: skip
    more = {
        "palette": palette.to_json(),
        "solver": config.to_dict(solver),
        "window": window,
    }

    def inputs() -> pa.Table:
        return table_of(listing(cfg.images, found, plan.known(cfg.output, TABLE)))

    return produce(job, cfg, SUMMARY, inputs, more, write.finish)


def main() -> None:
    cfg = config.parse(LabelConfig, __doc__)
    cfg = config.absolute_paths(cfg, "model", "images", "output", "settings")
    raydata.init(cfg.ray.address)
    summary = label(cfg)
    print(f"{cfg.output}: {summary['rows']} masks, {len(summary['quarantined'])} quarantined")


if __name__ == "__main__":
    config.exit_on_error(main)
