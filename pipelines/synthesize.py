"""Synthesize a labelled dataset from masks with a trained model: N images a mask, by their seeds.

    python pipelines/synthesize.py --model out/run/model --masks DIR --output out/images --samples 4

writes OUTPUT/images/NAME-n.png and its mask OUTPUT/masks/NAME-n.png, which together are a corpus
that `encode.py folder` and others read, OUTPUT/table/*.parquet (seed and source of each), a card
(README.md and card.json) and OUTPUT/images.json. Masks can be edited (--edits), images checked
against their masks (--quality), and the result written as WebDataset or Parquet (--format): see
docs/reference/synthesizing.md. Stopped at any moment, the same command goes on where it was.
"""

from __future__ import annotations

from typing import Any

from pipelines import config, corpora
from pipelines.inference.masks import mask_reader
from pipelines.inference.predictors import Synthesizer
from pipelines.inference.products import find_inputs, produce, table_of
from pipelines.inference.settings import read_defaults, read_model_index
from pipelines.sharding import raydata
from pipelines.sharding.job import ShardedJob
from pipelines.sharding.threads import threads_for
from pipelines.synthesis.config import SUMMARY, SynthesizeConfig
from pipelines.synthesis.dataset import Finish, WriteImages
from pipelines.synthesis.drafts import DecodeMask, drafts
from pipelines.synthesis.edits import Recipe
from pipelines.synthesis.quality import CheckedSynthesizer
from semflow import Palette


def synthesize(cfg: SynthesizeConfig) -> dict[str, Any]:
    """Run the job; returns the summary, which is also written.

    Raises:
        ValueError: when there is no model or no mask, what the masks are does not fit the model,
            the output holds other work, an edit names what is no class, or the perturbation could
            change a label.
        TooManyBad: when too many masks cannot be used.
    """
    index = read_model_index(cfg.model)
    palette, defaults = Palette.from_json(index["palette"]), read_defaults(index, cfg.settings)
    solver = cfg.solver.over(defaults.synthesize)
    segment = cfg.quality.solver.over(defaults.segment)
    perturbation = cfg.perturbation.over(defaults.perturbation)
    perturbation.check(palette)
    recipe = Recipe.of(cfg.edits, palette.names)
    reader = mask_reader(palette, defaults, cfg.masks_are, cfg.corpus)
    known = reader.given.corpus
    found = find_inputs(cfg.masks, corpora.MASKS, cfg.output)
    paths = list(found)
    inputs = table_of(drafts(
        cfg.masks, paths, seed=cfg.seed, samples=cfg.samples, val_share=cfg.val_share,
        variants=cfg.edits.variants, pasting=bool(cfg.edits.paste),
    ))  # fmt: skip
    settings = {
        "samples": cfg.samples,
        "seed": cfg.seed,
        "solver": config.to_dict(solver),
        "perturbation": config.to_dict(perturbation),
        **cfg.actors.arithmetic,
        "masks_are": cfg.masks_are,
        "class_map": known.to_json() if known and cfg.masks_are == "corpus" else None,
        "edits": config.to_dict(cfg.edits),
        "quality": config.to_dict(cfg.quality)
        | {"solver": config.to_dict(segment), "window": defaults.window},
        "val_share": cfg.val_share,
    }
    fingerprint = config.fingerprint(
        [index, settings, list(cfg.format), cfg.images_per_shard, cfg.masks, list(found.items())]
    )  # fmt: skip

    gpus = cfg.ray.gpus_per_actor
    options = raydata.staffed(cfg.actors, gpus)
    arguments = (cfg.model, options, solver, perturbation)
    if cfg.quality.min_agreement is None:
        actors = raydata.Actors.of(options, gpus, Synthesizer, *arguments)
    else:
        checked = (*arguments, segment, cfg.quality, defaults.window)
        actors = raydata.Actors.of(options, gpus, CheckedSynthesizer, *checked)
    size = (defaults.width, defaults.height)
    shards = -(-inputs.num_rows // cfg.images_per_shard)
    job = ShardedJob(
        verb="synthesize", output=cfg.output, fingerprint=fingerprint,
        decode=DecodeMask(cfg.masks, size, reader, recipe), model=actors,
        write=WriteImages(cfg, palette, fingerprint, shards), max_bad_share=cfg.max_bad_share,
        inputs_per_shard=cfg.images_per_shard, inputs_per_block=cfg.actors.batch_size, key="name",
        read_threads=threads_for(cfg.masks, gpus),
    )  # fmt: skip
    more = {key: settings[key] for key in ("solver", "perturbation")}
    finish = Finish(cfg, index, size, settings, paths)
    more |= {"palette": palette.to_json()}
    return produce(job, cfg, SUMMARY, lambda: inputs, more, finish)


def main() -> None:
    cfg = config.parse(SynthesizeConfig, __doc__)
    cfg = config.absolute_paths(cfg, "model", "masks", "output", "settings")
    raydata.init(cfg.ray.address, gpus=cfg.ray.gpus_per_actor)
    summary = synthesize(cfg)
    rejected = f", {summary['rejected']} rejected" if cfg.quality.min_agreement is not None else ""
    print(f"{cfg.output}: {summary['kept']} images{rejected}, "
          f"{len(summary['quarantined'])} quarantined")  # fmt: skip


if __name__ == "__main__":
    config.exit_on_error(main)
