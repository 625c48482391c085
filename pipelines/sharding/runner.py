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
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from typing import Any, NamedTuple

import pyarrow as pa
from tqdm import tqdm

from infra import storage
from pipelines.config import UserError
from pipelines.sharding import claim, plan
from pipelines.sharding.job import Row, ShardedJob
from pipelines.sharding.plan import Plan
from pipelines.sharding.stages import execute


class Done(NamedTuple):
    """A split that came to its end."""

    records: list[Row]
    """Of every shard, by number."""
    inputs: int
    """That this process brought there, not an earlier one."""
    seconds: float


class TooManyBad(UserError):
    """More than the allowed share of the inputs cannot be used."""


def prepare(job: ShardedJob, split: str, inputs: pa.Table) -> Plan:
    """The plan of a split, with what is new in ``inputs``.

    Raises:
        ValueError: when an input changed after it was used.
    """

    def bad() -> set[str]:
        return {bad["key"] for record in _finished(job, split) for bad in record["bad"]}

    planned = plan.extend(job.output, split, job.inputs_per_shard, inputs, job.key, bad)
    suspect = planned.inputs - len(planned.again) > inputs.num_rows
    gone = plan.missing(planned, inputs, job.key) if suspect else 0
    if gone:
        print(f"{gone} inputs that an earlier run found of {split!r} are not found now; what was "
              "made of them, if anything, stays", file=sys.stderr)  # fmt: skip
    return planned


def run(job: ShardedJob, planned: Plan, already_bad: Sequence[tuple[str, str]] = ()) -> Done:
    """Bring a split to its end.

    Each shard's record has what ``write`` returned, and ``shard`` (the name), ``inputs``, ``bad``
    (list of ``{file, reason, key}``) without what was mended and planned again.

    Args:
        job: what to do.
        planned: all inputs, those of finished shards too.
        already_bad: what was bad before it became a row, ``(file, reason)``; it counts.

    Raises:
        TooManyBad: when the share of bad inputs passes ``job.max_bad_share``.
    """
    names = [name for part in planned.shards() for name in part]
    part_of = {name: n for n, part in enumerate(planned.shards()) for name in part}

    def still_bad(record: Row) -> Row:
        part = part_of[record["shard"]]
        return record | {
            "bad": [b for b in record["bad"] if planned.again.get(b["key"], part) == part]
        }

    records = {record["shard"]: still_bad(record) for record in _finished(job, planned.split)}
    if len(records) < len(names):
        storage.remove_partials(job.output)
    bar = progress(None, f"{job.verb} {planned.split}", planned.inputs)
    total, bad = planned.inputs + len(already_bad), len(already_bad)

    def check(worst: Iterable[tuple[str, str]]) -> None:
        if bad > job.max_bad_share * total:
            examples = "\n".join(f"  {file}: {reason}" for file, reason in islice(worst, 5))
            raise TooManyBad(
                f"{bad} of {total} inputs of {planned.split!r} cannot be used, more than the "
                f"allowed share of {job.max_bad_share:.1%}. Some of them:\n{examples}\n"
                "Mend them and start again, or allow more with --max-bad-share"
            )

    check(already_bad)  # what is known before is said before the first shard

    def note(record: Row) -> None:
        nonlocal bad
        bad += len(record["bad"])
        bar.update(record["inputs"])
        bar.set_postfix(bad=bad, shards=f"{len(records)}/{len(names)}")
        rows = (b for one in (record, *records.values()) for b in one["bad"])
        check(chain(((b["file"], b["reason"]) for b in rows), already_bad))

    with bar:
        bar.initial = sum(record["inputs"] for record in records.values())
        for record in list(records.values()):
            note(record)
        for part in range(len(planned.counts)):
            for record in execute(job, planned, part, skip=records.keys()):
                records[record["shard"]] = still_bad(record)
                note(records[record["shard"]])
                claim.stands(job.output)
        claim.stands(job.output)
        fresh, seconds = bar.n - bar.initial, float(bar.format_dict["elapsed"])
    return Done([records[name] for name in names], fresh, seconds)


def _finished(job: ShardedJob, split: str) -> list[Row]:
    """Records of the shards that are done, in order."""
    where = plan.folder(job.output, split)
    names = storage.list_files(where, (".json",)) if storage.exists(where) else []
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda name: storage.read_json(storage.join(where, name)), names))


def progress(rows: Iterable[Any] | None, what: str, total: int) -> tqdm:
    """A progress bar with rate and time left; a line now and then where nobody watches."""
    interval = 1 if sys.stderr.isatty() else 10
    return tqdm(rows, desc=what, total=total, file=sys.stderr, mininterval=interval)


def quarantine_lines(records: Sequence[Row], others: Sequence[tuple[str, str]] = ()) -> list[Row]:
    """All that could not be used, as ``{file, reason}``, each once."""
    lines = list(others)
    lines += [(bad["file"], bad["reason"]) for record in records for bad in record["bad"]]
    return [{"file": file, "reason": reason} for file, reason in dict.fromkeys(lines)]
