"""The peers: a writer and a reader for each, with the settings that it recommends.

What the libraries leave to their users, decoding and drawing, is :class:`Collate` for each of them
and runs where the library would run it: in the DataLoader's workers. Imports are local: what is
not installed must not stop the others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from infra import storage
from pipelines.corpora.pixels import open_image, png
from tests.benchmarks.synthetic import Batch, Row, Shape, make_row

TENSORS = ("image_mean", "image_std", "mask_draws")
SHARD_ROWS = 512
"""Rows of a Parquet file or of what stands for one."""
SHARD_BYTES = 1 << 26
"""Of all other shards: streaming's and litdata's own default."""
BUFFER = 1000
"""Rows that WebDataset and datasets shuffle with each other: both document this number."""


@dataclass(frozen=True)
class Work:
    """What a reader is asked for."""

    location: str
    """Folder or ``s3://`` URI of the library's data."""
    cache: str
    """An empty folder for local copies."""
    shape: Shape
    workers: int
    """DataLoader workers."""
    batch: int
    seed: int


def rows_of(shape: Shape) -> Iterator[Row]:
    """The rows, as the peers' writers take them."""
    return (peer_row(number, shape) for number in range(shape.rows))


def peer_row(number: int, shape: Shape) -> Row:
    """A row with its mask as a file would have it."""
    row = make_row(number, shape)
    ids = row.pop("ids")
    packed = png(ids) if shape.masks == "png" else pa.compress(ids.tobytes(), "zstd", asbytes=True)
    return row | {"mask": packed}


def peer_row_as_bytes(number: int, shape: Shape) -> Row:
    """The same for who keeps nothing but bytes."""
    row = peer_row(number, shape)
    return row | {name: row[name].tobytes() for name in TENSORS}


class Collate:
    """Rows to a batch: decode the masks, choose a draw, sample the posterior.

    A row's tensors are arrays or their bytes, as its library keeps them.
    """

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.rng: np.random.Generator | None = None

    def __call__(self, rows: list[Row]) -> Batch:
        if self.rng is None:  # made in the worker, so that no two draw alike
            self.rng = np.random.default_rng(torch.initial_seed())
        latent, stored = self.shape.latent, self.shape.mask_draws
        mean = np.stack([_array(row["image_mean"], latent) for row in rows])
        x_0 = self.rng.standard_normal(mean.shape, np.float32)
        x_0 *= np.stack([_array(row["image_std"], latent) for row in rows])
        x_0 += mean
        first = min(1, self.shape.draws - 1)  # draw 0 is clean and not for training, as in feed.py
        chosen = self.rng.integers(first, self.shape.draws, len(rows))
        draws = (_array(row["mask_draws"], stored) for row in rows)
        x_1 = np.stack([draw[k] for draw, k in zip(draws, chosen, strict=True)])
        ids = np.stack([self._mask(row["mask"]) for row in rows])
        return {name: torch.from_numpy(a) for name, a in (("x_0", x_0), ("x_1", x_1), ("ids", ids))}

    def _mask(self, data: bytes) -> np.ndarray:
        if self.shape.masks == "png":
            return np.asarray(open_image(data))
        height, width = self.shape.mask
        return np.frombuffer(pa.decompress(data, height * width, "zstd"), np.uint8).reshape(
            height, width
        )


def _array(value: Any, shape: tuple[int, ...]) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    return np.frombuffer(value, np.float16).reshape(shape)


# --- MosaicML streaming ---------------------------------------------------------------------------


def write_streaming(shape: Shape, folder: str) -> None:
    from streaming import MDSWriter

    latent, draws = (",".join(map(str, s)) for s in (shape.latent, shape.mask_draws))
    columns = {
        "id": "str",
        "image_mean": f"ndarray:float16:{latent}",
        "image_std": f"ndarray:float16:{latent}",
        "mask_draws": f"ndarray:float16:{draws}",
        "mask": "bytes",
    }
    with MDSWriter(out=folder, columns=columns, size_limit=SHARD_BYTES) as out:
        for row in rows_of(shape):
            out.write(row)


def read_streaming(work: Work) -> Iterator[Batch]:
    from streaming import StreamingDataLoader, StreamingDataset

    local = storage.is_local(work.location)
    where = {"local": work.location} if local else {"remote": work.location, "local": work.cache}
    data = StreamingDataset(
        **where, shuffle=True, shuffle_seed=work.seed, batch_size=work.batch
    )  # fmt: skip
    for stream in data.streams:  # else its forked workers share this process's S3 connection
        stream._downloader.clean_up()
    yield from StreamingDataLoader(
        data, batch_size=work.batch, num_workers=work.workers, collate_fn=Collate(work.shape)
    )


# --- litdata --------------------------------------------------------------------------------------


