"""What models and ways to solve are judged by, with the uncertainty of the choice of samples.

Everything is computed from one value a sample, so that two models, or two trials of a search, can
be compared sample by sample where they saw the same ones.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from infra import storage
from semflow.metrics.frechet import frechet_distance

RESAMPLES = 200
FEW_RESAMPLES = 40
"""For distances, whose every resample takes an eigenvalue problem."""


@dataclass
class Scored:
    """What was found, sample by sample: N samples, K classes, F features."""

    confusion: NDArray[Any]  # [N, K, K + 1]
    nfe: float = 0.0  # evaluations a sample
    seconds: float = 0.0  # a sample
    features: NDArray[Any] = field(default_factory=lambda: np.zeros((0, 0)))  # [N, F] of images
    real: NDArray[Any] = field(default_factory=lambda: np.zeros((0, 0)))  # [N, F] of photos
    diversity: NDArray[Any] = field(default_factory=lambda: np.zeros(0))  # [N]

    def __len__(self) -> int:
        return len(self.confusion)

    def first(self, n: int) -> Scored:
        """What had been found after ``n`` samples."""
        return Scored(self.confusion[:n], self.nfe, self.seconds, self.features[:n],
                      self.real[:n], self.diversity[:n])  # fmt: skip

    def miou(self, weights: NDArray[Any] | None = None) -> NDArray[Any]:
        """Of all samples, or of each row of ``weights`` ``[R, N]``: ``[R]``."""
        n, k = self.confusion.shape[:2]
        weights = np.ones((1, n)) if weights is None else weights
        counts = (weights @ self.confusion.reshape(n, -1)).reshape(-1, k, k + 1)
        hit = np.diagonal(counts[:, :, :k], axis1=1, axis2=2)
        union = counts.sum(2) + counts[:, :, :k].sum(1) - hit
        with np.errstate(invalid="ignore"):
            return np.asarray(np.nanmean(np.where(union > 0, hit / union, np.nan), 1))

    def frechet(self, index: NDArray[Any] | None = None) -> float:
        """Distance of the images' features to the photos'; NaN where no images were made."""
        if len(self.features) < 2:
            return float("nan")
        rows = slice(None) if index is None else index
        return frechet_distance(torch.tensor(self.features[rows]), torch.tensor(self.real))

    def summary(self) -> dict[str, float]:
        """The figures, with standard errors."""
        found = {
            "samples": float(len(self)), "miou": float(self.miou()[0]),
            "miou_se": float(self.miou(resamples(len(self), RESAMPLES)).std()),
            "nfe": self.nfe, "ms_per_image": 1000 * self.seconds,
        }  # fmt: skip
        if len(self.features):
            found |= {
                "frechet": self.frechet(), "diversity": float(self.diversity.mean()),
                "diversity_se": float(self.diversity.std() / np.sqrt(len(self))),
            }  # fmt: skip
        return found

    def save(self, where: str) -> None:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **self.__dict__)
        storage.write_bytes(where, buffer.getvalue())

    @classmethod
    def load(cls, where: str) -> Scored:
        with np.load(io.BytesIO(storage.read_bytes(where)), allow_pickle=False) as data:
            arrays = dict(data)
        for name in ("nfe", "seconds"):
            arrays[name] = float(arrays[name])
        return cls(**arrays)


def joined(parts: Sequence[Scored]) -> Scored:
    """Batches as one; evaluations and seconds are means over samples."""
    sizes = np.array([len(part) for part in parts])

    def mean(name: str) -> float:
        return float(np.average([getattr(part, name) for part in parts], weights=sizes))

    stacked = {name: np.concatenate([getattr(part, name) for part in parts])
               for name in ("confusion", "features", "real", "diversity")}  # fmt: skip
    return Scored(nfe=mean("nfe"), seconds=mean("seconds"), **stacked)


def resamples(n: int, times: int) -> NDArray[Any]:
    """Bootstrap weights ``[times, n]``: how often each sample is drawn, always alike."""
    return np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=times).astype(float)


@dataclass(frozen=True)
class Difference:
    """Of one from another on the same samples: the estimate, and its 95 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, drawn: NDArray[Any]) -> Difference:
        low, high = np.percentile(drawn, [2.5, 97.5])
        return cls(float(value), float(low), float(high))


def signed(gap: Mapping[str, float]) -> str:
    """A difference and its interval, as a page or a line says it."""
    return f"{gap['value']:+.3f} (95 %: {gap['low']:+.3f} to {gap['high']:+.3f})"


def compare(one: Scored, other: Scored) -> dict[str, Difference]:
    """How ``one`` differs from ``other``, sample by sample."""
    n = min(len(one), len(other))
    one, other = one.first(n), other.first(n)
    weights = resamples(n, RESAMPLES)
    found = {
        "miou": Difference.of(
            one.miou()[0] - other.miou()[0], one.miou(weights) - other.miou(weights)
        )
    }
    if len(one.features) and len(other.features):
        drawn = []
        for row in weights[:FEW_RESAMPLES]:
            index = np.repeat(np.arange(n), row.astype(int))
            drawn.append(one.frechet(index) - other.frechet(index))
        found["frechet"] = Difference.of(one.frechet() - other.frechet(), np.array(drawn))
        gain = one.diversity - other.diversity
        found["diversity"] = Difference.of(gain.mean(), weights @ gain / n)
    return found
