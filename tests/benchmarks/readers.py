"""The readers that are compared: ours here, the peers' in peers.py, all to the same tensors.

A reader gives an epoch in batches of ``x_0`` float32 ``[B, 4, h, w]`` (mean + std * noise), ``x_1``
float16 ``[B, 4, h, w]`` (a draw other than the clean one) and ``ids`` uint8 ``[B, H, W]``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from infra import storage
from pipelines.dataset import latents
from pipelines.training.feed import Feed, Order
from semflow import make_palette
from tests.benchmarks import peers
from tests.benchmarks.peers import BUFFER, SHARD_ROWS, Work
from tests.benchmarks.synthetic import CLASSES, Batch, Row, Shape, make_row

ROW_GROUP_ROWS, WINDOW = 32, 16  # encode.py's and train.py's defaults


def write_ours(shape: Shape, folder: str) -> None:
    """A latent dataset as encode.py leaves it."""
    shards = []
    for start in range(0, shape.rows, SHARD_ROWS):
        rows = [make_row(n, shape) for n in range(start, min(start + SHARD_ROWS, shape.rows))]
        shards.append(_write_shard(rows, folder, f"train/{len(shards):05d}.parquet"))
    split = latents.Split(shape.rows, shape.rows, tuple(shards), (0,) * CLASSES)
    height, width = shape.mask
    latents.write_manifest(
        latents.Manifest(
            uri=folder, fingerprint="synthetic",
            recipe={"autoencoder": {"stochastic": True}, "draws": shape.draws}, corpus={},
            palette=make_palette("spread", CLASSES), height=height, width=width,
            splits={"train": split}, quarantined=0, codec_ceiling={},
        )
    )  # fmt: skip


def _write_shard(rows: list[Row], folder: str, path: str) -> latents.Shard:
    columns: dict[str, Any] = {
        "id": [row["id"] for row in rows],
        "view": [0] * len(rows),
        "crop": np.zeros((len(rows), 4), np.int32),
        "flip": [False] * len(rows),
        "mask": [row["ids"] for row in rows],
        "image_mean": [row["image_mean"] for row in rows],
        "image_std": [row["image_std"] for row in rows],
    }
    for k in range(len(rows[0]["mask_draws"])):
        columns[latents.draw_column(k)] = [row["mask_draws"][k] for row in rows]
    data, groups = latents.parquet_bytes(latents.to_table(columns, "{}"), ROW_GROUP_ROWS)
    storage.write_bytes(storage.join(folder, path), data)
    return latents.Shard(path, len(rows), len(data), storage.digest(data), groups)


def read_feed(work: Work) -> Iterator[Batch]:
    """As train.py does, with one worker."""
    manifest = latents.read_manifest(work.location)
    order = Order.of(manifest.split("train"), work.seed, WINDOW, work.batch)
    feed = Feed(manifest, "train", order, range(work.batch), online=False)
    for batch in feed.batches(0, order.epoch_rows // work.batch):
        yield {name: torch.from_numpy(batch[name]) for name in ("x_0", "x_1", "ids")}


@dataclass(frozen=True)
class Library:
    """A way to read the latents."""

    module: str
    """What must be importable."""
    data: str
    """The folder of its data."""
    shuffling: str
    read: Callable[[Work], Iterator[Batch]]
    workers: bool = True
    """Whether it reads in DataLoader workers."""

    def version(self) -> str:
        """The installed version; empty where it is not installed."""
        try:
            return str(getattr(importlib.import_module(self.module), "__version__", "?"))
        except ImportError:
            return ""


SHUFFLED_WINDOWS = f"row groups permuted, batches from {WINDOW * ROW_GROUP_ROWS} rows"
SHUFFLED_BUFFER = f"shards permuted, rows in a buffer of {BUFFER}"
LIBRARIES = {
    "ours": Library("pyarrow", "ours", SHUFFLED_WINDOWS, read_feed, workers=False),
    "MosaicML streaming": Library(
        "streaming", "streaming", "py1e, its default: among all of these", peers.read_streaming
    ),
    "litdata": Library(
        "litdata", "litdata", "its default: chunks permuted, blocks of 256", peers.read_litdata
    ),
    "WebDataset": Library("webdataset", "webdataset", SHUFFLED_BUFFER, peers.read_webdataset),
    "Hugging Face datasets": Library("datasets", "datasets", SHUFFLED_BUFFER, peers.read_datasets),
}
WRITERS: dict[str, Callable[[Shape, str], None]] = {
    "ours": write_ours,
    "streaming": peers.write_streaming,
    "litdata": peers.write_litdata,
    "webdataset": peers.write_webdataset,
    "datasets": peers.write_datasets,
}