def write_litdata(shape: Shape, folder: str) -> None:
    from litdata import optimize

    optimize(
        fn=partial(peer_row, shape=shape), inputs=list(range(shape.rows)), output_dir=folder,
        num_workers=1, chunk_bytes=SHARD_BYTES, verbose=False,
    )  # fmt: skip


def read_litdata(work: Work) -> Iterator[Batch]:
    from litdata import StreamingDataLoader, StreamingDataset
    from litdata.streaming import downloader

    # Its S3 client, obstore, refuses plain HTTP unless told otherwise, and litdata has no word
    # for that; the server on loopback speaks nothing else.
    downloader._OBSTORE_CLIENT_OPTIONS["allow_http"] = True
    data = StreamingDataset(work.location, cache_dir=work.cache, shuffle=True, seed=work.seed)
    yield from StreamingDataLoader(
        data, batch_size=work.batch, num_workers=work.workers, collate_fn=Collate(work.shape)
    )


# --- WebDataset -----------------------------------------------------------------------------------


def write_webdataset(shape: Shape, folder: str) -> None:
    from webdataset import ShardWriter

    os.makedirs(folder, exist_ok=True)
    with ShardWriter(f"{folder}/%05d.tar", maxsize=SHARD_BYTES, verbose=0) as out:
        for number in range(shape.rows):
            row = peer_row_as_bytes(number, shape)
            tensors = {f"{name}.bin": row[name] for name in TENSORS}
            out.write({"__key__": row["id"], f"mask.{shape.masks}": row["mask"], **tensors})


def read_webdataset(work: Work) -> Iterator[Batch]:
    import webdataset as wds

    tars = [t for t in storage.list_files(work.location) if t.endswith(".tar")]
    urls = [storage.join(work.location, tar) for tar in tars]
    if not storage.is_local(work.location):
        # It reads HTTP by curl; its documents' "pipe:aws s3 cp" starts a slower program a shard.
        urls = [_presigned(url) for url in urls]
    data = (
        wds.WebDataset(urls, shardshuffle=100, seed=work.seed, empty_check=False)
        .shuffle(BUFFER)
        .map(partial(_from_tar, f"mask.{work.shape.masks}"))
        .batched(work.batch, collation_fn=Collate(work.shape), partial=True)
    )
    yield from wds.WebLoader(data, batch_size=None, num_workers=work.workers)


def _presigned(url: str) -> str:
    fs, path = storage.filesystem(url)
    return str(fs.sign(path, expiration=3600))


def _from_tar(mask: str, sample: dict[str, Any]) -> Row:
    return {"mask": sample[mask]} | {name: sample[f"{name}.bin"] for name in TENSORS}


# --- Hugging Face datasets ------------------------------------------------------------------------


def write_datasets(shape: Shape, folder: str) -> None:
    """Arrow for the local disk, Parquet for S3: what ``save_to_disk`` wrote cannot be streamed.

    Tensors are bytes: with ``Array3D`` features it reads at a quarter of the rate and turns half
    precision into single.
    """
    from datasets import Dataset

    data = Dataset.from_generator(_rows_as_bytes, gen_kwargs={"shape": shape})
    data.save_to_disk(f"{folder}/arrow", max_shard_size=SHARD_BYTES)
    os.makedirs(f"{folder}/parquet")
    count = -(-shape.rows // SHARD_ROWS)
    for index in range(count):
        part = data.shard(count, index, contiguous=True)
        part.to_parquet(f"{folder}/parquet/{index:05d}.parquet")


def _rows_as_bytes(shape: Shape) -> Iterator[Row]:
    return (peer_row_as_bytes(number, shape) for number in range(shape.rows))


def read_datasets(work: Work) -> Iterator[Batch]:
    import datasets
    from torch.utils.data import DataLoader

    # Where it reads Parquet it sleeps 5 s at the end of an epoch of whatever size; not counted
    # against it here.
    datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0
    if storage.is_local(work.location):
        whole = datasets.load_from_disk(f"{work.location}/arrow")
        data = whole.to_iterable_dataset(num_shards=-(-len(whole) // SHARD_ROWS))
    else:
        data = datasets.load_dataset(
            "parquet", data_files=f"{work.location}/parquet/*.parquet", split="train",
            streaming=True, fragment_scan_options=_prefetch(),
        )  # fmt: skip
    yield from DataLoader(
        data.shuffle(seed=work.seed, buffer_size=BUFFER), batch_size=work.batch,
        num_workers=work.workers, collate_fn=Collate(work.shape),
    )  # fmt: skip


def _prefetch() -> Any:
    """Its documents' setting to read Parquet ahead from a remote place."""
    import pyarrow as pa
    import pyarrow.dataset as ds

    options = pa.CacheOptions(prefetch_limit=1, range_size_limit=128 << 20)
    return ds.ParquetFragmentScanOptions(cache_options=options)
