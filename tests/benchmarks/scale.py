"""What a dataset's size costs whoever opens it: from ten thousand rows to a million.

    python -m tests.benchmarks.scale --output out/scale

Writes datasets of small rows in shards of 500 and, in a fresh process for each, times what a
training run does before its first step: read the manifest, compare it with the files (as ``verify
--quick`` does), make the order and read a first batch from the middle, then a hundred more; and
notes its memory after each; from the local disk and from a real S3 server on loopback. The plot is
docs/reference/pictures/scale.png.
"""

from __future__ import annotations

import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from infra import storage
from infra.services.s3 import S3Server
from pipelines.dataset import latents
from semflow import make_palette

SHARD_ROWS, GROUP_ROWS = 500, 125
LATENT, SIDE = (4, 4, 4), 32


@dataclass(frozen=True)
class Args:
    rows: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    stores: tuple[Literal["local", "s3"], ...] = ("local", "s3")
    output: str = "out/scale"
    """Folder for scale.json and scale.png."""
    measure: str = ""
    """(for itself) the dataset that this process opens."""


def write(folder: str, rows: int) -> None:
    rng = np.random.default_rng(0)
    shards = []
    latent = rng.standard_normal((SHARD_ROWS, *LATENT)).astype(np.float16)
    mask = np.zeros((SHARD_ROWS, SIDE, SIDE), np.uint8)
    for number in range(rows // SHARD_ROWS):
        columns = {
            "id": [f"{number:05d}/{i:05d}" for i in range(SHARD_ROWS)],
            "view": [0] * SHARD_ROWS, "crop": np.zeros((SHARD_ROWS, 4), np.int32),
            "flip": [False] * SHARD_ROWS, "mask": mask, "image_mean": latent,
            "mask_draw_0": latent, "mask_draw_1": latent,
        }  # fmt: skip
        data, groups = latents.parquet_bytes(latents.to_table(columns, "{}"), GROUP_ROWS)
        path = f"train/{number:05d}.parquet"
        storage.write_bytes(storage.join(folder, path), data)
        shards.append(latents.Shard(path, SHARD_ROWS, len(data), storage.digest(data), groups))
    recipe = {"autoencoder": {"stochastic": False, "source": ""}, "draws": 2}
    latents.write_manifest(
        latents.Manifest(
            uri=folder, fingerprint="synthetic", recipe=recipe, corpus={},
            palette=make_palette("spread", 3), height=SIDE, width=SIDE, quarantined=0,
            splits={"train": latents.Split(rows, rows, tuple(shards), (0, 0, 0))}, codec_ceiling={},
        )
    )  # fmt: skip


def measure(folder: str) -> dict[str, Any]:
    """Seconds and memory (MB, this process) after each step of opening a dataset."""
    from pipelines.dataset.verify import sizes_differ, strangers
    from pipelines.training.feed import Feed, Order

    steps: dict[str, Any] = {"rows": 0, "before_mb": memory()}
    started = time.perf_counter()

    def note(step: str) -> None:
        nonlocal started
        steps[f"{step}_s"] = time.perf_counter() - started
        steps[f"{step}_mb"] = memory()
        started = time.perf_counter()

    manifest = latents.read_manifest(folder)
    split = manifest.split("train")
    steps["rows"] = split.rows
    note("manifest")
    there = storage.find(manifest.uri, (".parquet",))
    assert not sizes_differ(manifest, there) | strangers(manifest, there)
    note("quick_verify")
    order = Order.of(split, seed=0, groups=16, batch_size=64)
    middle = split.rows // 64 // 2
    batches = Feed(manifest, "train", order, range(64), online=False).batches(middle, 2 * middle)
    next(batches)
    note("first_batch")
    for _ in range(min(100, middle - 1)):
        next(batches)
    note("hundred_batches")
    return steps


def memory() -> float:
    """Largest so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def plot(found: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    names = {"manifest": "read the manifest", "quick_verify": "compare with the files",
             "first_batch": "first batch, from the middle"}  # fmt: skip
    for store, line in (("local", "o-"), ("s3", "s--")):
        here = [f for f in found if f["store"] == store]
        rows = [f["rows"] for f in here]
        for colour, (key, name) in enumerate(names.items()):
            left.plot(rows, [f[f"{key}_s"] for f in here], line, color=f"C{colour}",
                      label=f"{name}, {store}", markersize=4)  # fmt: skip
        for colour, (key, name) in enumerate(
            (("before", "before"), ("hundred_batches", "after 101 batches"))
        ):
            right.plot(rows, [f[f"{key}_mb"] for f in here], line, color=f"C{colour}",
                       label=f"{name}, {store}", markersize=4)  # fmt: skip
    left.set(xscale="log", yscale="log", xlabel="rows", ylabel="seconds", ylim=(5e-6, 3))
    left.legend(fontsize=7, frameon=False, loc="lower right")
    top = 1.3 * max(f["hundred_batches_mb"] for f in found)
    right.set(xscale="log", xlabel="rows", ylabel="memory of the process, MB", ylim=(0, top))
    right.legend(fontsize=7, frameon=False, loc="lower left")
    figure.savefig(path, dpi=110)


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    if args.measure:
        print(json.dumps(measure(args.measure)))
        return
    output, found = Path(args.output), []
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home, ExitStack() as stack:
        place = {"local": home}
        if "s3" in args.stores:
            server = stack.enter_context(S3Server(f"{home}/s3"))
            place["s3"] = f"s3://{server.bucket}"
        for store, rows in itertools.product(args.stores, args.rows):
            folder = storage.join(place[store], str(rows))
            write(folder, rows)
            command = [sys.executable, "-m", "tests.benchmarks.scale", "--measure", folder]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found.append({"store": store} | json.loads(done.stdout.strip().splitlines()[-1]))
            print(found[-1], flush=True)
            storage.remove(folder)
    (output / "scale.json").write_text(json.dumps(found, indent=2))
    plot(found, output / "scale.png")


if __name__ == "__main__":
    main()
