"""The stage of reflow that follows a trained flow: rows of latents to coupled rows.

Shapes: B batch, C latent channels, h and w latent size, H and W pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipelines.dataset.encoder import seed_of
from pipelines.dataset.latents import draw_column, read_row_groups
from pipelines.inference.predictors import Predictor
from pipelines.straightening.config import CouplingOptions
from semflow import Perturbation, SemFlow, Solver

KEPT = "kept"
"""The direction of a row that is left as it is."""


def couple(
    model: SemFlow, ids: Tensor, x_0: Tensor, direction: str, solver: Solver,
    perturbation: Perturbation, seeds: list[int],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Couple rows in one direction: ``(x_0, x_1)``, both ``[B, C, h, w]`` float32 on the CPU.

    Args:
        model: whose flow.
        ids: masks ``[B, H, W]``.
        x_0: latents of their photos ``[B, C, h, w]``.
        direction: 'segment' integrates ``x_0`` to the mask's end, 'synthesize' the perturbed masks
            to the image's, 'kept' is the photo with its clean mask.
        solver: of the integration.
        perturbation: of the masks, where they are integrated.
        seeds: of the perturbations, one a row.
    """
    with torch.inference_mode():
        if direction == "segment":
            x_0 = x_0.to(model.device)
            return x_0.cpu().float(), model.flow(x_0, 0.0, 1.0, solver).x.cpu()
        drawn = seeds if direction == "synthesize" else None
        x_1 = model.encode_masks(ids, drawn, perturbation).float()
        if direction == KEPT:
            return x_0.float(), x_1.cpu()
        return model.flow(x_1, 1.0, 0.0, solver).x.cpu(), x_1.cpu()


class Coupler(Predictor):
    """An actor: ``{uri, group, row, direction}`` to the columns of a coupled row."""

    def __init__(self, model: str, options: CouplingOptions, perturbation: Perturbation) -> None:
        super().__init__(model, options.actors)
        self.options, self.perturbation = options, perturbation

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        rows = {name: np.stack(values) for name, values in read_rows(batch).items()}
        seeds = np.array(
            [
                seed_of(self.options.seed, str(id_), int(view), "coupling")
                for id_, view in zip(rows["id"], rows["view"], strict=True)
            ]
        )
        photos = torch.from_numpy(rows["image_mean"]).float()
        ids = torch.from_numpy(rows["mask"])
        image, mask = torch.empty_like(photos), torch.empty_like(photos)
        for direction in sorted(set(batch["direction"])):
            mine = np.flatnonzero(batch["direction"] == direction)
            image[mine], mask[mine] = couple(
                self.model, ids[mine], photos[mine], direction, self.options.solver,
                self.perturbation, seeds[mine].tolist(),
            )  # fmt: skip
        return batch | rows | {
            "image_mean": image.half().numpy(),
            draw_column(0): mask.half().numpy(),
            "seed": np.where(batch["direction"] == "synthesize", seeds, -1),
        }  # fmt: skip


def read_rows(batch: dict[str, Any]) -> dict[str, list[Any]]:
    """The rows that a block names, each row group of the source read once."""
    columns = ["id", "view", "crop", "flip", "mask", "image_mean"]
    found: dict[str, list[Any]] = {name: [] for name in columns}
    places = list(zip(batch["uri"], batch["group"].tolist(), strict=True))
    tables = {
        place: read_row_groups(str(place[0]), [place[1]], columns)
        for place in dict.fromkeys(places)
    }
    for place, row in zip(places, batch["row"].tolist(), strict=True):
        for name in columns:
            found[name].append(tables[place][name][row])
    return found
