"""Where a segmentation is wrong, and whether its confidence tells: sums in actors, scores of them.

Beside sums there is a row a photo, since ranks do not add up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor

from pipelines.labelling import review
from semflow import ConfusionMatrix
from semflow.metrics.boundary import BoundaryScore, foreign_ring
from semflow.metrics.calibration import BINS, Calibration
from semflow.sampler import Segmentation

SCORES = ("score", "mean_margin")
"""What a review can list photos by, as review.csv has them: a high one is a good photo."""


def measure(segmented: Segmentation, truth: Tensor, classes: int) -> dict[str, NDArray[Any]]:
    """Sums over photos with true masks ``[B, H, W]``."""
    truth = truth.to(segmented.ids.device)
    calibration, borders = Calibration(), BoundaryScore(classes)
    calibration.update(segmented.margin, segmented.ids, truth)
    borders.update(segmented.ids, truth)
    return {
        "calibration": calibration.counts.numpy(),
        "borders": borders.counts.numpy(),
        "foreign": foreign_ring(segmented.ids, truth).numpy(),
    }


def photo_rows(segmented: Segmentation, counts: NDArray[Any]) -> NDArray[np.float64]:
    """``[B, 3]``, of each photo its mean IoU and its :data:`SCORES`.

    Args:
        segmented: the photos.
        counts: confusion of each, ``[B, K, K + 1]``.
    """
    iou = [ConfusionMatrix(len(one), torch.from_numpy(one)).miou for one in counts]
    # In 8 bits, as label.py has it.
    confidence = (255 * segmented.margin).round().byte().cpu().numpy()
    scores = [1 - review.low_share(one) for one in confidence]
    return np.stack([iou, scores, segmented.margin.mean((1, 2)).double().cpu().numpy()], 1)


def summarize(
    sums: Mapping[str, Any], photos: NDArray[Any], names: Sequence[str]
) -> dict[str, Any]:
    """Scores for JSON, None where there is nothing to score.

    Args:
        sums: of :func:`measure`.
        photos: rows of :func:`photo_rows`, ``[N, 3]``.
        names: of the classes.
    """
    calibration = Calibration(torch.from_numpy(sums["calibration"]))
    borders = BoundaryScore(len(names), torch.from_numpy(sums["borders"]))
    foreign, near = (int(count) for count in sums["foreign"])
    bins = [
        {"from": n / BINS, "to": (n + 1) / BINS, "share": share,
         "accuracy": _or_none(accuracy), "confidence": _or_none(confidence)}
        for n, (share, accuracy, confidence) in enumerate(calibration.diagram().T.tolist())
    ]  # fmt: skip
    return {
        "calibration": {"ece": _or_none(calibration.ece()), "bins": bins},
        "wrong_pixels_aupr": _or_none(calibration.wrong_pixels_aupr),
        "review_rank_correlation": {
            name: rank_correlation(photos[:, column], photos[:, 0])
            for column, name in enumerate(SCORES, start=1)
        },
        "boundary_f": _or_none(borders.mean_f),
        "boundary_f_by_class": {
            name: _or_none(f) for name, f in zip(names, borders.f.tolist(), strict=True)
        },
        "foreign_share": foreign / near if near else None,
    }


def rank_correlation(one: NDArray[Any], other: NDArray[Any]) -> float | None:
    """Spearman's, of pairs that are numbers; None for fewer than three, or where all are alike."""
    there = np.isfinite(one) & np.isfinite(other)
    one, other = one[there], other[there]
    if len(one) < 3 or not (np.ptp(one) and np.ptp(other)):
        return None
    return float(spearmanr(one, other).statistic)


def _or_none(value: float) -> float | None:
    return None if value != value else float(value)
