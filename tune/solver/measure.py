"""How straight a trained flow is, and time grids that suit it."""

from __future__ import annotations

from typing import Any

import torch

from pipelines.dataset.latents import Rows, read_manifest
from pipelines.evaluation.judging import Direction, followed
from pipelines.inference.predictors import load_model
from semflow import Solver
from semflow.flow.curvature import Curvature, fit_grid
from tune.solver.candidates import grid_name


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
    way = followed(net, rows.names, rows.x_0, rows.ids, direction)
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
