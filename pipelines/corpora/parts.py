"""A place in a listing to bytes: a file, a range of one (tar), a row of one (Parquet, Arrow).

``part`` of a row says where in the file: "" is all of it, ``bytes:OFFSET:LENGTH`` a range, and
``row:GROUP:ROW:COLUMN`` a row of a row group or record batch. ``layers:A,B`` is a mask in several
files, one a class, whose names stand where the URI has ``*``.
"""

from __future__ import annotations

import errno
import os
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infra import storage
from pipelines.corpora.pixels import BadInput


def read(uri: str, part: str = "", what: str = "image") -> bytes:
    """The bytes at a place; ``what`` they are is for messages.

    Raises:
        BadInput: when the file is not there, is a folder, or may not be read, or a cell of a table
            holds no bytes.
    """
    try:
        return _read(uri, part, what)
    except (FileNotFoundError, NotADirectoryError) as gone:
        raise BadInput(f"{_link(uri) or 'is not there'}: {gone}") from gone
    except PermissionError as refused:
        raise BadInput(f"may not be read: {refused}") from refused
    except IsADirectoryError as folder:
        raise BadInput(f"is a folder, where a file is asked for: {folder}") from folder
    except OSError as error:
        if error.errno not in (errno.ENAMETOOLONG, errno.ELOOP):
            raise
        raise BadInput(f"{_link(uri) or 'is no name of a file'}: {error}") from error


def _link(uri: str) -> str:
    """Of a link that leads nowhere, or in a circle, what it is; "" of anything else."""
    path = storage.local_path(uri) if storage.is_local(uri) else ""
    if not path or not os.path.islink(path):
        return ""
    return f"is a link to {os.readlink(path)!r}, which leads to no file"


def _read(uri: str, part: str, what: str) -> bytes:
    kind, _, rest = part.partition(":")
    if not kind:
        return storage.read_bytes(uri)
    if kind == "bytes":
        offset, length = map(int, rest.split(":"))
        return storage.read_bytes(uri, offset, offset + length)
    group, row, column = rest.split(":", 2)
    value = _column(uri, int(group), column)[int(row)].as_py()
    data = value_bytes(value)
    if data is None:
        raise BadInput(f"the {what} {_instead(value)} (column {column!r})")
    return data


def _instead(value: Any) -> str:
    """What a cell is that holds no bytes."""
    path = value.get("path") if isinstance(value, dict) and "bytes" in value else value
    if path is None:
        return "is null"
    if isinstance(path, str):
        return f"is a path, {path[:200]!r}, without its bytes"
    return f"is of the type {type(path).__name__}, where bytes of a picture are expected"


def value_bytes(value: Any) -> bytes | None:
    """Image bytes of a cell: plain, or ``{bytes, path}`` as Hugging Face stores images."""
    data = value.get("bytes") if isinstance(value, dict) else value
    return data if isinstance(data, bytes) else None


# Rows come in order, so the last row groups are the ones that are wanted again.
@lru_cache(maxsize=4)
def _column(uri: str, group: int, column: str) -> pa.ChunkedArray:
    if uri.endswith(".arrow"):
        return pa.chunked_array([open_stream(uri)[group].column(column)])
    with storage.open_input(uri) as file:
        return pq.ParquetFile(file).read_row_group(group, columns=[column]).column(0)


@lru_cache(maxsize=2)
def open_stream(uri: str) -> list[pa.RecordBatch]:
    """Record batches of an Arrow IPC file, streamed or not; local ones are mapped, not read."""
    source = (
        pa.memory_map(storage.filesystem(uri)[1])
        if storage.is_local(uri)
        else pa.BufferReader(storage.read_bytes(uri))
    )
    try:
        return list(pa.ipc.open_stream(source))
    except pa.ArrowInvalid:
        file = pa.ipc.open_file(source)
        return [file.get_batch(i) for i in range(file.num_record_batches)]


def read_layers(uri: str, part: str) -> dict[str, bytes]:
    """The files of a mask in several files, by the name of their class; ``*`` is its place."""
    prefix, _, suffix = uri.rpartition("*")
    names = part.removeprefix("layers:").split(",")
    return {name: read(f"{prefix}{name}{suffix}") for name in names}
