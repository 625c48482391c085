"""One seed of the classifier: a bare loop over the rows that ``train.py`` would take.

All that decides a step is the flow's own: order of the rows, learning rate, AdamW, clipping,
averages, weights of the classes. What only saves memory or time is not: weights are float32, and
with bf16 or fp16 the passes are bfloat16's.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipelines.dataset.latents import Manifest
from pipelines.training.config import TrainConfig
from pipelines.training.feed import STEP, Feed, Order
from pipelines.training.optimizer import make_optimizer, make_schedule
from semflow import EMA
from semflow.flow.objective import cross_entropy
from tests.benchmarks.classifier.network import Classifier

OURS = ("seed", "steps", "batch_size", "lr", "schedule", "warmup_steps", "betas", "eps",
        "weight_decay", "clip", "ema_decay", "velocity", "shuffle_groups", "precision")  # fmt: skip
"""What of a training's configuration decides the classifier."""


def settings(cfg: TrainConfig, manifest: Manifest) -> dict[str, Any]:
    """All that decides a training, as JSON data."""
    own = {name: getattr(cfg, name) for name in OURS}
    own |= {"class_balance": cfg.objective.class_balance, "data": manifest.fingerprint}
    return json.loads(json.dumps(own))


def trained(cfg: TrainConfig, manifest: Manifest, output: Path, every: int) -> Classifier:
    """The classifier of ``cfg.seed`` with averaged weights: from ``output``, or after training."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(cfg.seed)  # the weights start as a flow's
    network = Classifier(cfg, manifest).to(device)
    finished = output / f"seed-{cfg.seed}.safetensors"
    if finished.exists():
        with safe_open(finished, "pt") as file:
            agree(finished, json.loads(file.metadata()["settings"]), settings(cfg, manifest))
        network.load_state_dict(load_file(finished))
    else:
        Training(cfg, manifest, network, output / f"seed-{cfg.seed}.pt").run(every)
        note = {"settings": json.dumps(settings(cfg, manifest))}
        save_file(network.state_dict(), finished.with_suffix(".part"), note)
        os.replace(finished.with_suffix(".part"), finished)
        finished.with_suffix(".pt").unlink(missing_ok=True)
    return network.eval().requires_grad_(False)


def agree(path: Path, theirs: dict[str, Any], mine: dict[str, Any]) -> None:
    """End the program where ``path`` is of another training."""
    other = [f"{key} {theirs.get(key)}, not {mine[key]}" for key in mine
             if theirs.get(key) != mine[key]]  # fmt: skip
    if other:
        sys.exit(f"{path} is of another training ({'; '.join(other)}): choose another --output")


class Training:
    """The network, its optimizer and its averages at some step."""

    def __init__(
        self, cfg: TrainConfig, manifest: Manifest, network: Classifier, kept: Path
    ) -> None:
        """Begin, or go on from the checkpoint at ``kept``."""
        self.cfg, self.network, self.kept, self.step = cfg, network.train(), kept, 0
        self.settings = settings(cfg, manifest)
        self.parameters = list(network.parameters())
        self.device = self.parameters[0].device
        self.optimizer = make_optimizer(cfg, self.parameters)
        self.schedule = make_schedule(cfg, self.optimizer)
        self.ema = EMA(self.parameters, cfg.ema_decay)
        frequency = manifest.split("train").frequency
        self.weights = cfg.objective.class_weights(frequency).float().to(self.device)
        order = Order.of(manifest.split("train"), cfg.seed, cfg.shuffle_groups, cfg.batch_size)
        lanes = range(cfg.batch_size)
        self.feed = Feed(manifest, "train", order, lanes, online=True)  # no draw of a mask is read
        if kept.exists():
            state = torch.load(kept, self.device, weights_only=True)
            agree(kept, json.loads(state["settings"]), self.settings)
            self.step = state["step"]
            for name, part in self.parts().items():
                part.load_state_dict(state[name])
            print(f"seed {cfg.seed} resumed at step {self.step}", flush=True)

    def parts(self) -> dict[str, Any]:
        """What a checkpoint holds the state of."""
        return {"network": self.network, "optimizer": self.optimizer, "schedule": self.schedule,
                "ema": self.ema}  # fmt: skip

    def run(self, every: int) -> None:
        """The steps that are left, with a checkpoint after every so many; then the averages."""
        cfg, started, losses = self.cfg, time.perf_counter(), []
        for rows in self.feed.batches(self.step, cfg.steps):
            self.step += 1
            seed = self.feed.order.rng(STEP, self.step, 0).integers(2**62)
            torch.manual_seed(int(seed))  # dropout, where a model has any
            losses.append(self.take(rows))
            if self.step % cfg.log_every == 0 or self.step == cfg.steps:
                seconds = (time.perf_counter() - started) / len(losses)
                left = (cfg.steps - self.step) * seconds / 60
                print(f"seed {cfg.seed}  step {self.step}/{cfg.steps}  "
                      f"loss {float(torch.stack(losses).mean()):.4f}  "
                      f"lr {self.schedule.get_last_lr()[0]:.2e}  "
                      f"{cfg.batch_size / seconds:.1f} images/s  {left:.1f} min left",
                      flush=True)  # fmt: skip
                started, losses = time.perf_counter(), []
            if self.step % every == 0 and self.step < cfg.steps:
                self.save()
        self.ema.copy_to(self.parameters)

    def take(self, rows: dict[str, Any]) -> Tensor:
        """One step on a batch, in parts where the configuration wants it; returns the loss."""
        cfg, total = self.cfg, torch.zeros((), device=self.device)
        batch = {name: torch.from_numpy(rows[name]).to(self.device) for name in ("x_0", "ids")}
        parts = cfg.micro_batches(1)
        for x_0, ids in zip(*(batch[name].tensor_split(parts) for name in batch), strict=True):
            precise = cfg.precision == "fp32"
            with torch.autocast(self.device.type, torch.bfloat16, enabled=not precise):
                logits = self.network(x_0.float())
            loss = cross_entropy(logits.float(), ids, self.weights) * len(ids) / cfg.batch_size
            loss.backward()
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(self.parameters, cfg.clip or math.inf)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        self.ema.update()
        return total

    def save(self) -> None:
        """Keep all that it takes to go on; a kill meanwhile leaves the checkpoint before."""
        state = {name: part.state_dict() for name, part in self.parts().items()}
        state |= {"step": self.step, "settings": json.dumps(self.settings)}
        torch.save(state, self.kept.with_suffix(".pt.part"))
        os.replace(self.kept.with_suffix(".pt.part"), self.kept)
