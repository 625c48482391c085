"""Fréchet distance between sets of images, with features that need no weights.

It is never called FID: that name belongs to Inception's features.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

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


def frechet_distance(one: Tensor, other: Tensor) -> float:
    """Of two sets of features ``[N, F]``, as if both were Gaussian (Dowson and Landau 1982).

    ``|m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1^1/2 C_2 C_1^1/2)^1/2)``, with the maximum-likelihood
    covariances. It has a bias that falls with N: compare sets of the same size.
    """
    one, other = one.double(), other.double()
    mean_1, mean_2 = one.mean(0), other.mean(0)
    cov_1, cov_2 = torch.cov(one.T, correction=0), torch.cov(other.T, correction=0)
    values, vectors = torch.linalg.eigh(cov_1)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_2 @ root).clamp_min(0).sqrt().sum()
    distance = (mean_1 - mean_2).square().sum() + cov_1.trace() + cov_2.trace() - 2 * cross
    return float(distance.clamp_min(0))
