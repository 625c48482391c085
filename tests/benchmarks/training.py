"""Rate of training ÷ rate of a bare PyTorch loop that takes the same steps; time to the first step.

    python -m tests.benchmarks.training --data out/demo/latents --output out/training

The bare loop is one process with the latents of its steps already in memory: the same model, loss,
clipping, optimizer and averages, nothing else. The job is ``pipelines/train.py`` as a user starts
it, with one worker and with two, each with its share of the cores; its log lines tell its rate and
the share of time that it waited for rows. All run in turn, ``--rounds`` times; ratios are of
medians. A rate is the median over stretches of ``--log-every`` steps, in both, without the first
and, in the job, without the last, which stores a checkpoint: what those cost depends on how often
one is taken. The job's seconds until its first step, and after a kill until its first new one, are
those of a clock that starts with the command.
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
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import tyro

from pipelines.feed import Feed, Order
from pipelines.latents import read_manifest
from pipelines.presets import TRAIN
from pipelines.trainconfig import TrainConfig
from semflow import EMA, Perturbation, load_autoencoder, make_velocity

ROOT = Path(__file__).parents[2]
LINE = re.compile(r"step (\d+)/.*?([\d.]+) images/s +waited for data ([\d.]+)%")


@dataclass(frozen=True)
class Args:
    data: str
    """A latent dataset."""
    preset: str = "digits"
    steps: int = 100
    log_every: int = 10
    workers: tuple[int, ...] = (1, 2)
    rounds: int = 3
    output: str = "out/training"


def bare(cfg: TrainConfig) -> float:
    """Images a second of the loop: the median stretch without the first."""
    torch.set_num_threads(os.cpu_count() or 1)
    torch.manual_seed(cfg.seed)
    manifest = read_manifest(cfg.data)
    split = manifest.split("train")
    order = Order.of(split, cfg.seed, cfg.shuffle_groups, cfg.batch_size)
    feed = Feed(manifest, "train", order, range(cfg.batch_size), cfg.online_masks)
    rows = list(feed.batches(0, cfg.steps))
    autoencoder = load_autoencoder(manifest.recipe["autoencoder"]["source"])
    perturbation, palette = Perturbation(**manifest.recipe["perturbation"]), manifest.palette
    frequency = torch.tensor(split.class_pixels, dtype=torch.float64)
    weights = cfg.objective.class_weights(frequency).float()
    velocity = make_velocity(cfg.velocity, autoencoder.channels)
    parameters = list(velocity.parameters())
    optimizer = torch.optim.AdamW(parameters, cfg.lr, weight_decay=cfg.weight_decay, fused=True)
    ema = EMA(parameters, cfg.ema_decay)
    ends = []
    for number, columns in enumerate(rows):
        if number % cfg.log_every == 0:
            ends.append(time.perf_counter())
        batch = {name: torch.from_numpy(values) for name, values in columns.items()}
        if cfg.online_masks:
            pictures = perturbation.apply(palette.encode(batch["ids"]), batch["seed"].tolist())
            x_1 = autoencoder.encode(pictures).mean.float()
        else:
            x_1 = batch["x_1"].float()
        sample = cfg.flow.sample(batch["x_0"].float(), x_1, cfg.flow.times(batch["uniform"]))
        loss = cfg.objective(
            velocity(sample.x_t, sample.t), sample, flow=cfg.flow, ids=batch["ids"],
            palette=palette, autoencoder=autoencoder, class_weights=weights,
        )  # fmt: skip
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(parameters, cfg.clip)
        optimizer.step()
        optimizer.zero_grad()
        ema.update()
    seconds = [after - before for before, after in pairwise(ends[1:])]
    return cfg.log_every * cfg.batch_size / statistics.median(seconds)


class Job:
    """train.py as a command, and what it prints."""

    def __init__(self, args: Args, output: Path, workers: int, checkpoint_every: int) -> None:
        command = [
            sys.executable, str(ROOT / "pipelines/train.py"), args.preset, "--data", args.data,
            "--output", str(output), "--steps", str(args.steps), "--workers", str(workers),
            "--log-every", str(args.log_every), "--checkpoint-every", str(checkpoint_every),
            "--validate-every", "1000000", "--validate-rows", "8",
        ]  # fmt: skip
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

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def trained(args: Args, home: Path, workers: int) -> dict[str, Any]:
    """A whole training: rate, waiting, start."""
    job = Job(args, home, workers, args.steps)
    job.read(args.steps)
    if job.process.wait():
        sys.exit(f"train.py failed with {workers} workers")
    rates, waits = zip(*((rate, wait) for _, rate, wait in job.lines[1:-1]), strict=True)
    return {"rate": statistics.median(rates), "wait": statistics.median(waits),
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
    found: dict[str, list[Any]] = {"bare": [], "restart": []}
    with tempfile.TemporaryDirectory(prefix="semflow-training-") as home:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{home}/mlflow.db"
        for number in range(args.rounds):
            found["bare"].append({"rate": bare(cfg)})
            print("bare", found["bare"][-1], flush=True)
            for workers in args.workers:
                one = trained(args, Path(home, f"{number}-{workers}"), workers)
                found.setdefault(str(workers), []).append(one)
                print(workers, "workers", one, flush=True)
        found["restart"].append(restarted(args, Path(home, "restart")))
        print("restart", found["restart"][-1], flush=True)
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    (output / "training.json").write_text(json.dumps(vars(args) | found, indent=2))
    base = statistics.median(one["rate"] for one in found["bare"])
    print(f"bare loop   {base:8.1f} images/s")
    for workers in map(str, args.workers):
        rate = statistics.median(one["rate"] for one in found[workers])
        wait = statistics.median(one["wait"] for one in found[workers])
        first = statistics.median(one["first"] for one in found[workers])
        print(f"{workers} workers   {rate:8.1f} images/s   ÷ bare {rate / base:.2f}   waited for "
              f"data {wait:.1f} %   first step after {first:.0f} s")  # fmt: skip


if __name__ == "__main__":
    main()
