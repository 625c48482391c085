"""Scores of a segmentation, from a confusion matrix that workers can add up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from semflow.masks.palette import IGNORE


class ConfusionMatrix:
    """Counts of (true class, predicted class); pixels whose truth is :data:`IGNORE` do not count.

    A prediction that is no class (an ignored or unknown id) counts as missed for its true class.
    """

    def __init__(self, num_classes: int, counts: Tensor | None = None) -> None:
        """Start empty, or from ``counts`` ``[K, K + 1]`` int64 of another matrix."""
        self.num_classes = num_classes
        shape = (num_classes, num_classes + 1)  # the last column: predicted no class at all
        self.counts = torch.zeros(shape, dtype=torch.int64) if counts is None else counts
        if tuple(self.counts.shape) != shape:
            raise ValueError(f"counts of shape {tuple(self.counts.shape)}, not {shape}")

    def update(self, predicted: Tensor, truth: Tensor) -> None:
        """Add pixels: two integer tensors of one shape.

        Raises:
            ValueError: when shapes differ, or a true id is neither a class nor ignored.
        """
        if predicted.shape != truth.shape:
            raise ValueError(f"shapes differ: {tuple(predicted.shape)} and {tuple(truth.shape)}")
        k = self.num_classes
        scored = truth != IGNORE
        truth, predicted = truth[scored].long(), predicted[scored].long()
        if len(truth) and not (0 <= int(truth.min()) and int(truth.max()) < k):
            raise ValueError(f"a true class id lies beyond the {k} classes")
        predicted = torch.where((predicted < 0) | (predicted >= k), k, predicted)
        flat = torch.bincount(truth * (k + 1) + predicted, minlength=k * (k + 1))
        self.counts += flat.reshape(k, k + 1).to(self.counts.device)

    def __add__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        return ConfusionMatrix(self.num_classes, self.counts + other.counts)

    @property
    def iou(self) -> Tensor:
        """``[K]`` float64, intersection over union; NaN for a class seen nowhere."""
        hit = self.counts[:, : self.num_classes].diagonal().double()
        union = self.counts.sum(1) + self.counts[:, : self.num_classes].sum(0) - hit
        return hit / union  # 0 / 0 is NaN

    @property
    def miou(self) -> float:
        """Mean over the classes that occur in truth or prediction; NaN when nothing was scored."""
        return self.mean_iou()

    def mean_iou(self, without: Sequence[int] = ()) -> float:
        """The same, with these classes left out of the mean; their pixels count for the others."""
        kept = [c for c in range(self.num_classes) if c not in without]
        return float(self.iou[kept].nanmean())

    @property
    def accuracy(self) -> float:
        """Share of scored pixels that are right; NaN when nothing was scored."""
        hit = self.counts[:, : self.num_classes].diagonal().sum().double()
        return float(hit / self.counts.sum())

    def scores(self, names: Sequence[str], without: Sequence[int] = ()) -> dict[str, Any]:
        """``miou``, ``accuracy`` and ``iou`` by class name, for JSON: None for a class not seen.

        Classes ``without`` are left out of the mean, as in :meth:`mean_iou`.
        """
        iou = (None if value != value else value for value in self.iou.tolist())
        return {
            "miou": self.mean_iou(without),
            "accuracy": self.accuracy,
            "iou": dict(zip(names, iou, strict=True)),
        }
