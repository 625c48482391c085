"""The latent dataset: THE contract between encode and whatever reads latents.

A folder with ``SPLIT/00000.parquet ...``, ``quarantine.jsonl`` and ``manifest.json``, which is
written last: without it the dataset is unfinished. The shards are plain Parquet with canonical
``arrow.fixed_shape_tensor`` columns, readable without us. A row is one view of one pair:

    id              string                       unique within the split, with the view
    view            int32                        0 is the whole pair
    crop            int32[4]                     left, top, width, height in the photo's pixels
    flip            bool
    mask            fixed_size_binary(H W)       the class ids, row by row, at the dataset's size
    image_mean      float16 [C, h, w]            posterior mean of the image, scaled
    image_std       float16 [C, h, w]            only if the autoencoder's posterior has a spread
    mask_draw_0     float16 [C, h, w]            the mask, clean
    mask_draw_k     float16 [C, h, w]            for 0 < k < K: the mask, perturbed

A draw is a column, so that training reads the one that it takes and not all K; and what it always
reads stands together, one request to an object store.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from infra import storage
from semflow.masks.classmap import ClassMap
from semflow.masks.palette import Palette

FORMAT = 3
MANIFEST, QUARANTINE = "manifest.json", "quarantine.jsonl"
METADATA_KEY, SHAPE_KEY = b"semflow", b"shape"


@dataclass(frozen=True)
class Shard:
    """One file of a split."""

    path: str
    """Below the dataset's folder."""
    rows: int
    bytes: int
    sha256: str
    row_groups: tuple[int, ...]
    """Rows of each row group, the unit that training reads."""


@dataclass(frozen=True)
class Split:
    inputs: int
    """Pairs that it was to be made of, quarantined ones too."""
    rows: int
    shards: tuple[Shard, ...]
    class_pixels: tuple[int, ...]
    """Pixels of each class over all views."""

    @property
    def frequency(self) -> torch.Tensor:
        """The same as ``[K]`` float64."""
        return torch.tensor(self.class_pixels, dtype=torch.float64)

    @classmethod
    def of(cls, records: Sequence[Mapping[str, Any]], inputs: int, classes: int) -> Split:
        """From what was remembered of each shard that was written, in order."""
        written = [record for record in records if "path" in record]
        keys = ("path", "rows", "bytes", "sha256")
        pixels = np.array([record["class_pixels"] for record in written] or [[0] * classes])
        return cls(
            inputs=inputs,
            rows=sum(record["rows"] for record in written),
            shards=tuple(
                Shard(row_groups=tuple(record["row_groups"]), **{key: record[key] for key in keys})
                for record in written
            ),
            class_pixels=tuple(pixels.sum(0).tolist()),
        )


@dataclass(frozen=True)
class Manifest:
    """What a latent dataset is; everything that a reader needs to know."""

    uri: str
    fingerprint: str
    """Of the recipe and of every shard: which data this is."""
    recipe: dict[str, Any]
    """All that decides the latents: see ``pipelines.dataset.config.recipe``."""
    corpus: dict[str, Any]
    """What it was made from: root, splits, values of the masks, licence."""
    palette: Palette
    height: int
    width: int
    splits: dict[str, Split]
    quarantined: int
    codec_ceiling: dict[str, Any]
    """mIoU of masks that only went through the autoencoder: no flow can beat it."""
    findings: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What the encode has counted that a person should know: see ``pipelines.dataset.findings``."""

    def shard_uri(self, shard: Shard) -> str:
        return storage.join(self.uri, shard.path)

    @property
    def class_map(self) -> ClassMap | None:
        """What the values of the corpus's mask files mean; None where a mask is several files."""
        if "{part}" in self.corpus["masks"]:
            return None
        return ClassMap.from_json(self.recipe["labels"])

    @property
    def judged(self) -> str:
        """The split that models are judged on: 'val', or the last one."""
        return "val" if "val" in self.splits else list(self.splits)[-1]

    def split(self, name: str) -> Split:
        """A split by name.

        Raises:
            ValueError: when there is none of that name.
        """
        if name not in self.splits:
            raise ValueError(f"{self.uri} has no split {name!r}; it has {', '.join(self.splits)}")
        return self.splits[name]


def draw_column(draw: int) -> str:
    """The column of a draw of the mask."""
    return f"mask_draw_{draw}"


