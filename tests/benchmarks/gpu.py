"""What one GPU does with SD-1.5's own architecture at 512 pixels: training in every mode that the
job offers, and labelling and synthesizing with few steps against the released code's way.

    python -m tests.benchmarks.gpu --output out/gpu

It takes torch, diffusers and DeepSpeed, and no Ray: the training's engine
(``pipelines/training/engine.py``), and ``semflow``. Weights are random, which changes no rate. Each
mode trains on one batch again and again: its loss must fall. The released way (its ``valid_*.py``)
is 25 Euler steps, a batch of 8 in fp32, with TF32 off as torch has it by default.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import deepspeed
import torch
import tyro
from diffusers import AutoencoderKL

from pipelines.config import RayOptions
from pipelines.inference.predictors import ModelOptions, prepared
from pipelines.training.config import TrainConfig
from pipelines.training.engine import start_engine
from pipelines.training.initial import build_velocity
from pipelines.training.optimizer import is_plain
from semflow import RectifiedFlow, SemFlow, Solver, make_palette
from semflow.networks.autoencoder import DiffusersAutoencoder
from semflow.networks.base import Autoencoder
from semflow.sampler import Defaults

MODES: dict[str, dict[str, Any]] = {
    "fp32": {},
    "bf16": {"precision": "bf16"},
    "bf16, ZeRO-2": {"precision": "bf16", "zero_stage": 2},
    "bf16, ZeRO-3": {"precision": "bf16", "zero_stage": 3},
    "bf16, ZeRO-2, optimizer offloaded": {
        "precision": "bf16", "zero_stage": 2, "offload": "optimizer",
    },
    "bf16, channels last": {"precision": "bf16", "channels_last": True},
    "bf16, activation checkpointing": {"precision": "bf16", "activation_checkpointing": True},
    "fp16": {"precision": "fp16"},
    "bf16, compiled, channels last": {
        "precision": "bf16", "compile": True, "channels_last": True,
    },
}  # fmt: skip

FAST = ModelOptions(precision="bf16")
WAYS: dict[str, tuple[int, int, ModelOptions]] = {
    "released: Euler-25, batch 8, fp32": (25, 8, ModelOptions()),
    "one step, batch 8, fp32": (1, 8, ModelOptions()),
    "Euler-25, batch 32, bf16": (25, 32, FAST),
    "one step, batch 32, bf16": (1, 32, FAST),
    "one step, bf16, channels last": (1, 32, replace(FAST, channels_last=True)),
    "one step, bf16, compiled, channels last": (
        1, 32, replace(FAST, channels_last=True, compile=True),
    ),
}  # fmt: skip
"""Steps, batch, and how the networks run."""


@dataclass(frozen=True)
class Args:
    batch: int = 16
    """Rows of a training step."""
    steps: int = 12
    """Timed, after a third as many to warm up."""
    size: int = 512
    """Pixels a side."""
    modes: tuple[str, ...] = tuple(MODES)
    ways: tuple[str, ...] = tuple(WAYS)
    """Of inference, in the order of WAYS: what one changes of the model stays for the next."""
    output: str = "out/gpu"


def train(args: Args, mode: dict[str, Any]) -> dict[str, Any]:
    """Rate, peak memory, and first and last loss of one mode, in a process of its own."""
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29511")
    deepspeed.init_distributed("nccl")
    cfg = TrainConfig(
        velocity="sd15", batch_size=args.batch, steps=10_000, lr=1e-4,
        ray=RayOptions(gpus_per_actor=1), **mode,
    )  # fmt: skip
    torch.manual_seed(0)
    started = time.perf_counter()
    with torch.device("cuda"):  # random numbers for 860 million weights take a CPU its time
        velocity = build_velocity(cfg, 4)
    engine = start_engine(cfg, velocity, workers=1)
    side = args.size // 8
    x_0, x_1 = torch.randn(2, args.batch, 4, side, side, device="cuda")
    flow = RectifiedFlow()
    sample = flow.sample(x_0, x_1, flow.times(torch.rand(args.batch, device="cuda")))
    memory_format = torch.channels_last if cfg.channels_last else torch.contiguous_format
    x_t = sample.x_t.contiguous(memory_format=memory_format)

    def step() -> torch.Tensor:
        loss = (engine(x_t, sample.t).float() - sample.velocity).square().mean()
        engine.backward(loss)
        if is_plain(cfg):
            torch.nn.utils.clip_grad_norm_(engine.module.parameters(), cfg.clip)
        engine.step()
        return loss.detach()

    losses = [step() for _ in range(max(1, args.steps // 3))]
    torch.cuda.synchronize()
    warm = time.perf_counter() - started
    torch.cuda.reset_peak_memory_stats()
    before = time.perf_counter()
    losses += [step() for _ in range(args.steps)]
    torch.cuda.synchronize()
    seconds = time.perf_counter() - before
    peak = torch.cuda.max_memory_allocated() / 2**30
    return {
        "images_per_s": args.batch * args.steps / seconds, "peak_memory_gib": peak,
        "first_loss": float(losses[0]), "last_loss": float(losses[-1]), "start_s": warm,
    }  # fmt: skip


def rate(call: Callable[[], Any], images: int, rounds: int = 3) -> float:
    """Images a second of ``call``, the median of some rounds after one to warm up."""
    call()
    seconds = []
    for _ in range(rounds):
        torch.cuda.synchronize()
        before = time.perf_counter()
        call()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - before)
    return images / statistics.median(seconds)


def infer(args: Args) -> dict[str, dict[str, float]]:
    """Rates of segmenting and synthesizing, pixels to pixels."""
    torch.manual_seed(0)
    autoencoder: Autoencoder = DiffusersAutoencoder(AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
    ))  # fmt: skip
    with torch.device("cuda"):
        velocity = build_velocity(TrainConfig(velocity="sd15"), 4)
    model = SemFlow(
        velocity, autoencoder,
        make_palette("grid", tuple(f"class {n}" for n in range(19))),
        Defaults(height=args.size, width=args.size),
    ).cuda().eval().requires_grad_(False)  # fmt: skip
    rates: dict[str, dict[str, float]] = {}
    for name in args.ways:
        steps, batch, options = WAYS[name]
        prepared(model, options)
        photos = torch.rand(batch, 3, args.size, args.size, device="cuda") * 2 - 1
        ids = torch.randint(19, (batch, args.size, args.size), device="cuda")
        solver = Solver(steps=steps)
        rates[name] = {
            "segment": rate(lambda p=photos, s=solver: model.segment(p, s), batch),
            "synthesize": rate(
                lambda i=ids, s=solver: model.synthesize(i, range(len(i)), solver=s), batch
            ),
        }
        print(f"{name:<36} segment {rates[name]['segment']:7.1f} images/s, "
              f"synthesize {rates[name]['synthesize']:7.1f}", flush=True)  # fmt: skip
    return rates


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    result: dict[str, Any] = {
        "device": torch.cuda.get_device_name(), "torch": torch.__version__,
        "deepspeed": deepspeed.__version__, **vars(args), "training": {}, "inference": {},
    }  # fmt: skip
    folder = Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{result['device']}, torch {torch.__version__}, DeepSpeed {deepspeed.__version__}")
    for name in args.modes:
        # What an engine leaves behind would count as the next one's.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            try:
                found = process.submit(train, args, MODES[name]).result()
            except Exception as error:  # the others are still worth knowing
                found = {"error": f"{type(error).__name__}: {error}"}
        result["training"][name] = found
        if "error" in found:
            print(f"{name:<36} {found['error'][:300]}", flush=True)
        else:
            falls = found["last_loss"] < found["first_loss"] and math.isfinite(found["last_loss"])
            print(f"{name:<36} {found['images_per_s']:7.1f} images/s, "
                  f"{found['peak_memory_gib']:5.1f} GiB, loss {found['first_loss']:.3f} to "
                  f"{found['last_loss']:.3f}{'' if falls else ' (does not fall)'}, "
                  f"{found['start_s']:.0f} s to start", flush=True)  # fmt: skip
        (folder / "gpu.json").write_text(json.dumps(result, indent=2))
    if args.ways:
        result["inference"] = infer(args)
    (folder / "gpu.json").write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
