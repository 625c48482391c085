"""What training eats, and in which order: one endless stream of batches, the same for everyone.

Row groups are permuted in each epoch, and the rows behind one another are cut into windows. A
window is a stack of lanes, as many as a global batch has rows: a lane is a few rows behind one
another, shuffled, and gives one row to each batch of the window. So the rows of a batch come from
all over the split, and a worker that trains on some of the lanes reads these and no others. ::

    stream   | . . . . | . . . . | . . . . | . . . . | . . .     epochs follow without a seam
              lane 0     lane 1    lane 2    lane 3     lane 0 of the next window
    batch i      ^         ^           ^     ^                one row of each lane

The order is a function of the seed and the batch size alone, so the number of a step is all it
takes to resume, and batch ``i`` is made of the same rows however many workers share it. Whatever
chance a row needs (time, posterior noise, seed of an online perturbation) is drawn with its lane:
the training loop itself draws nothing.

Which of the K draws of a mask is taken is decided for a row group and an epoch, so that only that
one is read. Nothing is lost by it: the k-th perturbations of two masks have no more in common than
any other two.

A fed row: ``uniform`` float32 (becomes t), ``x_0`` ``[C, h, w]``, ``ids`` ``[H, W]`` uint8,
``seed`` int64 (of an online perturbation), ``x_1`` ``[C, h, w]`` unless masks are encoded online.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.dataset.latents import Manifest, Split, draw_column, read_row_groups
from pipelines.training.config import TrainConfig

READERS = 8
"""Row groups that a worker reads side by side."""

Rows = dict[str, NDArray[Any]]
GROUPS, LANE, DRAW, CHANCE, STEP = range(5)
"""What a generator is for: the order of the row groups, that of a lane, which draw, what else a
row needs, what else a training step needs."""


class Part(NamedTuple):
    """Some lanes of a window: the row groups to read, and where their rows go."""

    groups: list[tuple[int, int]]  # (epoch, number in `Order.groups`)
    rows: NDArray[np.int64]  # [depth, lanes], in the groups one behind the other


@dataclass(frozen=True)
class Order:
    """The order of the stream."""

    groups: tuple[tuple[int, int, int], ...]
    """(shard, row group, rows) of every row group of the split."""
    seed: int
    batch_size: int
    """Rows of a global batch, and lanes of a window."""
    depth: int
    """Rows of a lane, and batches of a window."""

    @classmethod
    def of(cls, split: Split, seed: int, groups: int, batch_size: int) -> Order:
        """About ``groups`` row groups a window, but no more than an epoch, and whole batches."""
        found = tuple(
            (number, group, rows)
            for number, shard in enumerate(split.shards)
            for group, rows in enumerate(shard.row_groups)
        )
        wanted = groups * max(rows for _, _, rows in found)
        depth = min(-(-wanted // batch_size), max(1, split.rows // batch_size))
        return cls(found, seed, batch_size, depth)

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Rows of every row group."""
        return np.array([rows for _, _, rows in self.groups])

    @property
    def epoch_rows(self) -> int:
        return int(self.sizes.sum())

    def rng(self, what: int, *numbers: int) -> np.random.Generator:
        """The generator of one purpose and place; at most two numbers."""
        return np.random.default_rng([self.seed, what, *numbers])

    def part(self, window: int, lanes: range) -> Part:
        """Lanes of window ``window``. An epoch may end within a lane."""
        first, last = (
            (window * self.batch_size + n) * self.depth for n in (lanes[0], lanes[-1] + 1)
        )
        epoch_rows, read = self.epoch_rows, 0
        groups: list[tuple[int, int]] = []
        rows: list[NDArray[np.int64]] = []
        for epoch in range(first // epoch_rows, (last - 1) // epoch_rows + 1):
            begin = max(first - epoch * epoch_rows, 0)
            end = min(last - epoch * epoch_rows, epoch_rows)
            permutation = self.rng(GROUPS, epoch).permutation(len(self.groups))
            ends = np.cumsum(self.sizes[permutation])
            low = int(np.searchsorted(ends, begin, side="right"))
            high = int(np.searchsorted(ends, end, side="left"))
            groups += [(epoch, int(group)) for group in permutation[low : high + 1]]
            before = int(ends[low - 1]) if low else 0
            rows.append(read + np.arange(begin, end) - before)
            read += int(ends[high]) - before
        stack = np.concatenate(rows).reshape(len(lanes), self.depth)
        for lane, row in zip(lanes, stack, strict=True):
            self.rng(LANE, window, lane).shuffle(row)
        return Part(groups, stack.T)


def fed_order(cfg: TrainConfig, manifest: Manifest) -> dict[str, Any]:
    """What decides which rows a step is made of."""
    return {
        "data": manifest.fingerprint,
        "seed": cfg.seed,
        "batch_size": cfg.batch_size,
        "shuffle_groups": cfg.shuffle_groups,
    }


@dataclass(frozen=True)
class Feed:
    """The stream as one worker gets it: its lanes of every batch, read in its own process.

    Ray Data would read it in other processes and hand it over; measured on two cores, that took
    ten times as long (``docs/reference/data-plane.md``).
    """

    manifest: Manifest
    split: str
    order: Order
    lanes: range
    """Of those of a global batch: one stretch of them."""
    online: bool
    """Whether masks are encoded in training, and no draw of them is read."""

    def batches(self, first: int, stop: int) -> Iterator[Rows]:
        """Batches ``[first, stop)`` of the stream; the next window is read ahead, on threads."""
        depth = self.order.depth
        ahead = ThreadPoolExecutor(1)
        try:
            coming = ahead.submit(self.window, first // depth)
            for start in range(first - first % depth, stop, depth):
                rows = coming.result()
                if start + depth < stop:
                    coming = ahead.submit(self.window, start // depth + 1)
                for batch in range(max(first - start, 0), min(stop - start, depth)):
                    yield {name: values[batch] for name, values in rows.items()}
        finally:
            ahead.shutdown(wait=False, cancel_futures=True)

    def names(self, batch: int) -> list[str]:
        """The rows of batch number ``batch``, those of all workers: ``split/id`` and the view."""
        part = self.order.part(batch // self.order.depth, range(self.order.batch_size))
        shards, names = self.manifest.split(self.split).shards, []
        for _, group in part.groups:
            shard, row_group, _ = self.order.groups[group]
            uri = self.manifest.shard_uri(shards[shard])
            table = read_row_groups(uri, [row_group], ["id", "view"])
            names += [
                f"{self.split}/{id_} view {view}"
                for id_, view in zip(table["id"], table["view"], strict=True)
            ]
        return [names[row] for row in part.rows[batch % self.order.depth]]

    def window(self, number: int) -> Rows:
        """Window ``number``: the columns of a fed row, each ``[depth, lanes, ...]``."""
        part = self.order.part(number, self.lanes)
        with ThreadPoolExecutor(READERS) as pool:  # storage makes one wait; decoding frees the lock
            tables = list(pool.map(self._read, part.groups))
            table = {
                name: np.concatenate([table[name] for table in tables])[part.rows]
                for name in tables[0]
            }
            del tables
            mean, std = table.pop("image_mean"), table.pop("image_std", None)
            shape = part.rows.shape
            table["uniform"], table["seed"] = np.empty(shape, np.float32), np.empty(shape, np.int64)
            table["x_0"] = mean if std is None else np.empty(mean.shape, np.float32)

            def chance(lane: int) -> None:
                rng = self.order.rng(CHANCE, number, self.lanes[lane])
                table["uniform"][:, lane] = rng.random(len(mean), np.float32)
                table["seed"][:, lane] = rng.integers(2**62, size=len(mean))
                if std is not None:
                    noise = rng.standard_normal(mean[:, lane].shape, np.float32)
                    table["x_0"][:, lane] = mean[:, lane] + std[:, lane] * noise

            list(pool.map(chance, range(len(self.lanes))))
        return table

    def _read(self, group: tuple[int, int]) -> Rows:
        """The columns of a row group that are needed; ``x_1`` is the draw that is taken."""
        recipe, (number, row_group, _) = self.manifest.recipe, self.order.groups[group[1]]
        shard = self.manifest.split(self.split).shards[number]
        columns = {"mask": "ids", "image_mean": "image_mean"}
        if recipe["autoencoder"]["stochastic"]:
            columns["image_std"] = "image_std"
        if not self.online:
            # Draw 0 is clean and for evaluation; with no other there is no choice.
            draws = recipe["draws"]
            taken = self.order.rng(DRAW, *group).integers(min(1, draws - 1), draws)
            columns[draw_column(int(taken))] = "x_1"
        uri = self.manifest.shard_uri(shard)
        table = read_row_groups(uri, [row_group], list(columns), shard.sha256)
        return {columns[name]: values for name, values in table.items()}
