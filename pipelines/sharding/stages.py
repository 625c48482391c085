"""How the shards of a job go through Ray: decoded, computed, written, then their records.

Where actors have GPUs, decoding and writing are tasks on other cores, so that a GPU waits for
neither. Without, there are only cores, and each actor does all of a shard itself: rows between
processes, and more processes than cores, would take a third of them (docs/reference/labelling.md).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import islice
from threading import Lock
from typing import Any

import numpy as np
import ray.data

from infra import storage
from pipelines.sharding import plan, raydata
from pipelines.sharding.job import Row, ShardedJob
from pipelines.sharding.plan import PROGRESS, Plan
from pipelines.sharding.threads import ahead, side_by_side

WRITE_CPUS = 0.5


def record_uri(job: ShardedJob, shard: str) -> str:
    return storage.join(job.output, PROGRESS, f"{shard}.json")


def execute(job: ShardedJob, planned: Plan, part: int, skip: Collection[str]) -> Iterator[Row]:
    """Run the shards of a part that have no record, and yield their records as they come."""
    names = planned.shards()[part]
    todo = [(number, name) for number, name in enumerate(names) if name not in skip]
    if not todo:
        return
    with raydata.ordered():
        # From items: the tasks of a range, one a shard, came before the first write.
        items = [{"id": n} for n in range(len(todo))]
        numbers = ray.data.from_items(items, override_num_blocks=len(todo))
        decode = _Decode(job, planned, part, todo)
        if job.model.gpus:
            shards = _apart(job, numbers, decode)
        else:
            shards = _together(job, numbers, decode, len(todo))
        for row in shards.iter_rows():
            yield storage.read_json(record_uri(job, row["shard"]))


def _apart(job: ShardedJob, numbers: ray.data.Dataset, decode: _Decode) -> ray.data.Dataset:
    """Tasks that decode, actors with the model, tasks that write."""
    # One task a shard, which hands on its blocks as they are ready. A block is one row to Ray, so
    # that no batch of a model, as a GPU wants one, is filled up with the next shard's rows.
    blocks = numbers.map_batches(_Packed(decode), batch_size=1)
    actors = replace(job.model, kind=_Compute, arguments=(job.model,))
    # Order is what makes a bundle of the last stage exactly one shard.
    return raydata.actor_stage(blocks, actors).map_batches(
        _WritePacked(job),
        batch_size=-(-job.inputs_per_shard // job.inputs_per_block),
        num_cpus=WRITE_CPUS,
    )


def _together(
    job: ShardedJob, numbers: ray.data.Dataset, decode: _Decode, count: int
) -> ray.data.Dataset:
    """Actors that decode, compute and write a shard, no more than there are shards."""
    return raydata.whole_stage(numbers, _Shard, (job, decode), job.model.at_most(count))


def _packed(columns: dict[str, Any]) -> dict[str, Any]:
    """A block as one row of a dataset."""
    row = np.empty(1, object)
    row[0] = columns
    return {"block": row}


class _Packed:
    """Decodes as ``decode`` does, each block packed."""

    def __init__(self, decode: _Decode) -> None:
        self.decode = decode

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for columns in self.decode(batch):  # Ray takes a generator for many batches, no iterator
            yield _packed(columns)


class _Compute:
    """A model on packed blocks."""

    def __init__(self, actors: raydata.Actors) -> None:
        self.model = actors.make()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        (block,) = batch["block"]
        return _packed(self.model(block))


class _WritePacked:
    """Write the packed blocks of a shard."""

    def __init__(self, job: ShardedJob) -> None:
        self.write = _Write(job)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        return self.write(_together_again(list(batch["block"])))


class _Shard:
    """A shard's number to its files, in one process.

    Called twice at once: one computes while the other writes.
    """

    def __init__(self, job: ShardedJob, decode: _Decode) -> None:
        self.model, self.decode, self.write = job.model.make(), decode, _Write(job)
        self.turn = Lock()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        with self.turn:
            blocks = [self.model(block) for block in ahead(self.decode(batch))]
        return self.write(_together_again(blocks))


def _together_again(blocks: list[dict[str, Any]]) -> dict[str, Any]:
    """Blocks as one; columns are popped, so that no more than one is held twice."""
    return {
        key: np.concatenate([np.asarray(block.pop(key)) for block in blocks])
        for key in list(blocks[0])
    }


class _Decode:
    """A shard's number to the rows of its inputs, a block at a time."""

    def __init__(
        self, job: ShardedJob, planned: Plan, part: int, todo: list[tuple[int, str]]
    ) -> None:
        self.job, self.where, self.todo = job, (planned.output, planned.split, part), todo

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        (index,) = batch["id"]
        number, name = self.todo[int(index)]
        inputs = plan.read_shard(*self.where, number)
        rows = ({"shard": name} | row for row in inputs.to_pylist())
        decoded = side_by_side(self.job.decode, rows, self.job.read_threads)
        while several := list(islice(decoded, self.job.inputs_per_block)):
            flat = [row for made in several for row in made]
            yield {key: _column([row[key] for row in flat]) for key in flat[0]}


def _column(values: list[Any]) -> Any:
    if isinstance(values[0], bytes):
        return np.array(values, object)  # numpy's own strings of bytes end before their last zeros
    return np.stack(values) if isinstance(values[0], np.ndarray) else np.array(values)


class _Write:
    """Write a shard, then its record; the order is what a restart relies on."""

    def __init__(self, job: ShardedJob) -> None:
        self.job = job

    def __call__(self, columns: dict[str, Any]) -> dict[str, list[str]]:
        job = self.job
        (shard,) = set(columns["shard"])  # more than one would be a bug in the order
        good = np.array([not error for error in columns["error"]])
        bad = {
            key: {"file": file, "reason": reason, "key": key}
            for key, file, reason in zip(
                columns[job.key], columns["source"], columns["error"], strict=True
            )
            if reason
        }
        kept = {
            name: values if good.all() else values[good]
            for name, values in columns.items()
            if name not in ("shard", "source", "error")
        }
        record = job.write(shard, kept) if good.any() else {}
        record |= {
            "shard": shard,
            "inputs": len(columns["shard"]) // job.fanout,
            "bad": list(bad.values()),
        }
        storage.write_json(record_uri(job, shard), record)
        return {"shard": [shard]}
