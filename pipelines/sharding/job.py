"""What a job says of itself to the runner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.sharding import raydata
from pipelines.sharding.threads import THREADS

Row = dict[str, Any]
Columns = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ShardedJob:
    """How the inputs of one split become shards.

    ``decode`` makes of one input ``fanout`` rows; each must have the columns ``shard`` and the key
    (of the input), ``source`` (its file) and ``error`` (why it is bad, else ""). ``model``'s actors
    map blocks of these rows to what ``write`` stores, in order, and carry those columns through;
    ``write`` stores the good rows of a shard and returns what to remember.
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
    """Inputs that are decoded at once in a process, see :mod:`pipelines.sharding.threads`."""
    key: str = "id"
    """The column that names an input."""
    fanout: int = 1
    max_bad_share: float = 0.05
