"""The embedded corpus: labelled scenes of real handwritten digits over photographs.

scikit-learn ships both (1,797 digits of 8x8 pixels from UCI, two CC-BY photographs), so nothing is
downloaded. Ten digit classes and background; train and validation share neither a digit nor a
region of the photographs. The same seed writes the same bytes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLASSES = (*(str(digit) for digit in range(10)), "background")
BACKGROUND = 10
SIZE = 64
SIZES = (22, 32)
"""Least and largest side of a digit, in pixels."""
PER_SCENE = (2, 4)

Array = NDArray[np.uint8]


def write_corpus(root: Path, *, train: int, val: int, seed: int = 0) -> None:
    """Compose ``train`` and ``val`` scenes as ``root/images/SPLIT`` and ``root/masks/SPLIT``."""
    # Here, so that everything but the demo runs without scikit-learn.
    from sklearn.datasets import load_digits, load_sample_images

    digits = load_digits()
    photos = [np.asarray(photo) for photo in load_sample_images().images]
    order = np.random.default_rng(seed).permutation(len(digits.images))
    cut = int(0.8 * len(order))
    for number, (split, count, chosen, (left, right)) in enumerate(
        [("train", train, order[:cut], (0.0, 0.7)), ("val", val, order[cut:], (0.7, 1.0))]
    ):
        rng = np.random.default_rng([seed, number])
        regions = [p[:, int(left * p.shape[1]) : int(right * p.shape[1])] for p in photos]
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            image, mask = compose(rng, digits.images[chosen], digits.target[chosen], regions)
            Image.fromarray(image).save(root / "images" / split / f"{index:05d}.png")
            Image.fromarray(mask).save(root / "masks" / split / f"{index:05d}.png")


def compose(
    rng: np.random.Generator,
    digits: NDArray[np.float64],
    labels: NDArray[np.int64],
    photos: list[NDArray[np.uint8]],
) -> tuple[Array, Array]:
    """One scene: image ``[H, W, 3]`` and ids ``[H, W]``, both uint8."""
    scene = 0.55 * _background(rng, photos)
    mask = np.full((SIZE, SIZE), BACKGROUND, np.uint8)
    taken: list[tuple[int, int, int]] = []
    for _ in range(int(rng.integers(PER_SCENE[0], PER_SCENE[1] + 1))):
        place = _free_place(rng, taken)
        if place is None:
            continue
        taken.append(place)
        top, left, side = place
        pick = int(rng.integers(len(digits)))
        ink = Image.fromarray((digits[pick] * 255 / 16).astype(np.uint8))
        alpha = np.asarray(ink.resize((side, side), Image.Resampling.BICUBIC), np.float64) / 255
        alpha = np.clip((alpha - 0.35) / 0.3, 0, 1)  # 8x8 strokes are soft: give them an edge
        colour = 255 * (0.55 + 0.45 * rng.random(3))
        window = np.s_[top : top + side, left : left + side]
        scene[window] += alpha[..., None] * (colour - scene[window])
        mask[window][alpha >= 0.5] = labels[pick]
    return scene.round().astype(np.uint8), mask


def _background(rng: np.random.Generator, photos: list[Array]) -> NDArray[np.float64]:
    photo = photos[int(rng.integers(len(photos)))]
    side = int(rng.integers(SIZE, 2 * SIZE))
    top = int(rng.integers(photo.shape[0] - side + 1))
    left = int(rng.integers(photo.shape[1] - side + 1))
    crop = Image.fromarray(photo[top : top + side, left : left + side])
    return np.asarray(crop.resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.float64)


def _free_place(
    rng: np.random.Generator, taken: list[tuple[int, int, int]]
) -> tuple[int, int, int] | None:
    """A square that overlaps no other: (top, left, side), or None if none is found."""
    for _ in range(40):
        side = int(rng.integers(SIZES[0], SIZES[1] + 1))
        top, left = (int(v) for v in rng.integers(0, SIZE - side + 1, 2))
        if all(
            top + side <= t or t + s <= top or left + side <= x or x + s <= left
            for t, x, s in taken
        ):
            return top, left, side
    return None
