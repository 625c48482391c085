"""Latents like real ones, and the check that a reader gives each of them exactly once.

A row is what one of ``pipelines/dataset/latents.py`` says, as plain numpy: ``id`` str,
``image_mean`` and ``image_std`` float16 ``[4, h, w]``, ``mask_draws`` float16 ``[K, 4, h, w]``,
``ids`` uint8 ``[H, W]``. It is a function of its number alone: whoever writes a format makes the
rows anew, and nothing but a few digests has to be kept to check a reader.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

Row = dict[str, Any]
Batch = dict[str, torch.Tensor]

CHANNELS, SCALE, CLASSES = 4, 8, 19
MAP_SIDE, BLOBS = 2048, 32
"""A city of classes, from which masks are cut: a 256x256 mask is a PNG of about 3 kB, as CamVid's
are at that size."""
PRIME = 1_000_003
SAMPLE = 16
"""Values of a row whose mean and spread are kept, to check the noise that a reader adds."""


@dataclass(frozen=True)
class Shape:
    """The size of a dataset, and how the peers keep its masks."""

    rows: int
    size: int
    """Side of a latent; the mask's is 8 times that."""
    draws: int
    masks: Literal["png", "zstd"] = "png"

    @property
    def latent(self) -> tuple[int, int, int]:
        return CHANNELS, self.size, self.size

    @property
    def mask_draws(self) -> tuple[int, int, int, int]:
        return self.draws, *self.latent

    @property
    def mask(self) -> tuple[int, int]:
        return SCALE * self.size, SCALE * self.size


@cache
def class_map() -> NDArray[np.uint8]:
    """Class ids ``[MAP_SIDE, MAP_SIDE]``: for each pixel the strongest of smooth random fields."""
    rng = np.random.default_rng(0)
    best = np.full((MAP_SIDE, MAP_SIDE), -np.inf, np.float32)
    ids = np.zeros((MAP_SIDE, MAP_SIDE), np.uint8)
    for number in range(CLASSES):
        coarse = Image.fromarray(rng.normal(size=(BLOBS, BLOBS)).astype(np.float32))
        field = np.asarray(coarse.resize((MAP_SIDE, MAP_SIDE), Image.Resampling.BICUBIC))
        ids[field > best] = number
        best = np.maximum(best, field)
    return ids


def make_row(number: int, shape: Shape) -> Row:
    """Row ``number``."""
    rng = np.random.default_rng([number, shape.size, shape.draws])
    height, width = shape.mask
    # A prime times the number: scattered over the map, and no two at one place.
    places = MAP_SIDE - width + 1
    top, left = divmod(number * PRIME % places**2, places)
    # Draws of a mask differ by a small perturbation; to a compressor all of them are noise.
    clean = rng.standard_normal(shape.latent, np.float32)
    draws = clean + 0.05 * rng.standard_normal(shape.mask_draws, np.float32)
    draws[0] = clean
    return {
        "id": f"{number:08d}",
        "image_mean": rng.standard_normal(shape.latent, np.float32).astype(np.float16),
        "image_std": np.exp(rng.normal(-3, 0.5, shape.latent)).astype(np.float16),
        "mask_draws": draws.astype(np.float16),
        "ids": class_map()[top : top + height, left : left + width],
    }


def digest(array: NDArray[Any]) -> int:
    """64 bits of an array's content."""
    data = np.ascontiguousarray(array).tobytes()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little", signed=True)


@dataclass(frozen=True)
class Truth:
    """What must come back: of each row the digest of its mask and of its draws, and a sample."""

    masks: NDArray[np.int64]  # [rows]
    draws: NDArray[np.int64]  # [rows, K]
    mean: NDArray[np.float32]  # [rows, SAMPLE]
    std: NDArray[np.float32]  # [rows, SAMPLE]

    @classmethod
    def of(cls, shape: Shape) -> Truth:
        rows = [cls._line(make_row(number, shape)) for number in range(shape.rows)]
        return cls(*(np.array(column) for column in zip(*rows, strict=True)))

    @staticmethod
    def _line(row: Row) -> tuple[Any, ...]:
        moments = [row[k].ravel()[:SAMPLE].astype(np.float32) for k in ("image_mean", "image_std")]
        return digest(row["ids"]), [digest(draw) for draw in row["mask_draws"]], *moments

    def save(self, path: str) -> None:
        np.savez(path, **self.__dict__)

    @classmethod
    def load(cls, path: str) -> Truth:
        with np.load(path) as data:
            return cls(**data)


class Check:
    """Follows an epoch; :meth:`verdict` says what was wrong with it, or nothing."""

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self.row_of = {int(mask): row for row, mask in enumerate(truth.masks)}
        if len(self.row_of) != len(truth.masks):
            raise ValueError("two rows have the same mask: take another size or fewer rows")
        self.seen = np.zeros(len(truth.masks), int)
        self.foreign = 0
        self.draws: list[int] = []
        self.noise: list[NDArray[np.float32]] = []
        self.order: list[int] = []

    def add(self, batch: Batch) -> None:
        for x_0, x_1, ids in zip(batch["x_0"], batch["x_1"], batch["ids"], strict=True):
            row = self.row_of.get(digest(ids.numpy()))
            found = [] if row is None else np.flatnonzero(self.truth.draws[row] == digest(x_1))
            if row is None or not len(found):
                self.foreign += 1
                continue
            self.seen[row] += 1
            self.order.append(row)
            self.draws.append(int(found[0]))
            sample = x_0.numpy().ravel()[:SAMPLE].astype(np.float32)
            self.noise.append((sample - self.truth.mean[row]) / self.truth.std[row])

    def verdict(self) -> str:
        """Empty where each row came once, with a draw of its own, shuffled, and x_0 sampled."""
        wrong = []
        if self.foreign:
            wrong.append(f"{self.foreign} rows whose mask and draw do not belong together")
        lost, again = int((self.seen == 0).sum()), int((self.seen > 1).sum())
        if lost or again:
            wrong.append(f"{lost} rows lost, {again} given more than once")
        if self.noise and not 0.95 < float(np.std(self.noise)) < 1.05:
            wrong.append(f"x_0 varies {np.std(self.noise):.2f} times its posterior's spread")
        most = self.truth.draws.shape[1]
        if self.draws and set(self.draws) != set(range(min(1, most - 1), most)):
            wrong.append(f"of the draws only {sorted(set(self.draws))} were chosen")
        if (np.diff(self.order) == 1).mean() > 0.5:
            wrong.append("the rows are not shuffled")
        return "; ".join(wrong)