def to_table(columns: Mapping[str, Any], metadata: str) -> pa.Table:
    """Columns of a shard as an Arrow table, tensors in the canonical extension type.

    Args:
        columns: by name, a value a row: ``mask`` uint8 ``[R, H, W]``, latents ``[R, C, h, w]``.
        metadata: for the file.
    """
    arrays: dict[str, pa.Array] = {}
    notes: dict[str, dict[bytes, bytes]] = {}
    for name, values in columns.items():
        if name == "crop" or name.startswith(("image_", "mask_")):
            dtype = np.int32 if name == "crop" else np.float16
            tensor = np.ascontiguousarray(_stack(values), dtype)
            arrays[name] = pa.FixedShapeTensorArray.from_numpy_ndarray(tensor)
        elif name == "mask":
            masks = np.ascontiguousarray(_stack(values), np.uint8)
            kind = pa.binary(masks[0].size)  # as a tensor it would be read ten times slower
            arrays[name] = pa.Array.from_buffers(kind, len(masks), [None, pa.py_buffer(masks)])
            notes[name] = {SHAPE_KEY: json.dumps(masks.shape[1:]).encode()}
        elif name == "view":
            arrays[name] = pa.array(values, pa.int32())
        else:
            arrays[name] = pa.array(list(values))
    first = ["id", "view", "crop", "flip", "mask", "image_mean", "image_std"]
    draws = sorted(arrays.keys() - set(first), key=lambda name: (len(name), name))  # 2 before 10
    names = [name for name in first if name in arrays] + draws
    fields = [pa.field(name, arrays[name].type, metadata=notes.get(name)) for name in names]
    schema = pa.schema(fields, {METADATA_KEY: metadata.encode()})
    return pa.Table.from_arrays([arrays[name] for name in names], schema=schema)


def _stack(values: Any) -> NDArray[Any]:
    """Values as one array; what is one is not copied."""
    whole = isinstance(values, np.ndarray) and values.dtype != object
    return values if whole else np.stack(list(values))


def parquet_bytes(table: pa.Table, row_group_rows: int) -> tuple[bytes, tuple[int, ...]]:
    """A table as a Parquet file, and the rows of its row groups.

    Latents of a real autoencoder are nearly noise: zstd takes 8 % off them and doubles the time
    of reading. LZ4 costs nothing there and still shrinks what is flat. Masks shrink a lot: zstd.
    """
    tensors = [f.name for f in table.schema if isinstance(f.type, pa.FixedShapeTensorType)]
    others = [name for name in table.column_names if name not in tensors]
    buffer = io.BytesIO()
    pq.write_table(
        table, buffer, row_group_size=row_group_rows, use_dictionary=False,
        write_statistics=others,  # a latent's least value is of no use, and costs a third
        compression={f"{name}.list.element": "lz4" for name in tensors}
        | dict.fromkeys(others, "zstd"),
    )  # fmt: skip
    whole, rest = divmod(table.num_rows, row_group_rows)
    return buffer.getvalue(), (row_group_rows,) * whole + ((rest,) if rest else ())


def read_row_groups(
    uri: str, groups: list[int], columns: list[str] | None = None, digest: str = ""
) -> dict[str, NDArray[Any]]:
    """Row groups of a shard as numpy columns, tensors and masks with their shapes.

    With the shard's ``digest``, its footer is remembered: reading many row groups asks for it once.
    """
    with storage.open_columnar(uri) as file:
        footer = _footer(uri, digest) if digest else None
        parquet = pq.ParquetFile(file, metadata=footer, pre_buffer=True)
        return to_numpy(parquet.read_row_groups(groups, columns=columns))


@lru_cache(maxsize=4096)
def _footer(uri: str, _digest: str) -> pq.FileMetaData:
    with storage.open_columnar(uri) as file:
        return pq.ParquetFile(file).metadata


