"""An index: a CSV, JSONL or Parquet file with a column for photos and one for masks."""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from infra import credentials, storage
from pipelines.corpora.corpus import Corpus
from pipelines.corpora.pair import Bad, Pair
from pipelines.corpora.readers.files import shards_of

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".ndjson", ".parquet")


def pairs(corpus: Corpus, split: str) -> Iterator[Pair | Bad]:
    """Rows of the index; paths are relative to the root unless they are absolute or URIs.

    A column ``id`` names pairs, else the photo's path does; a column ``split`` picks rows.
    """
    root = storage.absolute(corpus.root)
    words: set[str] = set()
    for name, uri, _ in shards_of(corpus, split):
        table = _read(uri)
        missing = {corpus.images, corpus.masks} - set(table.column_names)
        if missing:
            raise ValueError(
                f"{uri} has no column {', '.join(sorted(missing))}; it has "
                f"{', '.join(table.column_names)}. --corpus.images and --corpus.masks name them"
            )
        if "split" in table.column_names:
            words |= set(map(str, table["split"].to_pylist()))
        for number, row in enumerate(table.to_pylist()):
            if "split" in row and row["split"] != corpus.folder(split):
                continue
            image, mask = row[corpus.images], row[corpus.masks]
            if not image or not mask:
                yield Bad(f"{name}, row {number}", "names no image" if mask else "names no mask")
                continue
            if odd := [value for value in (image, mask) if not isinstance(value, str)]:
                kind = type(odd[0]).__name__
                yield Bad(f"{name}, row {number}", f"{odd[0]!r} is of the type {kind}, not a path")
                continue
            id_ = str(row["id"]) if row.get("id") is not None else os.path.splitext(image)[0]
            try:
                first, second = (_place(root, corpus.allow, str(name)) for name in (image, mask))
            except ValueError as reason:
                yield Bad(f"{name}, row {number}", str(reason))
                continue
            yield Pair(id_, first, "", second, "", 0)
    if words and corpus.folder(split) not in words:
        raise ValueError(
            f"{root}: no row is of the split {corpus.folder(split)!r}; there are "
            f"{', '.join(sorted(words))}, which --corpus.splits names"
        )


def _place(root: str, allowed: tuple[str, ...], name: str) -> str:
    """Where a name in an index leads: below the root, or to a place that may be named.

    Raises:
        ValueError: when it leads elsewhere. An index may be someone else's work, and what it names
            is read with this user's rights.
    """
    if found := credentials.carried(name):
        raise ValueError(f"the place has {found}. {credentials.INSTEAD}")
    absolute = "://" in name or name.startswith("/")
    uri = name if absolute else storage.join(root, name)
    if storage.leads_out(uri):
        raise ValueError(f"the name {name!r} leads out of its folder")
    if absolute and not any(
        f"{uri}/".startswith(f"{storage.absolute(place).rstrip('/')}/")
        for place in (root, *allowed)
    ):
        raise ValueError(
            f"{name!r} lies outside the corpus; --corpus.allow names places where an index's files "
            "may lie"
        )
    return uri


def has_splits(corpus: Corpus) -> bool:
    """Whether a column ``split`` picks the rows of one; asked of a corpus with one index for all.

    Raises:
        FileNotFoundError: when there is no index.
        ValueError: when it cannot be read.
    """
    return any("split" in _read(uri).column_names for _, uri, _ in shards_of(corpus, ""))


def _read(uri: str) -> pa.Table:
    """The rows of an index.

    Raises:
        ValueError: when it is of another kind, saying which, or names a column twice.
    """
    suffix = os.path.splitext(uri)[1].lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{uri}: an index is .csv, .tsv, .jsonl or .parquet")
    data = storage.read_bytes(uri)
    try:
        table = _table(data, suffix)
    except (pa.ArrowException, RecursionError, UnicodeError) as error:
        raise ValueError(f"{uri} is no index{_instead(data, suffix)}: {error}") from error
    if twice := sorted(name for name, n in Counter(table.column_names).items() if n > 1):
        raise ValueError(f"{uri} has more than one column {', '.join(twice)}")
    return table


def _table(data: bytes, suffix: str) -> pa.Table:
    if suffix == ".parquet":
        return pq.read_table(io.BytesIO(data))
    if suffix in (".csv", ".tsv"):
        options = pyarrow.csv.ParseOptions(delimiter="\t" if suffix == ".tsv" else ",")
        return pyarrow.csv.read_csv(io.BytesIO(data), parse_options=options)
    whole = _json(data)
    if isinstance(whole, list) and whole and all(isinstance(row, dict) for row in whole):
        return pa.Table.from_pylist(whole)
    return pyarrow.json.read_json(io.BytesIO(data))


def _json(data: bytes) -> Any:
    """A file that is one JSON value; None where it is lines of them, or none."""
    try:
        return json.loads(data) if data.lstrip()[:1] in (b"[", b"{") else None
    except (ValueError, RecursionError):
        return None


def _instead(data: bytes, suffix: str) -> str:
    """What a JSON file is that has no rows, for a sentence that goes on."""
    if suffix in (".csv", ".tsv", ".parquet"):
        return ""
    whole, asked = _json(data), "a line {image, mask} for each pair, or one list of these"
    if isinstance(whole, list):
        kinds = sorted({type(row).__name__ for row in whole})
        return f", where {asked} is asked for, but a list of {', '.join(kinds) or 'nothing'}"
    return f", where {asked} is asked for"
