"""Rate of training ÷ rate of a bare PyTorch loop that takes the same steps; time to the first step.

    python -m tests.benchmarks.training --data out/demo/latents --output out/training

The bare loop is one process with the latents of its steps already in memory: the same model, loss,
clipping, optimizer and averages, nothing else. The job is ``pipelines/train.py`` as a user starts
it, with one worker and with two, each with its share of the cores.

A machine's speed drifts by more than what is measured here, so the two take turns: from one log
line to the next the job runs, then all its processes, Ray's too, are stopped while the bare loop
takes as many steps. The ratio is the median over these pairs, without the first two. Checkpoints
and validation are left out: what they cost depends on how often they are taken. The seconds until
the first step, and after a kill until the first new one, are those of a clock that starts with the
command.
"""

from __future__ import annotations

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch
import tyro

from pipelines.dataset import maskcodec
from pipelines.dataset.latents import read_manifest
from pipelines.presets import TRAIN
from pipelines.training.config import TrainConfig
from pipelines.training.feed import Feed, Order
from semflow import EMA, Perturbation, load_autoencoder, make_velocity
from semflow.codecs.anchors import Anchors

ROOT = Path(__file__).parents[2]
LINE = re.compile(r"step (\d+)/.*?([\d.]+) images/s +waited for data ([\d.]+)%")


@dataclass(frozen=True)
class Args:
    data: str
    """A latent dataset."""
    preset: str = "digits"
    steps: int = 260
    log_every: int = 20
    workers: tuple[int, ...] = (1, 2)
    rounds: int = 2
    threads: int | None = None
    """Of the bare loop, and of a job's workers together; None takes all cores. With one on two
    cores, the driver and Ray have a core to themselves, as they do beside a GPU."""
    output: str = "out/training"


def bare(cfg: TrainConfig, threads: int | None) -> Iterator[float]:
    """Seconds of the loop's next ``cfg.log_every`` steps, each time."""
    torch.set_num_threads(threads or os.cpu_count() or 1)
    torch.manual_seed(cfg.seed)
    manifest = read_manifest(cfg.data)
    split = manifest.split("train")
    order = Order.of(split, cfg.seed, cfg.shuffle_groups, cfg.batch_size)
    feed = Feed(manifest, "train", order, range(cfg.batch_size), cfg.online_masks)
    rows = list(feed.batches(0, cfg.steps))
    autoencoder = load_autoencoder(manifest.recipe["autoencoder"]["source"])
    codec = maskcodec.of(manifest) or Anchors(manifest.palette, autoencoder)
    perturbation = Perturbation(**manifest.recipe["perturbation"])
    weights = cfg.objective.class_weights(split.frequency).float()
    velocity = make_velocity(cfg.velocity, autoencoder.channels)
    parameters = list(velocity.parameters())
    optimizer = torch.optim.AdamW(parameters, cfg.lr, weight_decay=cfg.weight_decay, fused=True)
    ema = EMA(parameters, cfg.ema_decay)
    yield 0.0
    started = time.perf_counter()
    for number, columns in enumerate(rows, 1):
        batch = {name: torch.from_numpy(values) for name, values in columns.items()}
        if cfg.online_masks:
            x_1 = codec.encode(batch["ids"], perturbation, batch["seed"].tolist()).float()
        else:
            x_1 = batch["x_1"].float()
        sample = cfg.path.sample(batch["x_0"].float(), x_1, cfg.path.times(batch["uniform"]))
        loss = cfg.objective(
            velocity(sample.x_t, sample.t), sample, flow=cfg.path, ids=batch["ids"],
            codec=codec, class_weights=weights,
        )  # fmt: skip
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(parameters, cfg.clip)
        optimizer.step()
        optimizer.zero_grad()
        ema.update()
        if number % cfg.log_every == 0:
            yield time.perf_counter() - started
            started = time.perf_counter()