def to_numpy(table: pa.Table) -> dict[str, NDArray[Any]]:
    """An Arrow table as numpy columns, tensors and masks with their shapes."""
    result: dict[str, NDArray[Any]] = {}
    for field in table.schema:
        column = table[field.name].combine_chunks()
        if isinstance(column, pa.ChunkedArray):  # an empty table, or over 2 GB of strings
            column = pa.concat_arrays(column.chunks)
        if isinstance(column, pa.FixedShapeTensorArray):
            result[field.name] = column.to_numpy_ndarray()
        elif pa.types.is_fixed_size_binary(column.type):
            shape = json.loads(field.metadata[SHAPE_KEY])
            first = column.offset * column.type.byte_width
            data = np.frombuffer(column.buffers()[1], np.uint8)[first:]
            result[field.name] = data[: len(column) * column.type.byte_width].reshape(-1, *shape)
        else:
            result[field.name] = column.to_numpy(zero_copy_only=False)
    return result


class Rows:
    """Some rows of a split: names, image latents ``x_0`` [N, C, h, w] and ``ids`` [N, H, W]."""

    def __init__(self, manifest: Manifest, split: str, limit: int, skip: int = 0) -> None:
        """Read ``limit`` rows after the first ``skip``, and no row group without any."""
        parts: dict[str, list[Any]] = {"id": [], "image_mean": [], "mask": []}
        before = 0
        for shard in manifest.split(split).shards:
            for group, rows in enumerate(shard.row_groups):
                mine = slice(max(0, skip - before), min(rows, skip + limit - before))
                if mine.start < mine.stop:
                    table = read_row_groups(manifest.shard_uri(shard), [group], list(parts))
                    for name, values in parts.items():
                        values.extend(table[name][mine])
                before += rows
        self.names = [str(name) for name in parts["id"]]
        self.x_0 = torch.from_numpy(np.stack(parts["image_mean"])).float()
        self.ids = torch.from_numpy(np.stack(parts["mask"]))

    def __len__(self) -> int:
        return len(self.names)


def dataset_fingerprint(recipe: str, splits: Mapping[str, Split]) -> str:
    """Which data this is: the recipe's fingerprint and every shard's digest, as one."""
    digests = {name: [shard.sha256 for shard in split.shards] for name, split in splits.items()}
    text = json.dumps([recipe, digests], sort_keys=True)
    return storage.digest(text.encode())


def write_manifest(manifest: Manifest) -> None:
    """Finish a dataset: the manifest makes it one."""
    splits = {
        name: {
            "inputs": split.inputs,
            "rows": split.rows,
            "class_pixels": list(split.class_pixels),
            "shards": [shard.__dict__ | {"row_groups": list(shard.row_groups)}
                       for shard in split.shards],
        }
        for name, split in manifest.splits.items()
    }  # fmt: skip
    storage.write_json(
        storage.join(manifest.uri, MANIFEST),
        {
            "format": FORMAT,
            "fingerprint": manifest.fingerprint,
            "recipe": manifest.recipe,
            "corpus": manifest.corpus,
            "palette": manifest.palette.to_json(),
            "height": manifest.height,
            "width": manifest.width,
            "splits": splits,
            "quarantined": manifest.quarantined,
            "codec_ceiling": manifest.codec_ceiling,
            "findings": manifest.findings,
        },
    )


def read_manifest(uri: str) -> Manifest:
    """Open a latent dataset.

    Raises:
        ValueError: when it is unfinished, is none, or is of another format.
    """
    uri = storage.absolute(uri)
    location = storage.join(uri, MANIFEST)
    if not storage.exists(location):
        raise ValueError(
            f"{uri} has no {MANIFEST}: it is no latent dataset, or its encode has not finished "
            "(the same encode command goes on where it stopped)"
        )
    data = storage.read_json(location)
    if data.get("format") != FORMAT:
        raise ValueError(f"{location} is of format {data.get('format')}, this reads {FORMAT}")
    splits = {
        name: Split(
            inputs=split["inputs"],
            rows=split["rows"],
            class_pixels=tuple(split["class_pixels"]),
            shards=tuple(
                Shard(**shard | {"row_groups": tuple(shard["row_groups"])})
                for shard in split["shards"]
            ),
        )
        for name, split in data["splits"].items()
    }
    return Manifest(
        uri=uri,
        fingerprint=data["fingerprint"],
        recipe=data["recipe"],
        corpus=data["corpus"],
        palette=Palette.from_json(data["palette"]),
        height=data["height"],
        width=data["width"],
        splits=splits,
        quarantined=data["quarantined"],
        codec_ceiling=data["codec_ceiling"],
        findings=data.get("findings", {}),  # newer than the format
    )
