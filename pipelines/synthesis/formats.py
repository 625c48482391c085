"""Labelled images in the forms that others read without us: folders, WebDataset, Parquet.

    folder      images/[SPLIT/]NAME.png and masks/[SPLIT/]NAME.png, index PNGs with colours
    webdataset  webdataset/SPLIT-00000.tar: KEY.png, KEY.mask.png (grey, class ids), KEY.json
    parquet     data/SPLIT-00000.parquet: image and mask as ``struct{bytes, path}``, which Hugging
                Face datasets reads as images, and the facts as columns

One file a shard and split, named by the shard's number. Masks in tar and Parquet are grey and not
in colours, because readers there turn index PNGs into their colours. The bytes depend on what is in
a shard and on nothing else.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import config
from pipelines.corpora import pixels
from pipelines.corpora.pixels import Pixels
from pipelines.inference.products import Files, shard_number

Format = Literal["folder", "webdataset", "parquet"]
SPLITS = ("train", "val")
ROW_GROUP = 64
"""Rows that a reader of a Parquet file gets at once."""


class Sample(NamedTuple):
    """One labelled image."""

    name: str
    split: str
    pixels: Pixels  # [H, W, 3]
    ids: Pixels  # [H, W]
    facts: dict[str, Any]  # what else is known, plain values


def split_of(path: str, val_share: float) -> str:
    """The split of all that comes from a mask, by a hash of its path without suffix."""
    stem = os.path.splitext(path)[0]
    place = int(config.fingerprint(["split", stem])[:13], 16) / 16**13
    return SPLITS[place < val_share]


def folder_paths(name: str, split: str, *, by_split: bool) -> tuple[str, str]:
    """Where the image and the mask of a name are below the output."""
    below = f"{split}/" if by_split else ""
    return f"images/{below}{name}.png", f"masks/{below}{name}.png"


def files(
    formats: Sequence[Format],
    shard: str,
    samples: Sequence[Sample],
    palette: list[int],
    *,
    by_split: bool,
) -> Files:
    """The files of a shard in all ``formats``.

    Args:
        formats: which.
        shard: its name; the number at its end names the files.
        samples: what is in it.
        palette: colour table of index PNGs.
        by_split: whether folders have one folder a split.
    """
    number, found = shard_number(shard), dict[str, Any]()
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(lambda sample: pixels.png(sample.pixels), samples))
    if "folder" in formats:
        for sample, image in zip(samples, images, strict=True):
            first, second = folder_paths(sample.name, sample.split, by_split=by_split)
            found[first] = partial(bytes, image)
            found[second] = partial(pixels.png, sample.ids, palette)
    for split in SPLITS:
        mine = [(s, i) for s, i in zip(samples, images, strict=True) if s.split == split]
        if mine and "webdataset" in formats:
            found[f"webdataset/{split}-{number}.tar"] = partial(tar, mine)
        if mine and "parquet" in formats:
            found[f"data/{split}-{number}.parquet"] = partial(parquet, mine)
    return found


def key(name: str) -> str:
    """A name without dots, since WebDataset takes what follows one for the kind of file."""
    return name.replace("%", "%25").replace(".", "%2E")


def tar(samples: Sequence[tuple[Sample, bytes]]) -> bytes:
    """Samples and their images' PNG bytes as a WebDataset shard."""
    members: dict[str, bytes] = {}
    for sample, image in samples:
        facts = json.dumps({"name": sample.name} | sample.facts)
        members[f"{key(sample.name)}.png"] = image
        members[f"{key(sample.name)}.mask.png"] = pixels.png(sample.ids)
        members[f"{key(sample.name)}.json"] = facts.encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in sorted(members):  # a key's files stand together
            info = tarfile.TarInfo(name)  # of time 0 and nobody
            info.size = len(members[name])
            archive.addfile(info, io.BytesIO(members[name]))
    return buffer.getvalue()


def parquet(samples: Sequence[tuple[Sample, bytes]]) -> bytes:
    """Samples and their images' PNG bytes as a Parquet file that holds them."""
    facts = pa.Table.from_pylist([{"name": s.name} | s.facts for s, _ in samples])
    pictures = {
        "image": [{"bytes": image, "path": f"{s.name}.png"} for s, image in samples],
        "mask": [{"bytes": pixels.png(s.ids), "path": f"{s.name}.png"} for s, _ in samples],
    }
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {name: pa.array(values, kind) for name, values in pictures.items()}
    columns |= dict(zip(facts.column_names, facts.columns, strict=True))
    # What tells Hugging Face datasets that a struct is an image.
    features = {name: {"_type": "Image"} for name in pictures} | {
        field.name: {"_type": "Value", "dtype": _dtype(field.type)} for field in facts.schema
    }
    table = pa.table(columns).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    buffer = io.BytesIO()
    # PNGs do not shrink again.
    pq.write_table(table, buffer, row_group_size=ROW_GROUP, compression="none",
                   use_dictionary=False, write_statistics=facts.column_names)  # fmt: skip
    return buffer.getvalue()


def _dtype(kind: pa.DataType) -> str:
    return {"double": "float64"}.get(str(kind), str(kind))
