"""What training eats, and in which order: one endless stream of rows, the same for everyone.

Row groups are permuted in each epoch and dealt into windows; the rows of a window are shuffled.
The order is a function of the seed alone, so a position in the stream is all it takes to resume,
and global batch ``i`` is rows ``[i B, (i + 1) B)`` however many workers share it. Whatever chance
a row needs (time, posterior noise, which perturbation) is drawn from its position: the training
loop itself draws nothing.

A fed row: ``position`` int64, ``uniform`` float32 (becomes t), ``x_0`` ``[C, h, w]``, ``ids``
``[H, W]`` uint8, ``seed`` int64 (of an online perturbation), ``x_1`` ``[C, h, w]`` unless masks are
encoded online.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import ray.data
from numpy.typing import NDArray

from pipelines import pixels, raydata
from pipelines.latents import Manifest, Split, read_row_groups


class Window(NamedTuple):
    """Row groups that are read and shuffled together."""

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
    """Row groups a window: what is shuffled with each other is at most as many rows as they hold,
    taken from all over the split."""

    @classmethod
    def of(cls, split: Split, seed: int, window: int) -> Order:
        rows = (
            (number, group, rows)
            for number, shard in enumerate(split.shards)
            for group, rows in enumerate(shard.row_groups)
        )
        return cls(tuple(rows), seed, window)

    @property
    def epoch_rows(self) -> int:
        return sum(rows for _, _, rows in self.rows)

    @property
    def windows_per_epoch(self) -> int:
        return -(-len(self.rows) // self.window)

    def __getitem__(self, number: int) -> Window:
        """Window ``number`` of the stream; epochs follow one another without a seam."""
        epoch, index = divmod(number, self.windows_per_epoch)
        permutation = np.random.default_rng([self.seed, epoch]).permutation(len(self.rows))
        sizes = [self.rows[i][2] for i in permutation]
        cut = slice(index * self.window, (index + 1) * self.window)
        order = np.random.default_rng([self.seed, epoch, index]).permutation(sum(sizes[cut]))
        return Window(
            groups=[self.rows[i][:2] for i in permutation[cut]],
            first=epoch * self.epoch_rows + sum(sizes[: cut.start]),
            order=order,
        )

    def window_of(self, position: int) -> int:
        """Number of the window that holds a position of the stream."""
        epoch, within = divmod(position, self.epoch_rows)
        permutation = np.random.default_rng([self.seed, epoch]).permutation(len(self.rows))
        ends = np.cumsum([self.rows[i][2] for i in permutation])
        group = int(np.searchsorted(ends, within, side="right"))
        return epoch * self.windows_per_epoch + group // self.window


@dataclass(frozen=True)
class ReadWindow:
    """A Ray Data function: the number of a window to its rows, cut to ``[start, stop)``."""

    manifest: Manifest
    split: str
    order: Order
    start: int
    stop: int
    online: bool

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, NDArray[Any]]]:
        for number in batch["id"]:
            yield self.rows(int(number))

    def rows(self, number: int) -> dict[str, NDArray[Any]]:
        window = self.order[number]
        shards = self.manifest.split(self.split).shards
        parts = [
            read_row_groups(self.manifest.shard_uri(shards[shard]), [group], self._columns())
            for shard, group in window.groups
        ]
        positions = window.first + np.arange(len(window.order))
        keep = (positions >= self.start) & (positions < self.stop)
        table = {
            name: np.concatenate([part[name] for part in parts])[window.order[keep]]
            for name in parts[0]
        }
        return draw(table, positions[keep], self.order.seed, online=self.online)

    def _columns(self) -> list[str]:
        columns = ["image_mean", "mask"]
        if self.manifest.recipe["autoencoder"]["stochastic"]:
            columns.append("image_std")
        return columns if self.online else [*columns, "mask_draws"]


def draw(
    table: dict[str, NDArray[Any]], positions: NDArray[np.int64], seed: int, *, online: bool
) -> dict[str, NDArray[Any]]:
    """Give rows what chance decides, from each one's position."""
    rngs = [np.random.default_rng([seed, int(p)]) for p in positions]
    result: dict[str, NDArray[Any]] = {
        "position": positions,
        "uniform": np.array([rng.random() for rng in rngs], np.float32),
        "seed": np.array([rng.integers(2**62) for rng in rngs]),
        "x_0": table["image_mean"],
        "ids": np.stack([np.asarray(pixels.open_image(mask)) for mask in table["mask"]]),
    }
    if not online:
        draws = table["mask_draws"]
        # Draw 0 is clean and for evaluation; with no other there is no choice.
        choice = [int(rng.integers(min(1, draws.shape[1] - 1), draws.shape[1])) for rng in rngs]
        result["x_1"] = draws[np.arange(len(draws)), choice]
    if "image_std" in table:
        shape = table["image_mean"].shape[1:]
        noise = np.stack([rng.standard_normal(shape, np.float32) for rng in rngs])
        result["x_0"] = table["image_mean"].astype(np.float32) + table["image_std"] * noise
    return result


def stream(
    manifest: Manifest, split: str, order: Order, *, start: int, stop: int, online: bool, micro: int
) -> ray.data.Dataset:
    """Positions ``[start, stop)`` of the stream, in order, in blocks of ``micro`` rows.

    Split over n workers with ``equal=True`` and ``preserve_order``, block ``k`` goes to worker
    ``k mod n``: Ray Data deals to whoever has least, and all blocks are alike.
    """
    first, last = order.window_of(start), order.window_of(max(start, stop - 1))
    read = ReadWindow(manifest, split, order, start, stop, online)
    with raydata.ordered():
        numbers = ray.data.range(last + 1, override_num_blocks=min(last + 1, 10_000))
        if first:
            numbers = ray.data.from_items(
                [{"id": n} for n in range(first, last + 1)],
                override_num_blocks=min(last + 1 - first, 10_000),
            )
        windows = numbers.map_batches(read, batch_size=1)
        return windows.repartition(target_num_rows_per_block=micro, strict=True)
