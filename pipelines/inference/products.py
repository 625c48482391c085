"""What label and synthesize share: names, actors, files, a table, and a summary that ends it."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa

from infra import storage, tracking
from infra.console import say
from pipelines import config
from pipelines.corpora.pair import left_over
from pipelines.corpora.pixels import BadInput
from pipelines.corpora.readers.pictures import pictures_below
from pipelines.dataset.latents import parquet_bytes
from pipelines.sharding import claim, driver, runner
from pipelines.sharding.job import Row, ShardedJob
from pipelines.sharding.threads import side_by_side

TABLE = "table"
NAME_BYTES = 255
"""Most of a file's or folder's name, as nearly all filesystems have it."""
CHUNK = 10_000
"""Rows that become columns together."""
Files = Mapping[str, Callable[[], bytes]]
"""Files to make: path below the output, and what makes its bytes."""
Finish = Callable[[Sequence[Row], tracking.Run], Row]
"""Takes the table's files, in order, and the MLflow run."""


def unique_names(paths: Sequence[str]) -> list[str]:
    """A name for each path: without its suffix, unless two would then be alike."""
    stems = [os.path.splitext(path)[0] for path in paths]
    count = Counter([*stems, *paths])
    return [stem if count[stem] == 1 else path for stem, path in zip(stems, paths, strict=True)]


def check_name(name: str) -> None:
    """Refuse a name that an output cannot be called by.

    Raises:
        BadInput: when a file of it would have a name of more than ``NAME_BYTES``.
    """
    longest = max(len(os.fsencode(part)) for part in f"{name}.png".split("/"))
    if longest > NAME_BYTES:
        raise BadInput(f"its mask or image would have a name of {longest} bytes, and {NAME_BYTES} "
                       "are the most that a file's may have: give it a shorter one")  # fmt: skip


def find_inputs(folder: str, suffixes: Sequence[str], output: str) -> dict[str, int]:
    """Files below ``folder`` by relative path, with their bytes; not those of the output in it.

    Files without a suffix are taken where they begin as pictures do; what is not taken is said.

    Raises:
        FileNotFoundError: when there is no such folder.
        ValueError: when there is no such file, or the folder lies in the output.
    """
    claim.not_in_place_of(output, folder)
    found, left = pictures_below(folder, suffixes)
    if inside := storage.below(output, folder):
        found = {path: n for path, n in found.items() if not path.startswith(f"{inside}/")}
        left = [path for path in left if not path.startswith(f"{inside}/")]
    others = "; ".join(map(str, left_over(left)))
    if not found:
        more = f", and not taken are {others}" if others else ""
        raise ValueError(f"no file in {folder} is one of {', '.join(suffixes)}{more}")
    if others:
        say(f"not taken are {others}", error=True)
    return found


def rows_of(columns: Mapping[str, Any]) -> list[Row]:
    """Columns as rows."""
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]


def table_of(rows: Iterable[Row]) -> pa.Table:
    """Rows as a table, a few at a time: as dictionaries, all of them would take a kilobyte each."""
    rows, parts = iter(rows), []
    while some := list(islice(rows, CHUNK)):
        parts.append(pa.Table.from_pylist(some))
    return pa.concat_tables(parts)


def shard_number(shard: str) -> str:
    """``00007`` of ``table/00007`` and ``table/00007.parquet``."""
    return shard.rpartition("/")[2].removesuffix(".parquet")


def write_shard(
    output: str, shard: str, table: pa.Table, files: Files, metadata: str, threads: int
) -> Row:
    """Write a shard's files, ``threads`` of them at once, then its table."""

    def write(file: tuple[str, Callable[[], bytes]]) -> None:
        path, make = file
        storage.write_bytes(storage.join(output, path), make())

    list(side_by_side(write, files.items(), threads))
    data, _ = parquet_bytes(table.replace_schema_metadata({"semflow": metadata}), table.num_rows)
    path = f"{shard}.parquet"
    storage.write_bytes(storage.join(output, path), data)
    return {"path": path, "rows": table.num_rows, "sha256": storage.digest(data)}


def produce(
    job: ShardedJob,
    cfg: Any,
    summary: str,
    inputs: Callable[[], pa.Table],
    more: Row,
    finish: Finish | None = None,
) -> Row:
    """Run a job to its summary, the file that makes the product whole; or find it there.

    ``inputs`` are asked for once the output is known to be this job's. ``finish`` makes, of the
    shards' ``{path, rows, sha256}``, what there is one of for all of them, and returns more for the
    summary. Where a job was killed in it, it is called again.

    Raises:
        ValueError: when the output holds other work, or an input changed after it was used.
        TooManyBad: when too many inputs cannot be used.
    """
    claim.start(job.output, job.fingerprint, cfg)
    location = storage.join(job.output, summary)
    plan = runner.prepare(job, TABLE, inputs())
    if storage.exists(location) and (done := storage.read_json(location))["inputs"] == plan.inputs:
        print(f"{job.output} is finished: nothing to do")
        return dict(done)
    params = config.flatten(config.to_dict(cfg))
    with driver.at_work(job.output), tracking.run(job.verb, job.output, params) as run:
        records, fresh, seconds = runner.run(job, plan)
        quarantined = runner.quarantine_lines(records)
        for line in quarantined[:10]:
            print(f"quarantined: {line['file']}: {line['reason']}", file=sys.stderr)
        keys = ("path", "rows", "sha256")
        shards = [{key: record[key] for key in keys} for record in records if "path" in record]
        result = {
            "fingerprint": job.fingerprint,
            "model": cfg.model,
            **more,
            "inputs": plan.inputs,
            "rows": sum(shard["rows"] for shard in shards),
            "shards": shards,
            "quarantined": quarantined,
        }
        if finish:
            result |= finish(shards, run)
        storage.write_json(location, result)
        run.metrics({"rows": result["rows"], "quarantined": len(quarantined)})
        if fresh:
            run.metrics(throughput(fresh, seconds, cfg.actors.price_per_hour))
    return dict(storage.read_json(location))


def throughput(inputs: int, seconds: float, price: float | None) -> dict[str, float]:
    """Say how fast it was, and what a million would take; the same as metrics.

    Args:
        inputs: that were done.
        seconds: that they took, from the start of the actors on.
        price: of all machines an hour, if it is known.
    """
    rate, hours = inputs / seconds, seconds / inputs * 1e6 / 3600
    found = {"images_per_s": rate, "hours_per_million": hours}
    cost = ""
    if price is not None:
        found["cost_per_million"] = price * hours
        cost = f", at {price:g} an hour: {price * hours:.2f}"
    print(f"{inputs} in {seconds:.0f} s, {rate:.1f} images/s; a million in {hours:.1f} hours{cost}")
    return found
