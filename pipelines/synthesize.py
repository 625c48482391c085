"""Synthesize photos from masks with a trained model: N images a mask, each from its own seed.

    python pipelines/synthesize.py --model out/run/model --masks DIR --output out/images --samples 4

writes OUTPUT/images/NAME-n.png and its mask OUTPUT/masks/NAME-n.png, which together are a corpus
that `encode.py folder` and others read, OUTPUT/table/*.parquet (seed and source of each) and
OUTPUT/images.json. Stopped at any moment, the same command goes on where it was.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data
from PIL import Image

from infra import storage
from pipelines import config, corpora, pixels, raydata, sharded
from pipelines.config import RayOptions
from pipelines.corpora import parts
from pipelines.masks import LabelMap
from pipelines.predictors import ModelOptions, PerturbationChoice, SolverChoice, Synthesizer
from pipelines.products import produce, rows_of, unique_names, write_shard
from pipelines.settings import read_defaults, read_model_index
from semflow import Palette
from semflow.sampler import Defaults

SUMMARY = "images.json"


@dataclass(frozen=True, kw_only=True)
class SynthesizeConfig:
    """What to synthesize, and how."""

    model: str
    """Folder or URI of a trained model."""
    masks: str
    """Folder or URI of masks of class ids, searched through."""
    output: str = "out/images"
    """Folder or URI of the results."""
    samples: int = 1
    """Images of each mask."""
    seed: int = 0
    """All seeds follow from it and the masks' names."""
    ignore_ids: tuple[int, ...] | None = None
    """Ids in the masks that stand for no class; as in the model's own corpus when not given."""
    settings: str | None = None
    """A file that tune/search_solver.py made: what it found goes before the model's own."""
    solver: SolverChoice = field(default_factory=SolverChoice)
    """Instead of the model's own."""
    perturbation: PerturbationChoice = field(default_factory=PerturbationChoice)
    """Instead of the model's own."""
    actors: ModelOptions = field(default_factory=ModelOptions)
    """How the model runs."""
    images_per_shard: int = 256
    """Images a file of the table; a restart repeats at most so many."""
    max_bad_share: float = 0.05
    """The job stops when more than this share of the masks cannot be used."""
    overwrite: bool = False
    """Remove what is at the output first."""
    ray: RayOptions = field(default_factory=RayOptions)

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError("--samples is at least 1")


def sample_seed(seed: int, name: str, sample: int) -> int:
    """The seed of an image, from what it is an image of."""
    return int(config.fingerprint([seed, name, sample])[:15], 16)


class DecodeMask:
    """``{name, source}`` to ids at the model's size, or an error."""

    def __init__(self, defaults: Defaults, classes: int, ignore_ids: tuple[int, ...]) -> None:
        self.defaults = defaults
        self.labels = LabelMap(classes=classes, ignore_ids=ignore_ids)

    def __call__(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        size = (self.defaults.width, self.defaults.height)
        try:
            ids = self.labels.read(parts.read(row["source"]))
            ids, error = np.asarray(Image.fromarray(ids).resize(size, Image.Resampling.NEAREST)), ""
        except pixels.BadInput as bad:
            ids, error = np.zeros(size[::-1], np.uint8), str(bad)
        return [row | {"ids": ids, "error": error}]


class WriteImages:
    """A shard of pixels to PNG files and one file of the table."""

    def __init__(self, cfg: SynthesizeConfig, palette: Palette, fingerprint: str) -> None:
        self.cfg, self.palette, self.fingerprint = cfg, palette, fingerprint

    def __call__(self, shard: str, columns: dict[str, Any]) -> dict[str, Any]:
        rows, colours = rows_of(columns), self.palette.png_palette()
        masks = {f"masks/{r['name']}.png": partial(pixels.png, r["ids"], colours) for r in rows}
        images = {f"images/{r['name']}.png": partial(pixels.png, r["pixels"]) for r in rows}
        table = pa.table(
            {
                "image": pa.array(list(images)),
                "mask": pa.array(list(masks)),
                "source_mask": pa.array([row["path"] for row in rows]),
                "sample": pa.array([int(row["sample"]) for row in rows]),
                "seed": pa.array([int(row["seed"]) for row in rows]),
            }
        )
        metadata = json.dumps({"fingerprint": self.fingerprint, "classes": self.palette.names})
        return write_shard(self.cfg.output, shard, table, masks | images, metadata)


def synthesize(cfg: SynthesizeConfig) -> dict[str, Any]:
    """Run the job; returns the summary, which is also written.

    Raises:
        ValueError: when there is no model or no mask, the output holds other work, or the
            perturbation could change a label.
        TooManyBad: when too many masks cannot be used.
    """
    index = read_model_index(cfg.model)
    palette, defaults = Palette.from_json(index["palette"]), read_defaults(index, cfg.settings)
    solver = cfg.solver.over(defaults.synthesize)
    perturbation = cfg.perturbation.over(defaults.perturbation)
    perturbation.check(palette)
    ignore_ids = defaults.ignore_ids if cfg.ignore_ids is None else cfg.ignore_ids
    paths = storage.list_files(cfg.masks, corpora.MASKS)
    if not paths:
        raise ValueError(f"no masks in {cfg.masks} ({', '.join(corpora.MASKS)})")
    inputs = [
        {"name": f"{name}-{n}", "path": path, "source": storage.join(cfg.masks, path),
         "sample": n, "seed": sample_seed(cfg.seed, name, n)}
        for name, path in zip(unique_names(paths), paths, strict=True)
        for n in range(cfg.samples)
    ]  # fmt: skip
    fingerprint = config.fingerprint(
        [index, config.to_dict(solver), config.to_dict(perturbation),
         cfg.actors.precision, cfg.images_per_shard, list(ignore_ids),
         [(row["name"], row["seed"]) for row in inputs]]
    )  # fmt: skip

    def compute(blocks: ray.data.Dataset) -> ray.data.Dataset:
        arguments = (cfg.model, cfg.actors, solver, perturbation)
        return raydata.actor_stage(
            blocks, Synthesizer, arguments, actors=cfg.actors.actors,
            most=cfg.actors.max_actors, gpus=cfg.ray.gpus_per_actor,
        )  # fmt: skip

    job = sharded.ShardedJob(
        verb="synthesize", output=cfg.output, fingerprint=fingerprint,
        decode=DecodeMask(defaults, len(palette), ignore_ids), compute=compute,
        write=WriteImages(cfg, palette, fingerprint), inputs_per_shard=cfg.images_per_shard,
        inputs_per_block=cfg.actors.batch_size, key="name",
        max_bad_share=cfg.max_bad_share,
    )  # fmt: skip
    more = {
        "palette": palette.to_json(),
        "solver": config.to_dict(solver),
        "perturbation": config.to_dict(perturbation),
    }
    return produce(job, cfg, SUMMARY, inputs, more)


def main() -> None:
    cfg = config.parse(SynthesizeConfig, __doc__)
    cfg = config.absolute_paths(cfg, "model", "masks", "output", "settings")
    raydata.init(cfg.ray.address)
    summary = synthesize(cfg)
    print(f"{cfg.output}: {summary['rows']} images, {len(summary['quarantined'])} quarantined")


if __name__ == "__main__":
    config.exit_on_error(main)
