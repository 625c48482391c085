"""Quality control of synthesized images: segment each again, and keep what shows its mask.

The *agreement* of an image with its mask is the IoU of each class that the mask has, averaged over
these classes. Pixels that the mask ignores are left out, of what was seen as of the mask. A class
that is only seen and not in the mask has no IoU of its own: its pixels are missing from others.
A mask of ignored pixels only agrees with nothing: 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines import config
from pipelines.corpora.pixels import Pixels
from pipelines.inference.predictors import (
    ModelOptions,
    SolverChoice,
    Synthesizer,
    good_rows,
    to_tensor,
)
from semflow import ConfusionMatrix, Perturbation, Solver


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Whether images are checked; not by default."""

    min_agreement: float | None = None
    """Least agreement of an image, segmented again by the same model, with its mask: mean IoU of
    the mask's classes. Others are not written. 0 measures it and keeps all."""
    attempts: int = 1
    """Seeds that are tried for an image until one is kept."""
    solver: SolverChoice = field(default_factory=SolverChoice)
    """For segmenting again, instead of the model's own."""

    def __post_init__(self) -> None:
        if self.min_agreement is None and self.attempts != 1:
            raise ValueError("--quality.attempts needs --quality.min-agreement, which says when "
                             "an attempt is good enough")  # fmt: skip
        if self.attempts < 1 or not 0 <= (self.min_agreement or 0) <= 1:
            raise ValueError("--quality.attempts is at least 1, --quality.min-agreement lies in "
                             "[0, 1]")  # fmt: skip


class Agreement(NamedTuple):
    """How far what was seen is what the mask says."""

    agreement: float  # in [0, 1]
    shared: NDArray[np.int64]  # [K], pixels of each class that are seen as it
    either: NDArray[np.int64]  # [K], pixels that are of the class, are seen as it, or both


def agreement(seen: Pixels, ids: Pixels, classes: int) -> Agreement:
    """Compare what was seen ``[H, W]`` with a mask ``[H, W]``, 255 ignored."""
    matrix = ConfusionMatrix(classes)
    matrix.update(torch.tensor(seen), torch.tensor(ids))
    counts = matrix.counts.numpy()
    shared = counts[:, :classes].diagonal()
    there = counts.sum(1)
    either = there + counts[:, :classes].sum(0) - shared
    iou = shared[there > 0] / either[there > 0]
    return Agreement(float(iou.mean()) if len(iou) else 0.0, shared, either)


def attempt_seed(seed: int, attempt: int) -> int:
    """The seed of the ``attempt``-th try of an image, from that of its first."""
    return seed if attempt == 0 else int(config.fingerprint([seed, attempt])[:15], 16)


class CheckedSynthesizer(Synthesizer):
    """As :class:`Synthesizer`, and ``seen [H, W] uint8``, ``agreement``, ``kept``, ``attempts``.

    ``seed`` becomes that of the attempt whose image is handed on: the one that is kept, else the
    one that agrees best.
    """

    def __init__(
        self, model: str, options: ModelOptions, solver: Solver, perturbation: Perturbation,
        segment: Solver, quality: Quality, window: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(model, options, solver, perturbation, window)
        self.segment, self.quality = segment, quality

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        ids, first = np.stack(batch["ids"]), batch["seed"]
        result = {
            "seed": np.array(first),
            "pixels": np.zeros((*ids.shape, 3), np.uint8),
            "seen": np.zeros_like(ids),
            "agreement": np.full(len(ids), -1.0),
            "kept": np.zeros(len(ids), bool),
            "attempts": np.zeros(len(ids), np.int64),
        }
        left = good_rows(batch)
        for attempt in range(self.quality.attempts):
            if not len(left):
                break
            seeds = [attempt_seed(int(first[i]), attempt) for i in left]
            made = super().__call__(
                {"ids": ids[left], "seed": seeds, "error": [""] * len(left)}
            )["pixels"]  # fmt: skip
            seen = self.look(made)
            for row, seed, pixels, one in zip(left, seeds, made, seen, strict=True):
                score = agreement(one, ids[row], len(self.model.palette)).agreement
                result["attempts"][row] += 1
                if score > result["agreement"][row]:
                    found = {"seed": seed, "pixels": pixels, "seen": one, "agreement": score,
                             "kept": score >= (self.quality.min_agreement or 0)}  # fmt: skip
                    for name, value in found.items():
                        result[name][row] = value
            left = left[~result["kept"][left]]
        return batch | result

    def look(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Segment images ``[B, H, W, 3]`` as they are written; class ids ``[B, H, W]``."""
        found = self.model.segment(to_tensor(images), self.segment)
        ids: NDArray[np.uint8] = found.ids.byte().cpu().numpy()
        return ids
