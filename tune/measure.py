"""How straight a trained flow is, and time grids that suit it."""

from __future__ import annotations

from typing import Any

import torch

from pipelines.latents import Rows, read_manifest
from pipelines.predictors import load_model
from pipelines.synthesis.drafts import sample_seed
from semflow import Solver
from semflow.curvature import Curvature, fit_grid, follow
from tune.candidates import Direction, grid_name

REFERENCE = 16
"""Steps of Heun's method that stand for the exact way."""


@torch.inference_mode()
def measure(
    model: str, data: str, split: str, samples: int, direction: Direction, wanted: list[Solver]
) -> dict[str, Any]:
    """Follow a split's last ``samples`` rows through a model, towards masks or towards images.

    The last ones, since trials are scored on the first: where the split has more than both take,
    grids are not judged on what they were learned from.

    Returns:
        JSON: ``grids`` by name for the ``wanted`` solvers, and ``flow`` with the straightness and
        the turning by time.
    """
    net = load_model(model)
    manifest = read_manifest(data)
    rows = Rows(manifest, split, samples, skip=max(0, manifest.split(split).rows - samples))
    if direction == "segment":
        x, ends = net.path.depart(rows.x_0.to(net.device), 0.0), (0.0, 1.0)
    else:
        seeds = [sample_seed(0, name, 0) for name in rows.names]
        pictures = net.defaults.perturbation.apply(net.palette.encode(rows.ids), seeds)
        x_1 = net.autoencoder.encode(pictures.to(net.device)).mean.float()
        x, ends = net.path.depart(x_1, 1.0, seeds), (1.0, 0.0)

    way = follow(net.field, x, *ends, steps=REFERENCE)
    curvature = Curvature.of(way)
    times, turning = curvature.by_time
    fitted = {
        grid_name(direction, solver): fit_grid(net.field, way, curvature, solver)
        for solver in wanted
    }
    return {
        "grids": {name: [round(t, 4) for t in grid] for name, grid in fitted.items()},
        "flow": {
            "straightness": curvature.straightness, "times": times, "turning": turning,
            "off_chord_times": curvature.times,
            "off_chord": (curvature.off_chord / curvature.distance).tolist(),
        },
    }  # fmt: skip
