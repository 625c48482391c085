"""One run of an arm."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Any

import torch
from diffusers import UNet2DModel

from semflow import EMA, SemFlow, Velocity
from semflow.sampler import Defaults
from tests.benchmarks.augmentation.data import Data
from tests.benchmarks.augmentation.draws import Draws
from tests.benchmarks.augmentation.exam import Examiner
from tests.benchmarks.augmentation.pool import opened
from tests.benchmarks.augmentation.study import Arm, Study


def run(job: tuple[Study, Arm]) -> str:
    """In a worker process: train an arm and write its file."""
    study, arm = job
    torch.set_num_threads(1)
    result = train(study, arm, opened(study, arm.autoencoder))
    (study.output / f"{arm.name}.json").write_text(json.dumps(result, indent=1))
    shown = ("own", "fresh", "val_perturbed", "miou")
    scores = "  ".join(f"{name} {result['curve'][-1][name]:.4f}" for name in shown)
    return f"{arm.name:24} {result['seconds']:5.0f} s  {scores}"


def train(study: Study, arm: Arm, data: Data) -> dict[str, Any]:
    """One run: the curve of its measures."""
    torch.manual_seed(arm.seed)
    model, averaged = build(study, data), build(study, data)
    parameters = list(model.velocity.parameters())
    optimizer = torch.optim.AdamW(parameters, study.lr, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, study.steps)
    ema, draws, examiner = EMA(parameters), Draws(data, arm, arm.seed), Examiner(data, arm)
    uniform = torch.Generator().manual_seed(arm.seed)  # the same times for every arm
    curve, started = [], time.perf_counter()
    for step in range(1, study.steps + 1):
        x_0, x_1, ids = data.latents(draws(study.batch))
        t = study.flow.times(torch.rand(study.batch, generator=uniform))
        sample = study.flow.sample(x_0, x_1, t)
        loss = study.objective(
            model.velocity(sample.x_t, t), sample, flow=study.flow, ids=ids, codec=model.codec,
        )  # fmt: skip
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        ema.update()
        if step % (study.steps // study.points) == 0:
            ema.copy_to(averaged.velocity.parameters())
            curve.append({"step": step} | examiner.losses(averaged))
            if data.autoencoder.lossless or step + study.steps // study.points > study.steps:
                curve[-1] |= examiner.scores(averaged)  # decoding is slow where it is lossy
    seconds = time.perf_counter() - started
    return {"arm": asdict(arm) | {"kind": arm.kind}, "curve": curve, "seconds": seconds}


def build(study: Study, data: Data) -> SemFlow:
    """A new model; smaller than the library's presets, for the sake of many passes."""
    depth, c = len(study.channels), data.autoencoder.channels
    unet = UNet2DModel(
        in_channels=c, out_channels=c, block_out_channels=study.channels, layers_per_block=1,
        norm_num_groups=8, down_block_types=("DownBlock2D",) * depth,
        up_block_types=("UpBlock2D",) * depth,
    )  # fmt: skip
    defaults = Defaults(height=study.height, width=study.width, perturbation=study.perturbation)
    return SemFlow(Velocity(unet), data.autoencoder, data.palette, defaults)
