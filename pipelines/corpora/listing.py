"""A corpus as a listing: one row a pair, sorted by id, and what cannot be paired."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import pyarrow as pa

from infra import storage
from pipelines.corpora.corpus import Corpus
from pipelines.corpora.pair import Bad, Left, Pair
from pipelines.corpora.readers import files, index, tables, tars

SCHEMA = pa.schema(
    [
        ("id", pa.string()),  # unique within a split
        ("image", pa.string()),  # URI of the file that holds the photo
        ("image_part", pa.string()),  # where in it: see parts.py
        ("mask", pa.string()),
        ("mask_part", pa.string()),
        ("bytes", pa.int64()),  # of both files: a change is noticed
    ]
)


class Listing(NamedTuple):
    pairs: pa.Table
    bad: list[Bad]
    left: list[Left]
    """What lies there and is not asked for, by kind."""


def list_pairs(corpus: Corpus, split: str) -> Listing:
    """A split's pairs sorted by id, and what has no partner, a second one, or no bytes.

    Raises:
        FileNotFoundError: when a folder or file is missing.
        ValueError: when there is not one pair.
    """
    kinds = {
        "files": files.pairs, "index": index.pairs, "tars": tars.pairs, "tables": tables.pairs
    }  # fmt: skip
    found, bad, left = _unique(kinds[corpus.kind](corpus, split))
    if not found:
        reasons = "".join(f"\n  {b.file}: {b.reason}" for b in bad[:5])
        raise ValueError(
            f"{storage.absolute(corpus.root)}, split {split!r}: no photo has a mask. {len(bad)} "
            f"files were found and cannot be used{':' if bad else ''}{reasons}"
        )
    columns = zip(*(found[key] for key in sorted(found)), strict=True)
    arrays = [pa.array(c, field.type) for c, field in zip(columns, SCHEMA, strict=True)]
    return Listing(pa.Table.from_arrays(arrays, schema=SCHEMA), bad, left)


def _unique(items: Iterable[Pair | Bad | Left]) -> tuple[dict[str, Pair], list[Bad], list[Left]]:
    found: dict[str, Pair] = {}
    bad: list[Bad] = []
    left: list[Left] = []
    for item in items:
        if isinstance(item, Bad):
            bad.append(item)
        elif isinstance(item, Left):
            left.append(item)
        elif item.id in found:
            there = found[item.id].image
            bad.append(Bad(item.image, f"a second pair of the id {item.id!r}, beside {there}"))
        else:
            found[item.id] = item
    return found, bad, left
