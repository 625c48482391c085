"""Label photos with a trained model: a mask for each, a table, and a list of what to look at.

    python pipelines/label.py --model out/run/model --images DIR --output out/labels

writes OUTPUT/masks/NAME.png (class ids; viewers show the anchor colours), OUTPUT/table/*.parquet
(path, size, share of each class, margins), OUTPUT/review.html and OUTPUT/labels.json. Stopped at
any moment, the same command goes on where it was; finished, it does nothing, and when photos were
added it labels those. docs/reference/labelling.md has more.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from pipelines import config, corpora
from pipelines.inference.predictors import Segmenter
from pipelines.inference.products import TABLE, find_inputs, produce, table_of
from pipelines.inference.settings import read_defaults, read_model_index
from pipelines.labelling.config import SUMMARY, LabelConfig
from pipelines.labelling.labelled import WriteLabels
from pipelines.labelling.photos import DecodePhoto, listing
from pipelines.labelling.tiled import PHOTOS_A_BLOCK, ReadFile, TileSegmenter
from pipelines.sharding import plan, raydata
from pipelines.sharding.job import ShardedJob
from pipelines.sharding.threads import threads_for
from semflow import Palette


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
    job = ShardedJob(
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
    raydata.init(cfg.ray.address, gpus=cfg.ray.gpus_per_actor)
    summary = label(cfg)
    print(f"{cfg.output}: {summary['rows']} masks, {len(summary['quarantined'])} quarantined")


if __name__ == "__main__":
    config.exit_on_error(main)
