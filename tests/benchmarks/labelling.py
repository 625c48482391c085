"""Label very many small photos: at what rate, in how much memory, and whether kills leave a trace.

    python -m tests.benchmarks.labelling --photos 100000 --output out/labelling

A tiny model with random weights (3 M parameters, 32x32) labels the photos by the real command: once
left alone, then killed ``--kills`` times at random moments and given again. The files of both must
have the same bytes. Beside it runs what one would write by hand: one process that reads, decodes,
segments, encodes and writes batch after batch; it labels the first ``--bare`` of the photos before
and after the job, and the ratio is of rates. The driver's memory is looked at every second.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import tyro
from PIL import Image

from semflow import SemFlow, Solver, load_autoencoder, make_palette, make_velocity
from semflow.sampler import Defaults
from tests.benchmarks.disturb import Job, torment

ROOT = Path(__file__).parents[2]
SIDE = 32
FOLDER = 1000
"""Photos a folder."""


@dataclass(frozen=True)
class Args:
    photos: int = 100_000
    kills: int = 10
    bare: int = 10_000
    batch: int = 64
    actors: int = 0
    output: str = "out/labelling"
    seed: int = 0


def write_photos(folder: Path, count: int) -> None:
    """Photos of a few hundred different scenes."""
    rng = np.random.default_rng(0)
    scenes = []
    for _ in range(256):
        small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
        buffer = io.BytesIO()
        small.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(buffer, "PNG")
        scenes.append(buffer.getvalue())
    for number in range(count):
        path = folder / f"{number // FOLDER:04d}" / f"{number % FOLDER:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(scenes[number % len(scenes)])


def write_model(folder: Path) -> None:
    torch.manual_seed(0)
    SemFlow(
        make_velocity("tiny", 48), load_autoencoder("space-to-depth"),
        make_palette("sphere", ("a", "b", "c", "d")),
        Defaults(height=SIDE, width=SIDE, segment=Solver(steps=1)),
    ).save(folder)  # fmt: skip


def bare(model: SemFlow, photos: list[Path], output: Path, batch: int) -> float:
    """Seconds that the loop by hand takes."""
    started = time.perf_counter()
    palette = model.palette.png_palette()
    output.mkdir(parents=True, exist_ok=True)
    for first in range(0, len(photos), batch):
        paths = photos[first : first + batch]
        pixels = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])
        images = torch.from_numpy(pixels).movedim(-1, 1).float() / 127.5 - 1
        for path, ids in zip(paths, model.segment(images).ids.byte().numpy(), strict=True):
            mask = Image.fromarray(ids)
            mask.putpalette(palette)
            mask.save(output / f"{path.parent.name}-{path.stem}.png")
    return time.perf_counter() - started


class Resumed(Job):
    """Notes how many shards each start found finished."""

    def start(self) -> None:
        self.found = [*getattr(self, "found", []),
                      len(list(Path(self.output, "_progress/table").glob("0*.json")))]  # fmt: skip
        super().start()


class Memory(threading.Thread):
    """The resident memory of a process, in MB, every second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.process, self.seen = psutil.Process(pid), []
        self.start()

    def run(self) -> None:
        while True:
            try:
                self.seen.append(self.process.memory_info().rss / 1e6)
            except psutil.NoSuchProcess:
                return
            time.sleep(1)


def digests(output: Path) -> dict[str, str]:
    """Of all that a job leaves but the note of its MLflow run."""
    return {
        str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(output.rglob("*"))
        if path.is_file() and path.name != "mlflow.json"
    }


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    home = Path(tempfile.mkdtemp(prefix="semflow-labelling-"))
    write_photos(home / "photos", args.photos)
    write_model(home / "model")
    model = SemFlow.load(home / "model")
    some = sorted((home / "photos").rglob("*.png"))[: args.bare]

    def job(name: str) -> Resumed:
        command = [
            sys.executable, str(ROOT / "pipelines/label.py"), "--model", str(home / "model"),
            "--images", str(home / "photos"), "--output", str(home / name),
            "--actors.batch-size", str(args.batch), "--actors.actors", str(args.actors),
            "--photos-per-shard", "1000",
        ]  # fmt: skip
        environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db"}
        return Resumed(command, str(home / name), environment, home / f"{name}.log")

    loop = [bare(model, some, home / "bare", args.batch)]
    whole = job("whole")
    started = time.monotonic()
    whole.start()
    assert whole.process
    memory = Memory(whole.process.pid)
    if whole.wait(3600):
        sys.exit(whole.log.read_text()[-3000:])
    seconds = time.monotonic() - started
    loop.append(bare(model, some, home / "bare", args.batch))
    said = [line for line in whole.log.read_text().splitlines() if "images/s; a million" in line]
    seen = memory.seen
    result: dict[str, Any] = vars(args) | {
        "seconds": seconds, "said": said[-1], "bare_images_per_s": [len(some) / s for s in loop],
        "driver_mb": {"tenth": seen[len(seen) // 10], "half": seen[len(seen) // 2],
                      "most": max(seen)},
    }  # fmt: skip
    print(json.dumps(result, indent=2), flush=True)
    expected = digests(home / "whole")
    shutil.rmtree(home / "whole")
    if args.kills:
        rng = random.Random(args.seed)
        killed = job("killed")
        result["kills"] = torment("driver", killed, args.kills, seconds / 3, rng)
        result["shards_found_at_start"] = killed.found
        found = digests(home / "killed")
        result["files"] = len(expected)
        result["missing"] = len(expected.keys() - found.keys())
        result["strange"] = len(found.keys() - expected.keys())
        result["other_bytes"] = sum(found.get(path) != value for path, value in expected.items())
        print(
            {
                k: result[k]
                for k in (
                    "kills",
                    "shards_found_at_start",
                    "files",
                    "missing",
                    "strange",
                    "other_bytes",
                )
            }
        )
    Path(args.output).mkdir(parents=True, exist_ok=True)
    Path(args.output, "labelling.json").write_text(json.dumps(result, indent=2))
    subprocess.run(["rm", "-rf", str(home)], check=True)


if __name__ == "__main__":
    main()
