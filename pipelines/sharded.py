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
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from threading import Lock
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import pyarrow as pa
import ray.data
from tqdm import tqdm

from infra import storage
from pipelines import plan, raydata
from pipelines.config import UserError
from pipelines.plan import PROGRESS, Plan

Row = dict[str, Any]
Columns = dict[str, Any]
T = TypeVar("T")
Item = TypeVar("Item")

THREADS = 8
WRITE_CPUS = 0.5


class Done(NamedTuple):
    """A split that came to its end."""

    records: list[Row]
    """Of every shard, by number."""
    inputs: int
    """That this process brought there, not an earlier one."""
    seconds: float


class TooManyBad(UserError):
    """More than the allowed share of the inputs cannot be used."""


@dataclass(frozen=True, kw_only=True)
class ShardedJob:
    """How the inputs of one split become shards.

    ``decode`` makes of one input ``fanout`` rows; each must have the columns ``shard`` and the key
    (of the input), ``source`` (its file) and ``error`` (why it is bad, else ""). ``model``'s actors
    map blocks of these rows to what ``write`` stores, in order, and carry those columns through;
    ``write`` stores the good rows of a shard and returns what to remember.

    Where actors have GPUs, decoding and writing are tasks on other cores, so that a GPU waits for
    neither. Without, there are only cores, and each actor does all of a shard itself: rows between
    processes, and more processes than cores, would take a third of them (docs/labelling.md).
    """

    verb: str
    """What the progress line says."""
    output: str
    fingerprint: str
    """Of everything that decides the result; another one is refused where shards exist."""
    decode: Callable[[Row], Sequence[Row]]
    model: raydata.Actors
    write: Callable[[str, Columns], Row]
    """``write(shard name, columns)``."""
    inputs_per_shard: int
    inputs_per_block: int
    """Inputs that go through the model together. Blocks never span two shards, so that what is
    computed with what does not depend on where a job was stopped."""
    read_threads: int = THREADS
    """Inputs that are decoded at once in a process, see :func:`threads_for`."""
    key: str = "id"
    """The column that names an input."""
    fanout: int = 1
    max_bad_share: float = 0.05


def noted(job_output: str) -> Row:
    """What was noted when a job claimed this output; nothing if none did."""
    location = _claim_uri(job_output)
    return dict(storage.read_json(location)) if storage.exists(location) else {}


def _claim_uri(job_output: str) -> str:
    return storage.join(job_output, PROGRESS, "plan.json")


def start(job_output: str, fingerprint: str, *, overwrite: bool, note: Row | None = None) -> None:
    """Claim an output folder for a job, or go on with its own unfinished work.

    ``note`` is kept for :func:`noted`.

    Raises:
        ValueError: when the folder holds the work of a job with another fingerprint.
    """
    if overwrite:
        storage.remove(job_output)
    elif before := noted(job_output).get("fingerprint"):
        if before != fingerprint:
            raise ValueError(
                f"{job_output} holds the work of another configuration or other inputs "
                f"(fingerprint {before[:12]}, this one has {fingerprint[:12]}). Choose another "
                "output, or give --overwrite to remove it and start afresh"
            )
        return
    storage.write_json(_claim_uri(job_output), {"fingerprint": fingerprint} | (note or {}))


def keep_apart(output: str, inputs: str) -> None:
    """Refuse an output that has the inputs in it: ``--overwrite`` would remove them.

    Raises:
        ValueError: in that case.
    """
    if storage.below(inputs, output) is not None:
        raise ValueError(f"the output {output} would be in place of its inputs, {inputs}, or around"
                         " them: choose another one")  # fmt: skip


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
        print(f"{gone} inputs of {split!r} are there no more; what was made of them stays",
              file=sys.stderr)  # fmt: skip
    return planned


def run(job: ShardedJob, planned: Plan, already_bad: int = 0) -> Done:
    """Bring a split to its end.

    Each shard's record has what ``write`` returned, and ``shard`` (the name), ``inputs``, ``bad``
    (list of ``{file, reason, key}``) without what was mended and planned again.

    Args:
        job: what to do.
        planned: all inputs, those of finished shards too.
        already_bad: inputs that were bad before they became rows; they count.

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
        for part in range(len(planned.counts)):
            for record in _execute(job, planned, part, skip=records.keys()):
                records[record["shard"]] = still_bad(record)
                note(records[record["shard"]])
        fresh, seconds = bar.n - bar.initial, float(bar.format_dict["elapsed"])
    return Done([records[name] for name in names], fresh, seconds)


def _record_uri(job: ShardedJob, shard: str) -> str:
    return storage.join(job.output, PROGRESS, f"{shard}.json")


def _finished(job: ShardedJob, split: str) -> list[Row]:
    """Records of the shards that are done, in order."""
    where = plan.folder(job.output, split)
    names = storage.list_files(where, (".json",)) if storage.exists(where) else []
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda name: storage.read_json(storage.join(where, name)), names))


def _execute(job: ShardedJob, planned: Plan, part: int, skip: Collection[str]) -> Iterator[Row]:
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
            yield storage.read_json(_record_uri(job, row["shard"]))


def _apart(job: ShardedJob, numbers: ray.data.Dataset, decode: _Decode) -> ray.data.Dataset:
    """Tasks that decode, actors with the model, tasks that write."""
    decoded = numbers.map_batches(decode, batch_size=1)
    # One task a shard, which hands on its blocks as they are ready. The two become one stage
    # only while both take what Ray gives by default; as a stage of its own, the repartition
    # kept the writers from their cores for as long as it had something to do.
    blocks = decoded.repartition(
        target_num_rows_per_block=job.inputs_per_block * job.fanout, strict=False
    )
    # Order is what makes a bundle of the last stage exactly one shard.
    return raydata.actor_stage(blocks, job.model).map_batches(
        _Write(job),
        batch_size=job.inputs_per_shard * job.fanout,
        batch_format="numpy",
        num_cpus=WRITE_CPUS,
    )


def _together(
    job: ShardedJob, numbers: ray.data.Dataset, decode: _Decode, count: int
) -> ray.data.Dataset:
    """Actors that decode, compute and write a shard, no more than there are shards."""
    return raydata.whole_stage(numbers, _Shard, (job, decode), job.model.at_most(count))


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
        # Popped, so that no more than a column is held twice.
        joined = {key: _joined([block.pop(key) for block in blocks]) for key in list(blocks[0])}
        return self.write(joined)


def _joined(parts: list[Any]) -> Any:
    return np.concatenate([np.asarray(part) for part in parts])


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


def side_by_side(
    function: Callable[[Item], T], items: Iterable[Item], threads: int = THREADS
) -> Iterator[T]:
    """``map`` on threads, in order and a few ahead: storage makes one wait, decoders free the lock.

    Unlike an executor's own ``map``, it takes no more items than it has room for. With one thread
    it is ``map``.
    """
    if threads == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[T]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def threads_for(uri: str, gpus: float) -> int:
    """How many files to read or write at once in a process, where they are at ``uri``.

    Several where storage makes one wait, or a GPU does. Local files are work for cores that have an
    actor each: threads that take turns with Python's lock took twice the time for small ones.
    """
    return 1 if storage.is_local(uri) and not gpus else THREADS


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same, with the next one being made on a thread while one is looked at."""
    end = object()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, items, end)
        while (item := waiting.result()) is not end:
            waiting = pool.submit(next, items, end)
            yield cast(T, item)


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