class Job:
    """train.py as a command, and what it prints."""

    def __init__(self, args: Args, output: Path, workers: int, checkpoint_every: int) -> None:
        command = [
            sys.executable, str(ROOT / "pipelines/train.py"), args.preset, "--data", args.data,
            "--output", str(output), "--steps", str(args.steps), "--workers", str(workers),
            "--log-every", str(args.log_every), "--checkpoint-every", str(checkpoint_every),
            "--validate-every", "1000000", "--validate-rows", "8",
        ]  # fmt: skip
        if args.threads:
            command += ["--threads", str(max(1, args.threads // workers))]
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            start_new_session=True,
        )  # fmt: skip
        self.first = 0.0
        self.startup = ""
        self.lines: list[tuple[int, float, float]] = []

    def read(self, until: int) -> None:
        """Read what it prints up to the line of step ``until``, or its end."""
        assert self.process.stdout
        for line in self.process.stdout:
            if "first step" in line:
                self.first = time.perf_counter() - self.started
                self.startup = line.partition("began: ")[2].strip()
            if found := LINE.search(line):
                self.lines.append((int(found[1]), float(found[2]), float(found[3])))
                if self.lines[-1][0] >= until:
                    return

    def processes(self) -> list[psutil.Process]:
        """All of it: the driver, Ray's own, the workers."""
        main = psutil.Process(self.process.pid)
        return [main, *main.children(recursive=True)]

    def signal(self, number: int) -> None:
        """Stop or continue all its processes."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def beside(self) -> float:
        """Processor seconds so far of all but the training workers."""
        seconds = 0.0
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                if "RayTrainWorker" not in " ".join(process.cmdline()):
                    seconds += sum(process.cpu_times()[:2])
        return seconds

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def compared(args: Args, cfg: TrainConfig, home: Path, workers: int) -> dict[str, Any]:
    """A training and the bare loop, by turns: seconds of each stretch of steps, waiting, start."""
    loop = bare(cfg, args.threads)
    next(loop)
    job = Job(args, home, workers, args.steps)
    mine, theirs = [], []
    job.read(args.log_every)
    beside = job.beside()
    for until in range(2 * args.log_every, args.steps, args.log_every):
        job.signal(signal.SIGSTOP)
        theirs.append(next(loop))
        job.signal(signal.SIGCONT)
        started = time.perf_counter()
        job.read(until)
        mine.append(time.perf_counter() - started)
    beside = (job.beside() - beside) / sum(mine)
    job.read(args.steps)
    if job.process.wait():
        sys.exit(f"train.py failed with {workers} workers")
    return {"job": mine[1:], "bare": theirs[1:], "beside": beside,
            "wait": statistics.median(wait for *_, wait in job.lines[2:-1]),
            "first": job.first, "startup": job.startup}  # fmt: skip


def restarted(args: Args, home: Path) -> dict[str, Any]:
    """Kill a training halfway, start it again: seconds until its first new step."""
    job = Job(args, home, 1, args.steps // 4)
    job.read(args.steps // 2)
    job.kill()
    again = Job(args, home, 1, args.steps // 4)
    again.read(args.steps)
    again.process.wait()
    return {"first": again.first, "startup": again.startup}


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    cfg = replace(TRAIN[args.preset][1], data=args.data, steps=args.steps,
                  log_every=args.log_every)  # fmt: skip
    found: dict[str, list[Any]] = {"restart": []}
    with tempfile.TemporaryDirectory(prefix="semflow-training-") as home:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{home}/mlflow.db"
        for number in range(args.rounds):
            for workers in args.workers:
                one = compared(args, cfg, Path(home, f"{number}-{workers}"), workers)
                found.setdefault(str(workers), []).append(one)
                print(workers, "workers", one, flush=True)
        found["restart"].append(restarted(args, Path(home, "restart")))
        print("restart", found["restart"][-1], flush=True)
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    (output / "training.json").write_text(json.dumps(vars(args) | found, indent=2))
    images = args.log_every * cfg.batch_size
    for workers in args.workers:
        runs = found[str(workers)]
        job = [seconds for run in runs for seconds in run["job"]]
        loop = [seconds for run in runs for seconds in run["bare"]]
        ratio = statistics.median(b / a for a, b in zip(job, loop, strict=True))
        beside = statistics.median(run["beside"] for run in runs)
        wait = statistics.median(run["wait"] for run in runs)
        first = statistics.median(run["first"] for run in runs)
        print(f"{workers} workers  {images / statistics.median(job):6.1f} images/s, bare loop "
              f"{images / statistics.median(loop):6.1f}: {ratio:.2f} of it over {len(job)} pairs   "
              f"driver and Ray take {beside:.1%} of a core   "
              f"waited for data {wait:.1f} %   first step after {first:.0f} s")  # fmt: skip


if __name__ == "__main__":
    main()
