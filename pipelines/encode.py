"""Encode a corpus of photos and masks into latent Parquet shards.

    python pipelines/encode.py camvid --corpus.root ../shared/data/camvid --output out/latents

reads pairs with Ray Data, encodes them in a pool of actors and writes shards and a manifest that
training reads. The first word is a preset; every flag overrides one of its values. Stopped at any
moment, the same command goes on where it was; finished, it does nothing, and when files were added
to the corpus it encodes those.

    python pipelines/encode.py verify --data out/latents

reads every byte of a dataset back and says whether it is whole.

    python pipelines/encode.py preview camvid --corpus.root ../shared/data/camvid

takes the flags of an encode and shows a few pairs as they would be encoded, on one HTML page.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from typing import Any

from infra import storage, tracking
from pipelines import config
from pipelines.corpora import list_splits
from pipelines.corpora.classes import with_classes
from pipelines.corpora.readers.orientation import as_found
from pipelines.dataset import findings, maskcodec
from pipelines.dataset.ceiling import codec_ceiling
from pipelines.dataset.config import EncodeConfig, absolute, recipe
from pipelines.dataset.encoder import Decode, Encoder, WriteShard
from pipelines.dataset.latents import (
    MANIFEST,
    QUARANTINE,
    Manifest,
    Split,
    dataset_fingerprint,
    read_manifest,
    write_manifest,
)
from pipelines.sharding import claim, driver, raydata, runner
from pipelines.sharding.job import ShardedJob
from pipelines.sharding.threads import threads_for
from semflow import Palette, load_autoencoder
from semflow.codecs.anchors import Anchors
from semflow.codecs.blocks import Blocks


def encode(cfg: EncodeConfig) -> Manifest:
    """Run the job: list, encode and write every split, then the manifest.

    Raises:
        ValueError: when the output holds other work, a file changed after it was encoded, or the
            perturbation could change a label.
        TooManyBad: when too many pairs cannot be used.
    """
    cfg = replace(cfg, corpus=with_classes(cfg.corpus))
    autoencoder = load_autoencoder(cfg.autoencoder)
    shape = maskcodec.shape_of(cfg, autoencoder)
    palette = maskcodec.with_style(_palette(cfg), shape)
    cfg.perturbation.check(palette)
    autoencoder.latent_size(cfg.height, cfg.width)
    listings = list_splits(cfg.corpus)
    cfg = replace(cfg, corpus=as_found(cfg.corpus, listings))
    claim.not_in_place_of(cfg.output, cfg.corpus.root)
    codec = maskcodec.make(cfg, palette, shape, listings[cfg.corpus.splits[0]].pairs)
    how = recipe(cfg, palette, codec)
    fingerprint = config.fingerprint(how)
    note = {"palette": [cfg.palette, palette.to_json()], "mask_codec": shape and asdict(shape)}
    claim.start(cfg.output, fingerprint, cfg, note=note)
    maskcodec.keep(cfg.output, codec)
    actors, threads = raydata.workforce(cfg.actors, cfg.threads, cfg.ray.gpus_per_actor)
    cfg = replace(cfg, actors=actors, threads=threads)
    jobs = {split: _job(cfg, palette, codec, split, fingerprint, how) for split in listings}
    plans = {split: runner.prepare(jobs[split], split, listings[split].pairs) for split in jobs}
    before = read_manifest(cfg.output) if _finished(cfg.output) else None
    if before and {name: split.inputs for name, split in before.splits.items()} == {
        name: plan.inputs for name, plan in plans.items()
    }:
        print(f"{cfg.output} is already encoded: nothing to do")
        _say(before)
        return before
    splits, quarantine, done = {}, [], {}
    params = config.flatten(config.to_dict(cfg))
    with driver.at_work(cfg.output), tracking.run("encode", cfg.output, params) as run:
        for split, plan in plans.items():
            bad = listings[split].bad
            records = done[split] = runner.run(jobs[split], plan, already_bad=bad).records
            splits[split] = Split.of(records, plan.inputs, len(cfg.corpus.classes))
            quarantine += runner.quarantine_lines(records, bad)
        manifest = Manifest(
            uri=cfg.output, fingerprint=dataset_fingerprint(fingerprint, splits), recipe=how,
            corpus=config.to_dict(cfg.corpus), palette=palette, height=cfg.height,
            width=cfg.width, splits=splits, quarantined=len(quarantine), codec_ceiling={},
            findings=findings.findings(done),
        )  # fmt: skip
        ceiling = codec_ceiling(manifest, codec or Anchors(palette, autoencoder))
        lines = "".join(json.dumps(line) + "\n" for line in quarantine)
        storage.write_bytes(storage.join(cfg.output, QUARANTINE), lines.encode())
        write_manifest(replace(manifest, codec_ceiling=ceiling))
        run.metrics({"codec_ceiling_miou": ceiling["miou"], "quarantined": len(quarantine)}
                    | {f"rows_{name}": split.rows for name, split in splits.items()})  # fmt: skip
        run.artifact_json(MANIFEST, storage.read_json(storage.join(cfg.output, MANIFEST)))
    for line in quarantine[:10]:
        print(f"quarantined: {line['file']}: {line['reason']}", file=sys.stderr)
    manifest = read_manifest(cfg.output)
    _say(manifest)
    return manifest


def _say(manifest: Manifest) -> None:
    for sentence in findings.said(manifest, list(manifest.splits)):
        print(f"warning: {sentence}", file=sys.stderr)


def _palette(cfg: EncodeConfig) -> Palette:
    """The palette of the work that is there, if any: another machine may round otherwise."""
    kind, there = claim.noted(cfg.output).get("palette", (None, None))
    if kind == cfg.palette and not cfg.overwrite:
        old = Palette.from_json(there)
        if old.names == cfg.corpus.classes:
            return old
    return cfg.make_palette()


def _finished(output: str) -> bool:
    return storage.exists(storage.join(output, MANIFEST))


def _job(
    cfg: EncodeConfig,
    palette: Palette,
    codec: Blocks | None,
    split: str,
    fingerprint: str,
    how: dict[str, Any],
) -> ShardedJob:
    views, classes = cfg.views_of(split), len(cfg.corpus.classes)
    actors = raydata.Actors(
        kind=Encoder, arguments=(cfg, palette, codec), number=cfg.actors,
        gpus=cfg.ray.gpus_per_actor,
    )  # fmt: skip
    return ShardedJob(
        verb="encode", output=cfg.output, fingerprint=fingerprint, decode=Decode(cfg, views),
        model=actors,
        write=WriteShard(cfg.output, cfg.row_group_rows, classes, fingerprint, how),
        inputs_per_shard=cfg.shard_rows // views,
        inputs_per_block=cfg.block_inputs(views), fanout=views,
        read_threads=threads_for(cfg.corpus.root, cfg.ray.gpus_per_actor),
        max_bad_share=cfg.max_bad_share,
    )  # fmt: skip


def main() -> None:
    from pipelines.dataset import preview, verify
    from pipelines.presets import ENCODE

    if sys.argv[1:2] == ["verify"]:
        verify.main(sys.argv[2:])
        return
    if sys.argv[1:2] == ["preview"]:
        preview.main(sys.argv[2:], ENCODE)
        return
    cfg = absolute(config.parse(EncodeConfig, __doc__, ENCODE))
    raydata.init(cfg.ray.address, gpus=cfg.ray.gpus_per_actor)
    manifest = encode(cfg)
    rows = ", ".join(f"{split.rows} {name}" for name, split in manifest.splits.items())
    print(
        f"{cfg.output}: {rows} rows, {manifest.quarantined} quarantined; codec ceiling "
        f"mIoU {manifest.codec_ceiling['miou']:.3f}\nnext: python pipelines/train.py PRESET --data "
        f"{cfg.output} --output out/run"
    )


if __name__ == "__main__":
    config.exit_on_error(main)
