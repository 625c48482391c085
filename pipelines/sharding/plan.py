"""What a job is to do, written down before it begins, and only ever added to.

A plan is the inputs of a split in their order, in files ``_progress/SPLIT/inputs-00000.parquet``
and so on: the first run writes the first, and each later run that finds new inputs writes one more.
A file is cut into shards, and a row group of it is one shard: so a worker reads the inputs of its
shard and no others, the driver holds none, and what a shard holds never changes, whatever is added
to a corpus while its encode is stopped.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra import storage

PROGRESS = "_progress"


@dataclass(frozen=True)
class Plan:
    """The inputs of a split, as cut into shards; the inputs themselves stay in the files."""

    output: str
    split: str
    per_shard: int
    counts: tuple[int, ...]
    """Inputs that each run added."""
    again: dict[str, int] = field(default_factory=dict)
    """Those that are in several parts, and the last of these: mended inputs."""

    @property
    def inputs(self) -> int:
        return sum(self.counts)

    def shards(self) -> list[list[str]]:
        """Names of the shards of each part, numbered through."""
        names, first = [], 0
        for rows in self.counts:
            count = -(-rows // self.per_shard)
            names.append([f"{self.split}/{first + n:05d}" for n in range(count)])
            first += count
        return names


def folder(output: str, split: str) -> str:
    return storage.join(output, PROGRESS, split)


def part_uri(output: str, split: str, part: int) -> str:
    return storage.join(folder(output, split), f"inputs-{part:05d}.parquet")


def read_shard(output: str, split: str, part: int, number: int) -> pa.Table:
    """The inputs of the ``number``-th shard of a part."""
    with storage.open_input(part_uri(output, split, part)) as file:
        return pq.ParquetFile(file).read_row_group(number)


def extend(
    output: str,
    split: str,
    per_shard: int,
    inputs: pa.Table,
    key: str,
    retry: Callable[[], Collection[str]],
) -> Plan:
    """The plan so far, and with it the inputs that it does not know and those that were mended.

    An input is known by its ``key``; where there is a column ``bytes``, another value says that
    what the key names has changed.

    Args:
        output: of the job.
        split: whose plan.
        per_shard: inputs a shard.
        inputs: all there are now.
        key: their column that names them.
        retry: gives the keys of those that could not be used, which may take a while; one that has
            changed since is planned again.

    Raises:
        ValueError: when an input changed after it was used.
    """
    parts = _read_parts(output, split)
    added = inputs
    if parts:
        known = pa.concat_tables(reversed(parts))  # the last word on a key stands first
        where = pc.index_in(inputs[key], value_set=known[key].combine_chunks())
        new = pc.is_null(where)
        if "bytes" in inputs.column_names:
            before = known["bytes"].take(where)
            changed = pc.fill_null(pc.not_equal(inputs["bytes"], before), False)
            unusable = retry() if pc.any(changed).as_py() else ()
            mended = pc.is_in(inputs[key], value_set=pa.array(sorted(unusable), pa.string()))
            used = inputs[key].filter(pc.and_not(changed, mended))
            if len(used):
                raise ValueError(
                    f"{len(used)} inputs of {split!r} have changed since they were used in "
                    f"{output}, {', '.join(used[:5].to_pylist())} for one. Put them back, give "
                    "them other names, or start afresh with --overwrite"
                )
            new = pc.or_(new, pc.and_(changed, mended))
        added = inputs.filter(new)
    if added.num_rows:
        buffer = io.BytesIO()
        pq.write_table(added, buffer, compression="zstd", row_group_size=per_shard)
        storage.write_bytes(part_uri(output, split, len(parts)), buffer.getvalue())
        parts.append(added)
    counts = tuple(part.num_rows for part in parts)
    return Plan(output, split, per_shard, counts, _again(parts, key))


def known(output: str, split: str) -> pa.Table | None:
    """All inputs that are planned, the last word on each last; None before there is a plan."""
    parts = _read_parts(output, split)
    return pa.concat_tables(parts) if parts else None


def missing(plan: Plan, inputs: pa.Table, key: str) -> int:
    """How many planned inputs are not among those found now; some may never have been files."""
    parts = _read_parts(plan.output, plan.split)
    known = pa.chunked_array([part[key] for part in parts]).unique()
    there = pc.is_in(known, value_set=inputs[key].combine_chunks())
    return len(known) - int(there.true_count)


def _read_parts(output: str, split: str) -> list[pa.Table]:
    where = folder(output, split)
    names = storage.list_files(where, (".parquet",)) if storage.exists(where) else []
    return [pq.read_table(io.BytesIO(storage.read_bytes(storage.join(where, n)))) for n in names]


def _again(parts: list[pa.Table], key: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for number, part in enumerate(parts[1:], start=1):
        before = pa.chunked_array([p[key] for p in parts[:number]]).combine_chunks()
        both = part[key].filter(pc.is_in(part[key], value_set=before))
        found |= dict.fromkeys(both.to_pylist(), number)
    return found
