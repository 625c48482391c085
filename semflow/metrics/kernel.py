"""Kernel distance between sets of images; on Inception's features it is KID."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

SUBSETS = 100
SUBSET_SIZE = 1000
SEED = 2020
"""All three as in torch-fidelity."""


class KernelDistance(NamedTuple):
    """Mean and deviation over subsets, and how many images a subset had."""

    mean: float
    std: float
    subset_size: int


def kernel_distance(
    one: Tensor,
    other: Tensor,
    *,
    subsets: int = SUBSETS,
    subset_size: int = SUBSET_SIZE,
    seed: int = SEED,
) -> KernelDistance:
    """Squared maximum mean discrepancy of features ``[N, F]`` and ``[M, F]``, a mean over subsets.

    The unbiased estimate for the kernel ``(x.y / F + 1)^3`` (Binkowski et al. 2018, equation 3);
    values a little below 0 mean that no difference was found. Subsets are drawn by torch-fidelity's
    generator, so that the same features in the same order give its value.

    Args:
        one: features of the one set.
        other: of the other.
        subsets: how many are drawn.
        subset_size: images of each set in a subset; where a set has fewer, that many.
        seed: of the subsets.

    Raises:
        ValueError: when a set has fewer than two images.
    """
    size = min(subset_size, len(one), len(other))
    if size < 2:
        raise ValueError("a kernel distance takes two images or more of each set")
    rng = np.random.RandomState(seed)
    found = torch.tensor(
        [
            _mmd(
                one[torch.from_numpy(rng.choice(len(one), size, replace=False))],
                other[torch.from_numpy(rng.choice(len(other), size, replace=False))],
            )
            for _ in range(subsets)
        ],
        dtype=torch.float64,
    )
    return KernelDistance(float(found.mean()), float(found.std(correction=0)), size)


def _mmd(one: Tensor, other: Tensor) -> float:
    one, other = one.double(), other.double()
    m = len(one)
    within = sum(
        (kernel.sum() - kernel.trace()) / (m * (m - 1))
        for kernel in (_polynomial(one, one), _polynomial(other, other))
    )
    return float(within - 2 * _polynomial(one, other).mean())


def _polynomial(one: Tensor, other: Tensor) -> Tensor:
    return (one @ other.T / one.shape[1] + 1) ** 3
