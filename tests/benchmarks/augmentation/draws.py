"""Which views and perturbations an arm is trained on."""

from __future__ import annotations

import numpy as np

from tests.benchmarks.augmentation.data import Data, Pick
from tests.benchmarks.augmentation.study import FRESH, Arm

UNSEEN = 1000  # draws from this number on are never trained on


def stored_seed(image: int, view: int, draw: int) -> int | None:
    """Seed of a stored draw, so that nothing needs to be stored; draw 0 is clean."""
    return (image * 64 + view) * 4096 + draw if draw else None


class Draws:
    """An arm's stream of picks. Streams of one seed see the same images in the same order."""

    def __init__(self, data: Data, arm: Arm, seed: int) -> None:
        self.data, self.arm = data, arm
        self.order, self.view_rng, self.draw_rng = (
            np.random.default_rng([seed, use]) for use in range(3)
        )
        self.queue: list[int] = []

    def __call__(self, count: int, *, unseen: bool = False) -> list[Pick]:
        return [self.pick(unseen) for _ in range(count)]

    def pick(self, unseen: bool) -> Pick:
        arm, data = self.arm, self.data
        if not self.queue:
            self.queue = self.order.permutation(len(data.pairs["train"])).tolist()
        image = self.queue.pop()
        if arm.views == FRESH:
            number, view = 0, data.fresh_view("train", image, self.view_rng)
        else:
            number = int(self.view_rng.integers(arm.views))
            view = data.views("train", image, arm.views)[number]
        if unseen:
            seed = stored_seed(image, number, UNSEEN + int(self.draw_rng.integers(2)))
        elif arm.draws == FRESH:
            seed = int(self.draw_rng.integers(2**62))
        else:  # as pipelines/training/feed.py: draw 0 is clean; with no other there is no choice
            low = min(1, arm.draws - 1)
            seed = stored_seed(image, number, int(self.draw_rng.integers(low, arm.draws)))
        return Pick("train", image, view, seed)
