"""How far a segmentation's confidence can be believed, from a histogram that workers can add up."""

from __future__ import annotations

import torch
from torch import Tensor

from semflow.masks.palette import IGNORE

FINE = 1500
"""Equal bins of confidence that are counted. Few pixels share one, so their order is kept, and the
bins of a diagram are sums of them."""
BINS = 15
"""Of the calibration error and its diagram, as in Guo et al. 2017."""
ROUNDING = 1e-3
"""How far beyond [0, 1] a confidence may lie, as means of probabilities do by rounding."""


class Calibration:
    """Pixels by their confidence, how many of them are right, and what confidence they claim.

    Pixels whose truth is :data:`IGNORE` do not count. A prediction that is no class is wrong.
    """

    def __init__(self, counts: Tensor | None = None) -> None:
        """Start empty, or from ``counts`` ``[3, FINE]`` float64 of another.

        Their rows: pixels, right pixels, and the sum of the pixels' confidence.
        """
        shape = (3, FINE)
        self.counts = torch.zeros(shape, dtype=torch.float64) if counts is None else counts
        if tuple(self.counts.shape) != shape:
            raise ValueError(f"counts of shape {tuple(self.counts.shape)}, not {shape}")

    def update(self, confidence: Tensor, predicted: Tensor, truth: Tensor) -> None:
        """Add pixels.

        Args:
            confidence: ``[B, H, W]`` in [0, 1].
            predicted: class ids ``[B, H, W]``.
            truth: class ids ``[B, H, W]``.

        Raises:
            ValueError: when shapes differ, or a confidence is not in [0, 1].
        """
        if not confidence.shape == predicted.shape == truth.shape:
            shapes = [tuple(one.shape) for one in (confidence, predicted, truth)]
            raise ValueError(f"shapes differ: {shapes}")
        scored = truth != IGNORE
        confidence = confidence[scored].double()
        right = (predicted[scored] == truth[scored]).double()
        # A NaN is in no range.
        if not ((confidence >= -ROUNDING) & (confidence <= 1 + ROUNDING)).all():
            raise ValueError("a confidence lies beyond [0, 1]")
        confidence = confidence.clamp(0, 1)
        # Equation 2's bins are open below and closed above.
        at = ((confidence * FINE).ceil().long() - 1).clamp_min(0)
        summed = (torch.ones_like(right), right, confidence)
        sums = [at.bincount(weights, FINE) for weights in summed]
        self.counts += torch.stack(sums).to(self.counts.device)

    def __add__(self, other: Calibration) -> Calibration:
        return Calibration(self.counts + other.counts)

    def diagram(self, bins: int = BINS) -> Tensor:
        """A reliability diagram: ``[3, bins]`` float64, in equal bins of confidence from 0 to 1.

        Its rows: share of all scored pixels, accuracy, and mean confidence of the bin's pixels. The
        latter two are NaN where a bin is empty, the first where nothing was scored.

        Raises:
            ValueError: when ``bins`` does not divide :data:`FINE`.
        """
        pixels, right, confidence = self._folded(bins)
        return torch.stack([pixels / pixels.sum(), right / pixels, confidence / pixels])

    def ece(self, bins: int = BINS) -> float:
        """Expected calibration error (Guo et al. 2017, arXiv 1706.04599, equation 3), in [0, 1].

        The mean over pixels of ``|accuracy - mean confidence|`` of the bin that a pixel is in; NaN
        when nothing was scored.

        Raises:
            ValueError: when ``bins`` does not divide :data:`FINE`.
        """
        pixels, right, confidence = self._folded(bins)
        return float((right - confidence).abs().sum() / pixels.sum())

    def _folded(self, bins: int) -> Tensor:
        if bins < 1 or FINE % bins:
            raise ValueError(f"{bins} bins do not divide the {FINE} that were counted")
        return self.counts.reshape(3, bins, -1).sum(2)

    @property
    def wrong_pixels_aupr(self) -> float:
        """Area under precision and recall of finding wrong pixels by low confidence, in [0, 1].

        The AUPR of errors of Hendrycks and Gimpel 2017 (arXiv 1610.02136), as average precision:
        pixels are looked at from the least confident on, and the share of wrong ones among those
        looked at is averaged over the wrong ones. Pixels of one fine bin are looked at together.
        Chance has the share of wrong pixels, which is what to compare it with. NaN when none is
        wrong.
        """
        pixels, right, _ = self.counts
        wrong = pixels - right
        precision = (wrong.cumsum(0) / pixels.cumsum(0)).nan_to_num(0)  # 0 / 0 before the first
        return float((precision * wrong).sum() / wrong.sum())
