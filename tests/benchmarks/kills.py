"""Kill an encode again and again, and compare what is left with an undisturbed run's.

    python -m tests.benchmarks.kills --kills 10 --storage local s3 --output out/kills

For each kind and storage, the real command is started and disturbed at random moments, and given
again whenever it ended, until it was disturbed ``--kills`` times and has finished. Then every row
must be there once, and every shard must have the bytes that it has in an undisturbed run.

    driver    SIGKILL to the command's own process; what it left of Ray dies as it may
    worker    SIGKILL to a busy Ray worker (decoder, encoder, writer); the job goes on by itself
    node      SIGKILL to the raylet, the control store and every worker at once, and to the driver
              after 10 s more (Ray would let it wait for a minute)
    outage    the S3 server is killed, is away for 30 s and comes back            (s3 only)
    errors    1 % of all requests are answered with 500 or 503, by turns          (s3 only)

It needs 'pip install -e .[pipeline,dev]' and takes half an hour on two cores. The seed makes the
moments again, as far as a busy machine keeps to them.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from infra import storage
from infra.services.s3 import S3Server
from pipelines.dataset.latents import read_manifest
from pipelines.dataset.verify import check_shard
from tests.benchmarks.disturb import Job, torment
from tests.faults import FaultyProxy
from tests.integration.test_encode import digests
from tests.pictures import CLASSES, encoded, scene, write_pair

ROOT = Path(__file__).parents[2]
KINDS = ("driver", "worker", "node", "outage", "errors")
AWAY_SECONDS = 30


@dataclass(frozen=True)
class Args:
    kills: int = 10
    """Disturbances of each kind (an outage and errors: one run)."""
    storage: tuple[Literal["local", "s3"], ...] = ("local", "s3")
    kinds: tuple[str, ...] = KINDS
    pairs: int = 480
    """Of the corpus that is encoded, 320x240 each, two views."""
    output: str = "out/kills"
    """Folder for the results, as JSON and as a Markdown table."""
    seed: int = 0


def encode(corpus: str, output: str, environment: dict[str, str], log: Path) -> Job:
    """The command that is disturbed."""
    command = [
        sys.executable, str(ROOT / "pipelines/encode.py"), "folder", "--corpus.root", corpus,
        "--corpus.classes", *CLASSES, "--autoencoder", "space-to-depth", "--height", "192",
        "--width", "256", "--views", "2", "--shard-rows", "16", "--batch-size", "8",
        "--output", output,
    ]  # fmt: skip
    return Job(command, output, environment, log)


def compare(output: str, whole: dict[str, str]) -> dict[str, Any]:
    """What differs from the undisturbed run."""
    manifest = read_manifest(output)
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    checked = {shard.path: check_shard(manifest, shard, 1e4) for shard in shards}
    names = [
        f"{path.split('/')[0]}/{name}" for path, (_, found) in checked.items() for name in found
    ]
    return {
        "rows": len(names),
        "twice": len(names) - len(set(names)),
        "faulty_shards": sum(bool(faults) for faults, _ in checked.values()),
        "other_bytes": sum(whole.get(shard.path) != shard.sha256 for shard in shards),
        "missing_shards": len(whole.keys() - {shard.path for shard in shards}),
    }


def outage(job: Job, server: S3Server, length: float, rng: random.Random) -> dict[str, Any]:
    """Kill the server in the middle, start it again half a minute later."""
    job.start()
    time.sleep(rng.uniform(0.5, 0.8) * length)
    server.stop()
    time.sleep(AWAY_SECONDS)
    server.start()
    status = job.wait(900)
    starts = 1
    while status:  # a job that gave up is started again
        job.start()
        starts, status = starts + 1, job.wait(900)
    return {"kills": 1, "starts": starts}


def errors(job: Job, server: S3Server, seed: int) -> dict[str, Any]:
    proxy = FaultyProxy(server.s3, share=0.01, seed=seed)
    job.environment = {**job.environment, "AWS_ENDPOINT_URL": proxy.url}
    job.start()
    status = job.wait(900)
    proxy.stop()
    if status:
        raise SystemExit(f"an encode with 1 % errors failed: see {job.log}")
    return {"kills": proxy.failed, "requests": proxy.seen, "starts": 1}


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    rng, home = random.Random(args.seed), Path(tempfile.mkdtemp(prefix="semflow-kills-"))
    for split, count in (("train", args.pairs), ("val", 16)):
        for number in range(count):
            image, ids = scene(number, 240, 320)
            write_pair(home / "corpus", split, f"{number:05d}", encoded(image, "JPEG"),
                       encoded(ids), "jpg")  # fmt: skip
    rows = []
    with S3Server(home / "s3") as server:
        storage.upload_folder(home / "corpus", "s3://semflow/corpus")
        for where in args.storage:
            base = str(home) if where == "local" else "s3://semflow"
            corpus = storage.join(base, "corpus")
            tracked = {"MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db"} | server.environment
            whole = encode(corpus, storage.join(base, "whole"), tracked, home / "whole.log")
            started = time.monotonic()
            whole.start()
            if whole.wait(900):
                sys.exit(f"the undisturbed encode failed: see {whole.log}")
            length = time.monotonic() - started
            print(f"{where}: undisturbed in {length:.0f} s", flush=True)
            for kind in args.kinds:
                if where == "local" and kind in ("outage", "errors"):
                    continue
                log = home / f"{where}-{kind}.log"
                job = encode(corpus, storage.join(base, kind), tracked, log)
                before = time.monotonic()
                if kind == "outage":
                    result = outage(job, server, length, rng)
                elif kind == "errors":
                    result = errors(job, server, args.seed)
                else:
                    pause = 4.0 if kind == "worker" else length  # a job survives its workers
                    result = torment(kind, job, args.kills, pause, rng)
                found = compare(job.output, digests(whole.output))
                seconds = round(time.monotonic() - before)
                rows.append({"storage": where, "kind": kind, **result, **found, "seconds": seconds})
                print(json.dumps(rows[-1]), flush=True)
    report(rows, Path(args.output), 2 * args.pairs + 16)
    shutil.rmtree(home, ignore_errors=True)


def report(rows: list[dict[str, Any]], output: Path, expected: int) -> None:
    output.mkdir(parents=True, exist_ok=True)
    (output / "kills.json").write_text(json.dumps(rows, indent=2))
    keys = ["storage", "kind", "kills", "starts", "rows", "twice", "faulty_shards", "other_bytes",
            "missing_shards", "seconds"]  # fmt: skip
    lines = ["| " + " | ".join(keys) + " |", "|" + "---|" * len(keys)]
    lines += ["| " + " | ".join(str(row[key]) for key in keys) + " |" for row in rows]
    (output / "kills.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    wrong = [r for r in rows if r["rows"] != expected or any(r[key] for key in keys[5:9])]
    print(f"{len(rows) - len(wrong)} of {len(rows)} left exactly what an undisturbed run leaves")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    main()
