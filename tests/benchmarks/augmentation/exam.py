"""What is measured of a model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from semflow import ConfusionMatrix, SemFlow, Solver
from tests.benchmarks.augmentation.data import Data, Pick
from tests.benchmarks.augmentation.draws import Draws
from tests.benchmarks.augmentation.study import FRESH, Arm


class Examiner:
    """Losses of a model on the same examples, times and perturbations whatever the arm."""

    def __init__(self, data: Data, arm: Arm) -> None:
        count = 3 * len(data.pairs["train"])
        fresh = Arm(arm.autoencoder, FRESH, FRESH)
        val = data.whole("val")
        odd = val[1::2] * 2
        sets = {
            "own": Draws(data, arm, 10**6)(count),
            "own_unseen": Draws(data, arm, 10**6)(count, unseen=True),
            "fresh": Draws(data, fresh, 10**6)(count, unseen=True),
            "val_clean": [Pick("val", i, view, None) for i, view in odd],
            "val_perturbed": [Pick("val", i, v, 7 * n) for n, (i, v) in enumerate(odd, 1)],
        }
        self.data, self.study = data, data.study
        self.sets = {name: data.latents(picks) for name, picks in sets.items()}
        self.val = data.latents([Pick("val", i, view, None) for i, view in val])
        self.seeded = data.latents(
            [Pick("val", i, view, 9 * i + seed) for seed in range(3) for i, view in val[::4]]
        )

    @torch.inference_mode()
    def losses(self, model: SemFlow) -> dict[str, float]:
        """Velocity loss of every set: over all times, and at t = 1 where synthesis starts."""
        result: dict[str, float] = {}
        for name, ends in self.sets.items():
            n = len(ends[0])
            uniform = (torch.arange(n) * 0.6180339887) % 1  # low discrepancy: even over [0, 1]
            result[name] = self.loss(model, ends, self.study.flow.times(uniform))
            third = tuple(part[: n // 3] for part in ends)
            result[f"{name}_t1"] = self.loss(model, third, torch.ones(n // 3))
        return result

    def loss(self, model: SemFlow, ends: Any, t: Tensor) -> float:
        sums = 0.0
        for part in torch.arange(len(t)).split(64):
            x_0, x_1, ids = (tensor[part] for tensor in ends)
            sample = self.study.flow.sample(x_0, x_1, t[part])
            loss = self.study.objective(
                model.velocity(sample.x_t, sample.t), sample, flow=self.study.flow, ids=ids,
                codec=model.codec,
            )  # fmt: skip
            sums += float(loss.velocity) * len(part)
        return sums / len(t)

    @torch.inference_mode()
    def scores(self, model: SemFlow) -> dict[str, float]:
        """mIoU by one Euler step, and what different perturbations change of a synthesis."""
        x_0, _, ids = self.val
        confusion = ConfusionMatrix(len(self.data.palette))
        confusion.update(model.segment_latents(x_0, Solver(steps=1)).ids, ids)
        ends = model.flow(self.seeded[1], 1.0, 0.0, Solver(steps=5)).x
        deviation = ends.unflatten(0, (3, -1)).std(0).mean()  # of 3 perturbations of a mask
        return {"miou": confusion.miou, "diversity": float(deviation)}
