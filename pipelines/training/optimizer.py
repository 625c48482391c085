"""What both engines step with: AdamW and its learning-rate schedule."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.optimization import get_scheduler

from pipelines.training.config import TrainConfig


def is_plain(cfg: TrainConfig) -> bool:
    """Whether weights, gradients and moments are whole on every worker, and clipping is ours."""
    return cfg.effective_zero_stage == 0


def make_optimizer(cfg: TrainConfig, parameters: Any) -> torch.optim.AdamW:
    return torch.optim.AdamW(parameters, cfg.lr, cfg.betas, cfg.eps, cfg.weight_decay, fused=True)


def make_schedule(cfg: TrainConfig, optimizer: torch.optim.Optimizer) -> Any:
    return get_scheduler(
        "constant_with_warmup" if cfg.schedule == "constant" else cfg.schedule,
        optimizer,
        num_warmup_steps=cfg.warmup_steps,
        num_training_steps=cfg.steps,
    )
