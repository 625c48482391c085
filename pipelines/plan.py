"""What a job is to do, written down before it begins, and only ever added to.

A plan is the inputs of a split in their order, in files ``_progress/SPLIT/inputs-00000.parquet``
and so on: the first run writes the first, and each later run that finds new inputs writes one more.
Each file is cut into shards by itself. So what a shard holds never changes, whatever is added to
a corpus while its encode is stopped.
"""

from __future__ import annotations

import io
from collections.abc import Collection
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra import storage

PROGRESS = "_progress"


@dataclass(frozen=True)
class Plan:
    """The inputs of a split, as cut into shards."""

    split: str
    parts: tuple[pa.Table, ...]
    """What each run added."""
    per_shard: int

    @property
    def inputs(self) -> int:
        return sum(part.num_rows for part in self.parts)

    def shards(self) -> list[list[str]]:
        """Names of the shards of each part, numbered through."""
        names, first = [], 0
        for part in self.parts:
            count = -(-part.num_rows // self.per_shard)
            names.append([f"{self.split}/{first + n:05d}" for n in range(count)])
            first += count
        return names

    def keys(self, key: str) -> dict[str, int]:
        """Part that holds each key; the last one, for what was planned again."""
        return {k: n for n, part in enumerate(self.parts) for k in part[key].to_pylist()}


def folder(output: str, split: str) -> str:
    return storage.join(output, PROGRESS, split)


def read(output: str, split: str, per_shard: int) -> Plan:
    """The plan so far."""
    where = folder(output, split)
    names = storage.list_files(where, (".parquet",)) if storage.exists(where) else []
    tables = [pq.read_table(io.BytesIO(storage.read_bytes(storage.join(where, n)))) for n in names]
    return Plan(split, tuple(tables), per_shard)


def extend(output: str, plan: Plan, inputs: pa.Table, key: str, retry: Collection[str]) -> Plan:
    """Add the inputs that the plan does not know, and those of ``retry`` that were mended.

    An input is known by its ``key``; where there is a column ``bytes``, another value says that
    what the key names has changed.

    Args:
        output: of the job.
        plan: so far.
        inputs: all there are now.
        key: their column that names them.
        retry: keys of those that could not be used; one that has changed since is planned again.

    Raises:
        ValueError: when an input changed after it was used.
    """
    known = pa.chunked_array([part[key] for part in plan.parts], pa.string())
    new = pc.invert(pc.is_in(inputs[key], value_set=known))
    if "bytes" in inputs.column_names and plan.parts:
        before: dict[str, int] = {}
        for part in plan.parts:
            before |= dict(zip(part[key].to_pylist(), part["bytes"].to_pylist(), strict=True))
        now = zip(inputs[key].to_pylist(), inputs["bytes"].to_pylist(), strict=True)
        changed = {k for k, size in now if before.get(k, size) != size}
        used = sorted(changed.difference(retry))
        if used:
            raise ValueError(
                f"{len(used)} inputs of {plan.split!r} have changed since they were used in "
                f"{output}, {', '.join(used[:5])} for one. Put them back, give them other names, "
                "or start afresh with --overwrite"
            )
        new = pc.or_(new, pc.is_in(inputs[key], value_set=pa.array(sorted(changed), pa.string())))
    added = inputs.filter(new).combine_chunks()
    if not added.num_rows:
        return plan
    buffer = io.BytesIO()
    pq.write_table(added, buffer, compression="zstd")
    name = f"inputs-{len(plan.parts):05d}.parquet"
    storage.write_bytes(storage.join(folder(output, plan.split), name), buffer.getvalue())
    return Plan(plan.split, (*plan.parts, added), plan.per_shard)
