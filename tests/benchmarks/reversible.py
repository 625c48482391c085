"""There and back along the flow: reversible Heun beside Euler, at equal steps.

    python -m tests.benchmarks.reversible --model out/demo/run/model --data out/demo/latents

Relative error of latents after photo -> mask -> photo, in float32; and the distance of the mask
latents from those of 25 steps of RK4, for the evaluations that each takes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import tyro
from torch import Tensor

from infra import storage
from pipelines.dataset.latents import Rows, read_manifest
from semflow import SemFlow, Solver


@dataclass(frozen=True)
class Args:
    model: str
    data: str
    split: str = "val"
    samples: int = 8


def off(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


@torch.inference_mode()
def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    with storage.local_folder(args.model) as folder:
        model = SemFlow.load(folder)
    x_0 = Rows(read_manifest(args.data), args.split, args.samples).x_0
    exact = model.flow(x_0, 0.0, 1.0, Solver(name="rk4", steps=25)).x
    for steps in (1, 5, 25):
        for name in ("euler", "reversible-heun"):
            solver = Solver(name=name, steps=steps)
            there = model.flow(x_0, 0.0, 1.0, solver)
            back = model.flow(there.x, 1.0, 0.0, solver, there.twin)
            print(f"{steps:3} steps  {name:16} NFE {there.nfe:3}  there {off(there.x, exact):.4f}  "
                  f"and back {off(back.x, x_0):.2e}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
