"""Requests a second and latency of the service, with and without batching, side by side.

    python -m tests.benchmarks.serve --model out/demo/run/model --photos out/demo/corpus/images/val

Two services of the same model in one Ray answer in turn: one computes up to 16 requests together,
the other each alone. Clients are coroutines of this process, each with one connection that it
keeps; a client sends its next photo when it has its answer. Clients, proxy and model share the
machine's cores.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import tyro
from ray import serve

from infra import storage
from pipelines import corpora
from pipelines.serve import build
from pipelines.serving.config import ServiceConfig
from pipelines.sharding import raydata

PORT = 18200


@dataclass(frozen=True)
class Args:
    model: str
    photos: str
    masks: str = ""
    """Folder of masks: synthesize them instead of segmenting photos."""
    clients: tuple[int, ...] = (1, 8, 32)
    seconds: float = 10.0
    """Of each measurement, after a second that is not counted."""
    rounds: int = 3
    max_batch: int = 16
    threads: int = 0
    output: str = ""
    """JSON of all rounds."""


@dataclass(frozen=True)
class Result:
    """One measurement."""

    rate: float  # requests a second
    p50: float  # milliseconds
    p95: float
    batch: float  # rows computed together, mean


async def drive(url: str, verb: str, files: list[bytes], clients: int, seconds: float) -> Result:
    """Send requests for some seconds from so many clients."""
    taken: list[float] = []
    endless = itertools.cycle(files)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def counts() -> dict[str, int]:
            async with session.get(f"{url}/health") as answer:
                found: dict[str, int] = (await answer.json())[verb]
                return found

        async def client(start: float) -> None:
            headers = {"Content-Type": "image/png"}
            while (sent := time.perf_counter()) < start + seconds:
                async with session.post(f"{url}/{verb}", data=next(endless), headers=headers) as a:
                    await a.read()
                    if a.status != 200:
                        raise RuntimeError(await a.text())
                if sent >= start:
                    taken.append(time.perf_counter() - sent)

        before, start = await counts(), time.perf_counter() + 1
        await asyncio.gather(*(client(start) for _ in range(clients)))
        elapsed, after = time.perf_counter() - start, await counts()
    cuts = statistics.quantiles(taken, n=20, method="inclusive")
    batch = (after["rows"] - before["rows"]) / (after["batches"] - before["batches"])
    return Result(len(taken) / elapsed, 1000 * cuts[9], 1000 * cuts[18], batch)


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    verb, folder = ("synthesize", args.masks) if args.masks else ("segment", args.photos)
    paths = storage.list_files(folder, corpora.MASKS if args.masks else corpora.PHOTOS)[:64]
    files = [storage.read_bytes(storage.join(folder, path)) for path in paths]
    raydata.init(None, quiet=True)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(http_options={"port": PORT}, logging_config={"log_level": "WARNING"})
    for name, batch in (("batched", args.max_batch), ("alone", 1)):
        cfg = ServiceConfig(
            model=storage.absolute(args.model), max_batch=batch, threads=args.threads
        )
        serve.run(build(cfg), name=name, route_prefix=f"/{name}")
    results: dict[tuple[int, str], list[Result]] = {}
    for _ in range(args.rounds):
        for clients, name in itertools.product(args.clients, ("alone", "batched")):
            url = f"http://127.0.0.1:{PORT}/{name}"
            result = asyncio.run(drive(url, verb, files, clients, args.seconds))
            results.setdefault((clients, name), []).append(result)
            print(clients, name, result, flush=True)
    serve.shutdown()
    print(f"\n{verb}, medians of {args.rounds} rounds of {args.seconds:g} s")
    print(
        "| clients | | requests/s | p50, ms | p95, ms | rows a batch |\n|--:|---|--:|--:|--:|--:|"
    )
    for (clients, name), rounds in results.items():
        m = {key: statistics.median(getattr(r, key) for r in rounds) for key in vars(rounds[0])}
        print(f"| {clients} | {name} | {m['rate']:.1f} | {m['p50']:.0f} | {m['p95']:.0f} "
              f"| {m['batch']:.1f} |")  # fmt: skip
    if args.output:
        rows = [{"clients": clients, "name": name, **vars(r)}
                for (clients, name), rounds in results.items() for r in rounds]  # fmt: skip
        Path(args.output).write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
