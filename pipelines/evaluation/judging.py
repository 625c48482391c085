"""A model on rows of a latent dataset: its masks, its images and its way, sample by sample.

Shapes: B batch, C latent channels, h and w latent size, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from torch import Tensor

from pipelines.evaluation.scores import Scored
from pipelines.inference.predictors import clock
from pipelines.synthesis.drafts import sample_seed
from semflow import ConfusionMatrix, Perturbation, SemFlow, Solver
from semflow.flow.curvature import Trajectory, follow
from semflow.hub.images import to_bytes
from semflow.metrics.frechet import Pyramid

Direction = Literal["segment", "synthesize"]

REFERENCE = 16
"""Steps of Heun's method that stand for the exact way."""


def segmented(model: SemFlow, x_0: Tensor, ids: Tensor, solver: Solver | None) -> Scored:
    """Photos' latents ``[B, C, h, w]`` against their masks ``[B, H, W]``."""
    started = clock(model.device)
    result = model.segment_latents(x_0, solver)
    seconds = clock(model.device) - started
    counts = confusions(result.ids, ids, len(model.palette))
    return Scored(counts, float(result.nfe), seconds / len(ids))


def synthesized(
    model: SemFlow,
    names: Sequence[str],
    x_0: Tensor,
    ids: Tensor,
    solver: Solver | None,
    perturbation: Perturbation | None = None,
    judge: SemFlow | None = None,
) -> Scored:
    """Images of masks ``[B, H, W]``, two of each, against these masks and against photos.

    Agreement (the confusion) is that of both images segmented again, Fréchet features are the
    first's, diversity is how far the two differ.

    Args:
        model: what makes them.
        names: of the rows; the seeds follow from them.
        x_0: their photos' latents ``[B, C, h, w]``.
        ids: their masks.
        solver: instead of the model's own.
        perturbation: instead of the model's own.
        judge: a model to segment the images with, if not the same one.
    """
    made = []
    started = clock(model.device)
    for draw in (0, 1):
        seeds = [sample_seed(0, name, draw) for name in names]
        made.append(model.synthesize(ids, seeds, solver=solver, perturbation=perturbation))
    seconds = (clock(model.device) - started) / 2
    judge = judge or model
    counts = np.add(
        *(confusions(judge.segment(one.images).ids, ids, len(model.palette)) for one in made)
    )
    one, other = (result.images.float().cpu() for result in made)
    photos = model.autoencoder.decode(x_0.to(model.device)).float().cpu()
    features = Pyramid()
    return Scored(
        counts, float(made[0].nfe), seconds / len(ids),
        features=features(to_bytes(one)).numpy(),
        real=features(to_bytes(photos)).numpy(),
        diversity=(one - other).square().mean((1, 2, 3)).sqrt().numpy(),
    )  # fmt: skip


def followed(
    model: SemFlow, names: Sequence[str], x_0: Tensor, ids: Tensor, direction: Direction
) -> Trajectory:
    """The exact way of rows through a model: from photos, or from their perturbed masks."""
    if direction == "segment":
        start = model.path.depart(x_0.to(model.device), 0.0)
        return follow(model.field, start, 0.0, 1.0, steps=REFERENCE)
    seeds = [sample_seed(0, name, 0) for name in names]
    x_1 = model.encode_masks(ids, seeds).float()
    return follow(model.field, model.path.depart(x_1, 1.0, seeds), 1.0, 0.0, steps=REFERENCE)


def confusions(predicted: Tensor, truth: Tensor, classes: int) -> np.ndarray[Any, Any]:
    """A confusion matrix for each sample: ``[N, K, K + 1]``."""
    found = []
    for one, other in zip(predicted.cpu(), truth, strict=True):
        matrix = ConfusionMatrix(classes)
        matrix.update(one, other)
        found.append(matrix.counts.numpy())
    return np.stack(found)
