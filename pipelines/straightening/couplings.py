"""Couplings: pairs that a trained flow connects, as a latent dataset like any other.

Reflow (Liu et al. 2022, arXiv 2209.03003, section 2.2) trains again on ``(x, flow(x))``: where the
first training paired each mask with one photo of many, and lines crossed, now every start has its
one end, and a flow learned from these is straighter.

    synthesize   from a mask, under its own perturbation, back to an image: labels stay exact
    segment      from a photo's latents to mask latents: photos stay real
    both         half of the rows each

A coupling is fixed: the image's posterior has no spread, and there is one draw of the mask, which
is no encoding of ``mask`` where the row was segmented. So training must not encode masks again
(``train.py`` refuses ``--online-masks``). Beside the columns of every dataset (``latents.py``), a
row has ``direction``, and ``seed``: that of its perturbation, -1 without one. ``mask`` stays what
it was. The other splits are kept as they are, without their spread and further draws, so that
training validates on real rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from infra import storage
from pipelines import config
from pipelines.dataset import maskcodec
from pipelines.dataset.encoder import WriteShard
from pipelines.dataset.latents import (
    MANIFEST,
    Manifest,
    Split,
    dataset_fingerprint,
    read_manifest,
    write_manifest,
)
from pipelines.inference.settings import model_fingerprint, read_model_index
from pipelines.sharding import claim, raydata, runner
from pipelines.sharding.job import ShardedJob
from pipelines.straightening.config import CouplingOptions
from pipelines.straightening.coupler import KEPT, Coupler
from pipelines.training.model import check_fit
from semflow import Palette, Perturbation

TRAIN = "train"
"""The split that is coupled."""


def places(
    manifest: Manifest, split: str, rows: int | None, directions: Sequence[str], seed: int = 0
) -> pa.Table:
    """What is to be coupled: where each row is, and in which direction; as many in each.

    Both are drawn, since views of a pair follow one another in a split.

    Raises:
        ValueError: when there are not so many rows.
    """
    there = manifest.split(split).rows
    if rows is not None and rows > there:
        raise ValueError(f"{split!r} of {manifest.uri} has {there} rows, not {rows}")
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(there)[:rows])
    turns = rng.permutation(len(chosen)) % len(directions)
    shards = manifest.split(split).shards
    where = np.array(
        [
            (number, group, row)
            for number, shard in enumerate(shards)
            for group, count in enumerate(shard.row_groups)
            for row in range(count)
        ]
    ).reshape(-1, 3)[chosen]
    paths = [shards[number].path for number in where[:, 0]]
    return pa.table(
        {
            "key": [f"{path}:{g}:{r}" for path, (_, g, r) in zip(paths, where, strict=True)],
            "uri": [storage.join(manifest.uri, path) for path in paths],
            "source": paths,
            "group": where[:, 1],
            "row": where[:, 2],
            "direction": [directions[turn] for turn in turns],
        }
    )


class _Write:
    """A shard as encode writes it, without the columns that only said where its rows came from."""

    def __init__(self, write: WriteShard) -> None:
        self.write = write

    def __call__(self, shard: str, columns: dict[str, Any]) -> dict[str, Any]:
        origin = ("key", "uri", "group", "row")
        return self.write(shard, {k: v for k, v in columns.items() if k not in origin})


def _pass_on(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Nothing is read before the actor, which reads whole row groups."""
    return [row | {"error": ""}]


def fits(model: str, index: dict[str, Any], manifest: Manifest) -> None:
    """Refuse a model whose flow is not between the latents of this dataset.

    Raises:
        ValueError: saying what differs.
    """
    if index.get("flow", "semflow") != "semflow":
        raise ValueError(f"the model {model} goes through noise ({index['flow']}), which couplings "
                         "of images and masks do not hold; reflow is for semflow's")  # fmt: skip
    if Palette.from_json(index["palette"]) != manifest.palette:
        raise ValueError(f"the model {model} has another palette than {manifest.uri}")
    check_fit(model, index, manifest)


def recipe_of(
    index: dict[str, Any], manifest: Manifest, options: CouplingOptions
) -> dict[str, Any]:
    """All that decides the couplings; ``coupling`` says which flow made them, and how."""
    source = manifest.recipe
    return source | {
        "autoencoder": source["autoencoder"] | {"stochastic": False},
        "draws": 1,
        "shard_rows": options.shard_rows,
        "row_group_rows": options.row_group_rows,
        "batch_size": options.actors.batch_size,
        "coupling": {
            "data": manifest.fingerprint,
            "model": model_fingerprint(index),
            "direction": options.direction,
            "solver": config.to_dict(options.solver),
            "couplings": options.couplings,
            "seed": options.seed,
            **options.actors.arithmetic,
        },
    }


def make_couplings(
    model: str, data: str, output: str, options: CouplingOptions, *, gpus: float
) -> Manifest:
    """Run the job, or go on with it, or find it finished; returns the coupled dataset.

    Args:
        model: folder or URI of the trained model.
        data: latent dataset whose training rows are coupled.
        output: folder or URI for the couplings.
        options: which, and how.
        gpus: that each actor takes.

    Raises:
        ValueError: when model and data do not fit, or the output holds other work.
    """
    manifest, index = read_manifest(data), read_model_index(model)
    fits(model, index, manifest)
    if "coupling" in manifest.recipe:
        raise ValueError(f"{data} holds couplings; give the real rows, and the latest model")
    how = recipe_of(index, manifest, options)
    fingerprint = config.fingerprint(how)
    claim.start(output, fingerprint, None)
    if storage.exists(storage.join(output, MANIFEST)):
        print(f"{output} is finished: nothing to do")
        return read_manifest(output)
    classes, perturbation = len(manifest.palette), Perturbation(**how["perturbation"])
    write = _Write(WriteShard(output, options.row_group_rows, classes, fingerprint, how))

    run = raydata.staffed(options.actors, gpus)
    coupling = replace(options, actors=run)
    actors = raydata.Actors.of(run, gpus, Coupler, model, coupling, perturbation)
    job = ShardedJob(
        verb="couple", output=output, fingerprint=fingerprint, decode=_pass_on, model=actors,
        write=write, inputs_per_shard=options.shard_rows, key="key",
        inputs_per_block=options.actors.batch_size,
    )  # fmt: skip
    splits = {}
    for name in manifest.splits:
        ways: tuple[str, ...] = (options.direction,)
        if name != TRAIN:
            ways = (KEPT,)
        elif options.direction == "both":
            ways = ("synthesize", "segment")
        rows = options.couplings if name == TRAIN else None
        plan = runner.prepare(job, name, places(manifest, name, rows, ways, options.seed))
        splits[name] = Split.of(runner.run(job, plan).records, plan.inputs, classes)
    coupled = replace(
        manifest, uri=output, recipe=how, splits=splits, quarantined=0,
        fingerprint=dataset_fingerprint(fingerprint, splits),
    )  # fmt: skip
    maskcodec.keep(output, maskcodec.of(manifest))
    write_manifest(coupled)
    return read_manifest(output)
