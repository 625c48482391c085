"""What training eats, and in which order: one endless stream of rows, the same for everyone.

Row groups are permuted in each epoch, the rows behind one another are cut into windows, and the
rows of a window are shuffled.
The order is a function of the seed alone, so a position in the stream is all it takes to resume,
and global batch ``i`` is rows ``[i B, (i + 1) B)`` however many workers share it. Whatever chance
a row needs (time, posterior noise, which perturbation) is drawn with its window, from the seed and
the window's number: the training loop itself draws nothing.

Which of the K draws of a mask is taken is decided for a row group at a time, so that only that one
is read. Nothing is lost by it: the k-th perturbations of two masks have no more in common than
any other two.

A fed row: ``position`` int64, ``uniform`` float32 (becomes t), ``x_0`` ``[C, h, w]``, ``ids``
``[H, W]`` uint8, ``seed`` int64 (of an online perturbation), ``x_1`` ``[C, h, w]`` unless masks are
encoded online.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import ray.data
from numpy.typing import NDArray

from pipelines import raydata
from pipelines.latents import Manifest, Split, draw_column, read_row_groups

READERS = 8
"""Row groups that a task reads side by side."""


class Window(NamedTuple):
    """A stretch of the stream: row groups that are read, and shuffled with each other."""

    groups: list[tuple[int, int]]  # (shard, row group)
    first: int  # position of its first row in the stream
    order: NDArray[np.int64]  # of the rows, after reading the groups one behind the other


@dataclass(frozen=True)
class Order:
    """The order of the stream."""

    rows: tuple[tuple[int, int, int], ...]
    """(shard, row group, rows) of every row group of the split."""
    seed: int
    window: int
    """Rows a window, all alike; what is shuffled with each other comes from all over the split."""

    @classmethod
    def of(cls, split: Split, seed: int, groups: int, batch_size: int) -> Order:
        """About ``groups`` row groups a window, and whole global batches."""
        rows = tuple(
            (number, group, rows)
            for number, shard in enumerate(split.shards)
            for group, rows in enumerate(shard.row_groups)
        )
        wanted = groups * max(size for _, _, size in rows)
        return cls(rows, seed, -(-wanted // batch_size) * batch_size)

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Rows of every row group."""
        return np.array([rows for _, _, rows in self.rows])

    @property
    def epoch_rows(self) -> int:
        return int(self.sizes.sum())

    def __getitem__(self, number: int) -> Window:
        """Window ``number`` of the stream; epochs follow one another without a seam.

        Where an epoch ends within a window, the rows of each epoch stay on their side.
        """
        first, epoch_rows = number * self.window, self.epoch_rows
        groups: list[tuple[int, int]] = []
        orders, read = [], 0
        for epoch in range(first // epoch_rows, (first + self.window - 1) // epoch_rows + 1):
            begin = max(first - epoch * epoch_rows, 0)
            end = min(first + self.window - epoch * epoch_rows, epoch_rows)
            permutation = np.random.default_rng([self.seed, epoch]).permutation(len(self.rows))
            ends = np.cumsum(self.sizes[permutation])
            low = int(np.searchsorted(ends, begin, side="right"))
            high = int(np.searchsorted(ends, end, side="left"))
            groups += [self.rows[i][:2] for i in permutation[low : high + 1]]
            before = int(ends[low - 1]) if low else 0
            shuffled = np.random.default_rng([self.seed, epoch, number]).permutation(end - begin)
            orders.append(read + begin - before + shuffled)
            read += int(ends[high]) - before
        return Window(groups, first, np.concatenate(orders))


@dataclass(frozen=True)
class ReadWindow:
    """A Ray Data function: the number of a window to its rows, cut to ``[start, stop)``."""

    manifest: Manifest
    split: str
    order: Order
    start: int
    stop: int
    online: bool
    first: int = 0
    """Window that is number 0 of those asked for."""

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, NDArray[Any]]]:
        for number in batch["id"]:
            yield self.rows(self.first + int(number))

    def rows(self, number: int) -> dict[str, NDArray[Any]]:
        window, draws = self.order[number], self.manifest.recipe["draws"]
        rng = np.random.default_rng([self.order.seed, number, 1])
        # Draw 0 is clean and for evaluation; with no other there is no choice.
        taken = [int(rng.integers(min(1, draws - 1), draws)) for _ in window.groups]
        with ThreadPoolExecutor(READERS) as pool:  # storage makes one wait; decoding frees the lock
            parts = list(pool.map(self._read, window.groups, taken))
        positions = window.first + np.arange(len(window.order))
        keep = (positions >= self.start) & (positions < self.stop)
        rows = window.order[keep]
        table = {name: np.concatenate([part[name] for part in parts])[rows] for name in parts[0]}
        return draw(table, positions, keep, rng)

    def _read(self, place: tuple[int, int], taken: int) -> dict[str, NDArray[Any]]:
        """The columns of a row group that are needed; ``x_1`` is the draw that is taken."""
        shard = self.manifest.split(self.split).shards[place[0]]
        columns = ["mask", "image_mean"]
        if self.manifest.recipe["autoencoder"]["stochastic"]:
            columns.append("image_std")
        if not self.online:
            columns.append(draw_column(taken))
        uri = self.manifest.shard_uri(shard)
        table = read_row_groups(uri, [place[1]], columns, shard.sha256)
        if not self.online:
            table["x_1"] = table.pop(draw_column(taken))
        return table


def draw(
    table: dict[str, NDArray[Any]],
    positions: NDArray[np.int64],
    keep: NDArray[np.bool_],
    rng: np.random.Generator,
) -> dict[str, NDArray[Any]]:
    """Give the rows of a window what chance decides.

    Args:
        table: of the rows that are kept.
        positions: of all rows of the window: chance does not depend on where a run began.
        keep: which of them are kept.
        rng: the window's own.
    """
    result: dict[str, NDArray[Any]] = {
        "position": positions[keep],
        "uniform": rng.random(len(positions), np.float32)[keep],
        "seed": rng.integers(2**62, size=len(positions))[keep],
        "x_0": table["image_mean"],
        "ids": table["mask"],
    }
    if "x_1" in table:
        result["x_1"] = table["x_1"]
    if "image_std" in table:
        shape = (len(positions), *table["image_mean"].shape[1:])
        x_0 = rng.standard_normal(shape, np.float32)[keep]
        x_0 *= table["image_std"]
        x_0 += table["image_mean"]
        result["x_0"] = x_0
    return result


def stream(
    manifest: Manifest, split: str, order: Order, *, start: int, stop: int, online: bool, micro: int
) -> ray.data.Dataset:
    """Positions ``[start, stop)`` of the stream, in order, in blocks of ``micro`` rows.

    Split over n workers with ``equal=True`` and ``preserve_order``, block ``k`` goes to worker
    ``k mod n``: Ray Data deals to whoever has least, and all blocks are alike. A window is whole
    batches, so that it is cut into blocks where it is read: rows are moved once.
    """
    first, last = start // order.window, max(start, stop - 1) // order.window
    read = ReadWindow(manifest, split, order, start, stop, online, first)
    with raydata.ordered():
        count = last + 1 - first
        windows = ray.data.range(count, override_num_blocks=min(count, 10_000))
        rows = windows.map_batches(read, batch_size=1)
        return rows.repartition(target_num_rows_per_block=micro, strict=False)
