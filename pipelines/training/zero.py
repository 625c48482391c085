"""DeepSpeed's engine: what of a training is divided among its workers, or kept in 16 bits."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed.accelerator import get_accelerator
from torch.utils.cpp_extension import _get_build_directory

from pipelines.training.config import TrainConfig
from pipelines.training.optimizer import is_plain, make_optimizer, make_schedule
from semflow import Velocity

BUCKET = 5 * 10**7
"""Elements that ZeRO reduces or gathers at once, at most."""


def build_operators() -> None:
    """Build what DeepSpeed wants for CPUs, once a machine, its workers in turn.

    torch marks a build that is under way by a file, and a process that is killed meanwhile leaves
    it: whoever comes later would wait for ever, and say nothing. A lock of the system's dies with
    its holder, and who holds it may take such a file away.
    """
    if get_accelerator().device_name() != "cpu":
        return
    builder = get_accelerator().create_op_builder("ShareMemCommBuilder")
    folder = Path(_get_build_directory(builder.name, False))
    with open(folder.with_suffix(".semflow-lock"), "w") as mine:
        fcntl.flock(mine, fcntl.LOCK_EX)
        (folder / "lock").unlink(missing_ok=True)
        if builder.is_compatible(verbose=False):
            builder.load(verbose=False)


def start(cfg: TrainConfig, velocity: Velocity, workers: int) -> Any:
    """DeepSpeed's engine around the model, with its optimizer and learning-rate schedule."""
    build_operators()
    engine, *_ = deepspeed.initialize(
        model=velocity,
        optimizer=lambda parameters: make_optimizer(cfg, parameters),
        lr_scheduler=lambda optimizer: make_schedule(cfg, optimizer),
        config=engine_config(cfg, workers, sum(p.numel() for p in velocity.parameters())),
    )
    if workers == 1 and is_plain(cfg):
        engine.enable_backward_allreduce = False  # it would copy all gradients, for nothing
    return engine


def engine_config(cfg: TrainConfig, workers: int, parameters: int) -> dict[str, Any]:
    """DeepSpeed's configuration, for a model of so many parameters."""
    parts = cfg.micro_batches(workers)
    # DeepSpeed's own buffers, and what stage 3 keeps gathered, are larger than many a whole model.
    bucket = min(BUCKET, max(10**6, parameters // 10))
    zero: dict[str, Any] = {
        "stage": cfg.effective_zero_stage,
        "reduce_bucket_size": bucket,
        "allgather_bucket_size": bucket,
        "stage3_prefetch_bucket_size": bucket // 10,
        "stage3_max_live_parameters": 2 * bucket,
        "stage3_max_reuse_distance": 2 * bucket,
        "sub_group_size": 10 * bucket,
    }
    if cfg.offload != "none":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    if cfg.offload == "weights":
        zero["offload_param"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    return {
        # Rows of a micro-batch may differ by one; each weighs what it holds (loop.py).
        "train_micro_batch_size_per_gpu": max(1, cfg.batch_size // (parts * workers)),
        "gradient_accumulation_steps": parts,
        # torch's own takes one pass where DeepSpeed's takes one for each parameter.
        "gradient_clipping": 0.0 if is_plain(cfg) else cfg.clip,
        "zero_optimization": zero,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": cfg.precision == "bf16"},
        "fp16": {"enabled": cfg.precision == "fp16"},
        "steps_per_print": 10**9,
    }
