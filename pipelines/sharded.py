"""One runner for encode, label and synthesize: inputs in order, cut into shards, exactly once.

The inputs of a split are cut into shards of a fixed number; a shard is the unit of work. It is
written whole under a name that its number gives, then its record (rows, bytes, digest, what was
bad) is written beside it. Started again, the job leaves out the shards that have a record, and
what a dying job wrote without one is written over. So every good input is in the result exactly
once, whatever was killed.

Ray Data's own checkpointing (``ray.data.checkpoint``) keeps row ids instead and names files by
UUID; it could take this over once it names files by content.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import ray.data
from tqdm import tqdm

from infra import storage
from pipelines import raydata
from pipelines.config import UserError

PROGRESS = "_progress"
Row = dict[str, Any]
Columns = dict[str, Any]


class TooManyBad(UserError):
    """More than the allowed share of the inputs cannot be used."""


@dataclass(frozen=True, kw_only=True)
class ShardedJob:
    """How the inputs of one split become shards.

    ``transform`` maps a dataset of input rows to one with ``fanout`` rows each, in order; it must
    carry the columns ``shard``, ``source`` (the input's file) and ``error`` (why it is bad, else
    "") through. ``write`` stores the good rows of a shard and returns what to remember of it.
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


def run(job: ShardedJob, split: str, inputs: Sequence[Row], already_bad: int = 0) -> list[Row]:
    """Bring a split to its end: the record of every shard, by number.

    Each record has what ``write`` returned, and ``shard`` (the name), ``inputs``, ``bad`` (list of
    ``{file, reason}``).

    Args:
        job: what to do.
        split: name of the split; shard names begin with it.
        inputs: all input rows in their fixed order, those of finished shards too.
        already_bad: inputs that were bad before they became rows; they count.

    Raises:
        TooManyBad: when the share of bad inputs passes ``job.max_bad_share``.
    """
    names = _shard_names(split, len(inputs), job.inputs_per_shard)
    records = _finished(job, names)
    bar = progress(None, f"{job.verb} {split}", len(inputs))
    bad = already_bad

    def note(record: Row) -> None:
        nonlocal bad
        bad += len(record["bad"])
        bar.update(record["inputs"])
        bar.set_postfix(bad=bad, shards=f"{len(records)}/{len(names)}")
        if bad > job.max_bad_share * (len(inputs) + already_bad):
            examples = "\n".join(f"  {b['file']}: {b['reason']}" for b in record["bad"][:5])
            raise TooManyBad(
                f"{bad} of {len(inputs) + already_bad} inputs of {split!r} cannot be used, more "
                f"than the allowed share of {job.max_bad_share:.1%}. The last ones:\n{examples}\n"
                "Mend them, or allow more with --max-bad-share"
            )

    with bar:
        bar.initial = sum(record["inputs"] for record in records.values())
        for record in list(records.values()):
            note(record)
        if len(records) < len(names):
            for record in _execute(job, names, inputs, skip=records.keys()):
                records[record["shard"]] = record
                note(record)
    return [records[name] for name in names]


def _shard_names(split: str, inputs: int, per_shard: int) -> list[str]:
    return [f"{split}/{number:05d}" for number in range(-(-inputs // per_shard))]


def _record_uri(job: ShardedJob, shard: str) -> str:
    return storage.join(job.output, PROGRESS, f"{shard}.json")


def _finished(job: ShardedJob, names: Sequence[str]) -> dict[str, Row]:
    folder = storage.join(job.output, PROGRESS)
    there = set(storage.list_files(folder, (".json",))) if storage.exists(folder) else set()
    done = [name for name in names if f"{name}.json" in there]
    with ThreadPoolExecutor(16) as pool:
        records = pool.map(lambda name: storage.read_json(_record_uri(job, name)), done)
        return dict(zip(done, records, strict=True))


def _execute(
    job: ShardedJob, names: Sequence[str], inputs: Sequence[Row], skip: Any
) -> Iterator[Row]:
    """Run the shards that have no record, and yield their records as they come."""
    rows = [
        row | {"shard": name}
        for number, name in enumerate(names)
        if name not in skip
        for row in inputs[number * job.inputs_per_shard : (number + 1) * job.inputs_per_shard]
    ]
    # Order is what makes a block of the last stage exactly one shard.
    with raydata.ordered():
        blocks = min(len(rows), max(8, len(rows) // 64))
        dataset = job.transform(ray.data.from_items(rows, override_num_blocks=blocks))
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
            source: error
            for source, error in zip(columns["source"], columns["error"], strict=True)
            if error
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
            "bad": [{"file": file, "reason": reason} for file, reason in bad.items()],
        }
        storage.write_json(_record_uri(job, shard), record)
        return {"shard": [shard]}


def progress(rows: Iterable[Any] | None, what: str, total: int) -> tqdm:
    """A progress bar with rate and time left; a line now and then where nobody watches."""
    interval = 1 if sys.stderr.isatty() else 10
    return tqdm(rows, desc=what, total=total, file=sys.stderr, mininterval=interval)


def quarantine_lines(records: Sequence[Row], others: Sequence[tuple[str, str]] = ()) -> list[Row]:
    """All that could not be used, as ``{file, reason}``."""
    lines = [{"file": file, "reason": reason} for file, reason in others]
    return lines + [bad for record in records for bad in record["bad"]]
