"""Fréchet distance between sets of images, by statistics of features that add up.

FID is this distance on Inception's features (``inception.py``). With any other features it has a
name of its own: that of :func:`pyramid_features`, which need no weights, is ``frechet_pyramid``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 4


def pyramid_features(images: Tensor) -> Tensor:
    """What images look like at every scale: ``[B, 3, H, W]`` in [-1, 1] to ``[B, 42]``.

    Mean and deviation of each channel, and, at four scales, the logarithm of how strong each of
    the three Haar bands is (Mallat 1989). Blur, noise and blocks each show in bands of their own.
    What is left over of sides that do not divide by 16 does not count.
    """
    parts = [images.mean((2, 3)), images.std((2, 3))]
    for _ in range(LEVELS):
        images = images[..., : images.shape[-2] // 2 * 2, : images.shape[-1] // 2 * 2]
        a, b = images[..., ::2, ::2], images[..., ::2, 1::2]
        c, d = images[..., 1::2, ::2], images[..., 1::2, 1::2]
        bands = torch.stack([a + b - c - d, a - b + c - d, a - b - c + d], 1) / 4
        parts.append((bands.square().mean((3, 4)) + 1e-6).log().flatten(1) / 4)
        images = F.avg_pool2d(images, 2)
    return torch.cat(parts, 1)


class Pyramid(nn.Module):
    """:func:`pyramid_features` of uint8 images ``[B, 3, H, W]``: ``[B, 42]``."""

    def forward(self, images: Tensor) -> Tensor:
        return pyramid_features(images.float() / 127.5 - 1)


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Count, mean and covariance of features, in float64; those of parts add up to the whole's."""

    count: int
    mean: Tensor
    """``[F]``."""
    covariance: Tensor
    """``[F, F]``, of maximum likelihood: divided by ``count``."""

    @classmethod
    def of(cls, features: Tensor) -> Gaussian:
        """Of features ``[N, F]``.

        Raises:
            ValueError: when there are none.
        """
        if features.ndim != 2 or not len(features):
            raise ValueError(f"features are [N, F], N at least 1, not {list(features.shape)}")
        features = features.double()
        mean = features.mean(0)
        away = features - mean
        return cls(len(features), mean, away.T @ away / len(features))

    def __add__(self, other: Gaussian) -> Gaussian:
        """Of both sets of features together (Chan, Golub and LeVeque 1983)."""
        count = self.count + other.count
        share, gap = other.count / count, other.mean - self.mean
        between = share * (1 - share) * torch.outer(gap, gap)
        within = (1 - share) * self.covariance + share * other.covariance
        return Gaussian(count, self.mean + share * gap, within + between)

    def distance(self, other: Gaussian, *, unbiased: bool = False) -> float:
        """Fréchet distance of the two Gaussians (Dowson and Landau 1982).

        ``|m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1^1/2 C_2 C_1^1/2)^1/2)``. As an estimate it has a
        bias that falls with the counts: compare sets of the same size.

        Args:
            other: the other one.
            unbiased: divide covariances by N - 1 instead of N, as every FID does.

        Raises:
            ValueError: when a set is too small for it.
        """
        if min(self.count, other.count) < 1 + unbiased:
            raise ValueError("a set of one has no unbiased covariance")
        cov_1, cov_2 = (
            one.covariance * (one.count / (one.count - 1) if unbiased else 1)
            for one in (self, other)
        )
        # The trace of the root is the sum of the singular values of C_1^1/2 C_2^1/2, which are
        # exact to rounding where fewer images than features leave most eigenvalues at 0.
        cross = torch.linalg.svdvals(_root(cov_1) @ _root(cov_2)).sum()
        means = (self.mean - other.mean).square().sum()
        return float((means + cov_1.trace() + cov_2.trace() - 2 * cross).clamp_min(0))


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return torch.as_tensor(vectors * values.clamp_min(0).sqrt() @ vectors.T)


def frechet_distance(one: Tensor, other: Tensor) -> float:
    """Of two sets of features ``[N, F]``, with maximum-likelihood covariances."""
    return Gaussian.of(one).distance(Gaussian.of(other))
