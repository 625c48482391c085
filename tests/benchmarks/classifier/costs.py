"""Floating-point operations of a network: of a mask, of a step of training, of all steps.

Convolutions and products of matrices are counted. Of a flow all that a step and a mask take is:
the mask codec both ways, and the refiner with its own stage.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pipelines.config import from_dict
from pipelines.training.config import TrainConfig
from semflow import SemFlow
from semflow.flow.objective import cross_entropy


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


def costs_of_flow(model: SemFlow, x_0: Tensor, ids: Tensor) -> dict[str, int]:
    """Of a SemFlow model, and of its training as far as it says how that was.

    Args:
        model: on any device.
        x_0: image latents ``[1, C, h, w]``.
        ids: their mask ``[1, H, W]``.
    """
    parts = (model.velocity, model.refiner)
    parameters = sum(p.numel() for part in parts if part for p in part.parameters())
    found = {"parameters": parameters, "mask_flops": _counted(lambda: model.segment_latents(x_0))}
    if not model.provenance.get("config"):
        return found
    from pipelines.training.refine import seen  # here: they import Ray

    model = deepcopy(model).cpu()
    cfg = from_dict(TrainConfig, model.provenance["config"])
    weights = torch.ones(len(model.palette))

    def step() -> None:
        model.velocity.requires_grad_(True)
        x_1 = model.codec.encode(ids, model.defaults.perturbation, [0]).float()
        sample = model.path.sample(x_0, x_1, torch.zeros(1), [0])
        loss = cfg.objective(
            model.velocity(sample.x_t, sample.t), sample, flow=model.path, ids=ids,
            codec=model.codec, class_weights=weights,
        )  # fmt: skip
        torch.autograd.backward(loss.total)

    def refining() -> None:
        assert model.refiner
        refiner = model.refiner.requires_grad_(True)
        logits, photos = seen(model, x_0, cfg)
        torch.autograd.backward(cross_entropy(refiner(logits, photos), ids, weights))

    one = cfg.batch_size * _counted(step)
    stage = cfg.refine_steps * cfg.batch_size * _counted(refining) if model.refiner else 0
    steps = int(model.provenance["step"])
    return found | {"step_flops": one, "training_flops": steps * one + stage}


def _counted(run: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())
