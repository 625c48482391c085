"""The engine around the model to train: its optimizer, its schedule, and how workers agree.

On CPUs in fp32 with ZeRO stage 0 there is nothing to divide and no DeepSpeed: its import takes a
worker 4 s, and on a new machine its operator is built for most of a minute. All else is
DeepSpeed's (zero.py). Both engines have the same few methods.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from pipelines.training.config import TrainConfig
from pipelines.training.optimizer import is_plain, make_optimizer, make_schedule
from semflow import Velocity


def start_engine(cfg: TrainConfig, velocity: Velocity, workers: int) -> Any:
    """The engine around the model, with its optimizer and learning-rate schedule.

    The optimizer is torch's own fused AdamW on every device and under every ZeRO stage, so that
    what is stored of it is always the same two moments.
    """
    if cfg.activation_checkpointing:
        velocity.unet.enable_gradient_checkpointing()
    if cfg.compile:
        velocity.unet.compile()
    if is_plain(cfg) and not torch.cuda.is_available():
        return PlainEngine(cfg, velocity, workers)
    from pipelines.training import zero  # here: it imports DeepSpeed

    return zero.start(cfg, velocity, workers)


class PlainEngine:
    """AdamW on whole weights; gradients lie in one tensor, reduced over the workers at once.

    They are reduced after the last micro-batch of a step only. On CPUs there is nothing to overlap
    it with: the cores are the workers' own. One tensor of a fixed layout keeps the order of sums,
    so that a resumed training is the uninterrupted one, bit for bit.
    """

    def __init__(self, cfg: TrainConfig, velocity: Velocity, workers: int) -> None:
        self.module, self.workers = velocity.train(), workers
        self.parts, self.done = cfg.micro_batches(workers), 0
        self.parameters = [p for p in velocity.parameters() if p.requires_grad]
        self.flat = torch.zeros(sum(p.numel() for p in self.parameters))
        for p, gradient in zip(self.parameters, self._gradients(), strict=True):
            p.grad = gradient
        self.basic_optimizer = self.optimizer = make_optimizer(cfg, self.parameters)
        self.lr_scheduler = make_schedule(cfg, self.optimizer)

    def _gradients(self) -> Iterator[Tensor]:
        """Views of the one tensor, in the parameters' shapes and order."""
        parts = torch.split(self.flat, [p.numel() for p in self.parameters])
        return (part.view(p.shape) for part, p in zip(parts, self.parameters, strict=True))

    def __call__(self, *inputs: Tensor) -> Tensor:
        predicted: Tensor = self.module(*inputs)
        return predicted

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a micro-batch's loss, of which the step takes the mean."""
        (loss / self.parts).backward()  # type: ignore[no-untyped-call]
        self.done += 1
        if self.is_gradient_accumulation_boundary() and self.workers > 1:
            torch.distributed.all_reduce(self.flat)
            self.flat /= self.workers

    def is_gradient_accumulation_boundary(self) -> bool:
        """Whether the micro-batch that was last is the last one of its step."""
        return self.done % self.parts == 0

    def step(self) -> None:
        """After the last micro-batch of a step, change the weights."""
        if self.is_gradient_accumulation_boundary():
            self.optimizer.step()
            self.lr_scheduler.step()
            self.flat.zero_()

    def zero_optimization_stage(self) -> int:
        return 0

    def fp16_enabled(self) -> bool:
        return False
