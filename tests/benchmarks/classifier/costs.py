"""Floating-point operations of a network: of a mask, of a step of training, of all steps.

Convolutions and products of matrices are counted, and those of the network alone: a loss and a
lossless autoencoder have next to none.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def costs(
    network: nn.Module, inputs: tuple[Tensor, ...], *, evaluations: int, batch: int, steps: int
) -> dict[str, int]:
    """Of a network that takes ``inputs`` of one row.

    Args:
        network: whatever its weights.
        inputs: each ``[1, ...]``.
        evaluations: of the network, for a mask.
        batch: rows of a step.
        steps: of the training.
    """
    network = deepcopy(network).cpu().requires_grad_(True)
    with torch.no_grad():
        forward = _counted(lambda: network(*inputs))
    step = batch * _counted(lambda: network(*inputs).sum().backward())
    parameters = sum(p.numel() for p in network.parameters())
    return {"parameters": parameters, "mask_flops": evaluations * forward, "step_flops": step,
            "training_flops": steps * step}  # fmt: skip


def _counted(run: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())
