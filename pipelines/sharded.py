"""One runner for encode, label and synthesize: planned inputs become shards, exactly once.

A split's inputs are planned (see ``plan.py``) and cut into shards of a fixed number; a shard is the
unit of work. It is written whole under a name that its number gives, then its record (rows, bytes,
digest, what was bad) is written beside it. Started again, the job leaves out the shards that have a
record, and what a dying job wrote without one is written over. So every good input is in the result
exactly once, whatever was killed.

Ray Data's own checkpointing (``ray.data.checkpoint``) keeps row ids instead and names files by
UUID; it could take this over once it names files by content.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray.data
from tqdm import tqdm

from infra import storage
from pipelines import plan, raydata
from pipelines.config import UserError
from pipelines.plan import PROGRESS, Plan

Row = dict[str, Any]
Columns = dict[str, Any]


class TooManyBad(UserError):
    """More than the allowed share of the inputs cannot be used."""


@dataclass(frozen=True, kw_only=True)
class ShardedJob:
    """How the inputs of one split become shards.

    ``transform`` maps a dataset of input rows to one with ``fanout`` rows each, in order; it must
    carry the columns ``shard``, the key, ``source`` (the input's file) and ``error`` (why it is
    bad, else "") through. ``write`` stores the good rows of a shard and returns what to remember.
    """

    verb: str
    """What the progress line says."""
    output: str
    fingerprint: str
    """Of everything that decides the result; another one is refused where shards exist."""
    transform: Callable[[ray.data.Dataset], ray.data.Dataset]
    write: Callable[[str, Columns], Row]
    """``write(shard name, columns)``."""
    inputs_per_shard: int
    inputs_per_block: int
    """Inputs that go through ``transform`` together. Blocks never span two shards, so that what is
    computed with what does not depend on where a job was stopped."""
    key: str = "id"
    """The column that names an input."""
    fanout: int = 1
    max_bad_share: float = 0.05


def start(job_output: str, fingerprint: str, *, overwrite: bool) -> None:
    """Claim an output folder for a job, or go on with its own unfinished work.

    Raises:
        ValueError: when the folder holds the work of a job with another fingerprint.
    """
    plan = storage.join(job_output, PROGRESS, "plan.json")
    if overwrite:
        storage.remove(job_output)
    elif storage.exists(plan):
        before = storage.read_json(plan)["fingerprint"]
        if before != fingerprint:
            raise ValueError(
                f"{job_output} holds the work of another configuration or other inputs "
                f"(fingerprint {before[:12]}, this one has {fingerprint[:12]}). Choose another "
                "output, or give --overwrite to remove it and start afresh"
            )
        return
    storage.write_json(plan, {"fingerprint": fingerprint})


def prepare(job: ShardedJob, split: str, inputs: pa.Table) -> Plan:
    """The plan of a split, with what is new in ``inputs``.

    Raises:
        ValueError: when an input changed after it was used.
    """
    before = plan.read(job.output, split, job.inputs_per_shard)
    bad = _bad_keys(_finished(job, before).values()) if before.parts else set()
    after = plan.extend(job.output, before, inputs, job.key, bad)
    if before.parts:
        gone = before.inputs and len(before.keys(job.key).keys() - set(inputs[job.key].to_pylist()))
        if gone:
            print(f"{gone} inputs of {split!r} are there no more; what was made of them stays",
                  file=sys.stderr)  # fmt: skip
    return after


def run(job: ShardedJob, planned: Plan, already_bad: int = 0) -> list[Row]:
    """Bring a split to its end: the record of every shard, by number.

    Each record has what ``write`` returned, and ``shard`` (the name), ``inputs``, ``bad`` (list of
    ``{file, reason, key}``) without what was mended and planned again.

    Args:
        job: what to do.
        planned: all inputs, those of finished shards too.
        already_bad: inputs that were bad before they became rows; they count.

    Raises:
        TooManyBad: when the share of bad inputs passes ``job.max_bad_share``.
    """
    names = [name for part in planned.shards() for name in part]
    again = planned.keys(job.key) if len(planned.parts) > 1 else {}
    part_of = {name: n for n, part in enumerate(planned.shards()) for name in part}

    def still_bad(record: Row) -> Row:
        part = part_of[record["shard"]]
        return record | {"bad": [b for b in record["bad"] if again.get(b["key"], part) == part]}

    records = {name: still_bad(record) for name, record in _finished(job, planned).items()}
    bar = progress(None, f"{job.verb} {planned.split}", planned.inputs)
    total, bad = planned.inputs + already_bad, already_bad

    def note(record: Row) -> None:
        nonlocal bad
        bad += len(record["bad"])
        bar.update(record["inputs"])
        bar.set_postfix(bad=bad, shards=f"{len(records)}/{len(names)}")
        if bad > job.max_bad_share * total:
            worst: list[Row] = record["bad"] or next(
                (r["bad"] for r in records.values() if r["bad"]), []
            )
            examples = "\n".join(f"  {b['file']}: {b['reason']}" for b in worst[:5])
            raise TooManyBad(
                f"{bad} of {total} inputs of {planned.split!r} cannot be used, more than the "
                f"allowed share of {job.max_bad_share:.1%}. Some of them:\n{examples}\n"
                "Mend them and start again, or allow more with --max-bad-share"
            )

    with bar:
        bar.initial = sum(record["inputs"] for record in records.values())
        for record in list(records.values()):
            note(record)
        for part, shards in zip(planned.parts, planned.shards(), strict=True):
            for record in _execute(job, shards, part, skip=records.keys()):
                records[record["shard"]] = still_bad(record)
                note(records[record["shard"]])
    return [records[name] for name in names]


def _bad_keys(records: Iterable[Row]) -> set[str]:
    return {bad["key"] for record in records for bad in record["bad"]}


def _record_uri(job: ShardedJob, shard: str) -> str:
    return storage.join(job.output, PROGRESS, f"{shard}.json")


def _finished(job: ShardedJob, planned: Plan) -> dict[str, Row]:
    """Records of the shards that are done, in the order of the plan."""
    where = plan.folder(job.output, planned.split)
    there = set(storage.list_files(where, (".json",))) if storage.exists(where) else set()
    names = [name for part in planned.shards() for name in part]
    done = [name for name in names if f"{name.rpartition('/')[2]}.json" in there]
    with ThreadPoolExecutor(16) as pool:
        records = pool.map(lambda name: storage.read_json(_record_uri(job, name)), done)
        return dict(zip(done, records, strict=True))


def _execute(
    job: ShardedJob, names: Sequence[str], inputs: pa.Table, skip: Collection[str]
) -> Iterator[Row]:
    """Run the shards that have no record, and yield their records as they come."""
    blocks = []
    for number, name in enumerate(names):
        if name in skip:
            continue
        shard = inputs.slice(number * job.inputs_per_shard, job.inputs_per_shard)
        shard = shard.append_column("shard", pa.array([name] * shard.num_rows))
        starts = range(0, shard.num_rows, job.inputs_per_block)
        blocks += [shard.slice(start, job.inputs_per_block) for start in starts]
    if not blocks:
        return
    # Order is what makes a block of the last stage exactly one shard.
    with raydata.ordered():
        dataset = job.transform(ray.data.from_arrow(blocks))
        dataset = dataset.repartition(
            target_num_rows_per_block=job.inputs_per_shard * job.fanout, strict=True
        )
        dataset = dataset.map_batches(_Write(job), batch_size=None, batch_format="numpy")
        for row in dataset.iter_rows():
            yield storage.read_json(_record_uri(job, row["shard"]))


class _Write:
    """Write a shard, then its record; the order is what a restart relies on."""

    def __init__(self, job: ShardedJob) -> None:
        self.job = job

    def __call__(self, columns: dict[str, Any]) -> dict[str, list[str]]:
        job = self.job
        (shard,) = set(columns["shard"])  # more than one would be a bug in the order
        good = [i for i, error in enumerate(columns["error"]) if not error]
        bad = {
            key: {"file": file, "reason": reason, "key": key}
            for key, file, reason in zip(
                columns[job.key], columns["source"], columns["error"], strict=True
            )
            if reason
        }
        kept = {
            name: [values[i] for i in good]
            for name, values in columns.items()
            if name not in ("shard", "source", "error")
        }
        record = job.write(shard, kept) if good else {}
        record |= {
            "shard": shard,
            "inputs": len(columns["shard"]) // job.fanout,
            "bad": list(bad.values()),
        }
        storage.write_json(_record_uri(job, shard), record)
        return {"shard": [shard]}


def progress(rows: Iterable[Any] | None, what: str, total: int) -> tqdm:
    """A progress bar with rate and time left; a line now and then where nobody watches."""
    interval = 1 if sys.stderr.isatty() else 10
    return tqdm(rows, desc=what, total=total, file=sys.stderr, mininterval=interval)


def quarantine_lines(records: Sequence[Row], others: Sequence[tuple[str, str]] = ()) -> list[Row]:
    """All that could not be used, as ``{file, reason}``, each once."""
    lines = list(others)
    lines += [(bad["file"], bad["reason"]) for record in records for bad in record["bad"]]
    return [{"file": file, "reason": reason} for file, reason in dict.fromkeys(lines)]
