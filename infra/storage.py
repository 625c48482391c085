"""Any URI as storage: plain paths, file://, s3:// and whatever else fsspec knows.

Credentials and endpoints come from the environment (``AWS_*``, ``AWS_ENDPOINT_URL``) only. A
location stays a string: ``Path`` mangles URIs.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
from fsspec.core import url_to_fs
from fsspec.spec import AbstractFileSystem


def filesystem(uri: str) -> tuple[AbstractFileSystem, str]:
    """The filesystem that holds ``uri``, and the path on it."""
    fs, path = url_to_fs(uri)
    return fs, path


def is_local(uri: str) -> bool:
    return "://" not in uri or uri.startswith("file://")


def absolute(uri: str) -> str:
    """``uri`` as every worker can read it: local paths become absolute, URIs stay.

    A relative path inside the copy of the working directory that ``ray job submit`` makes would
    vanish with the job: that is said on stderr.
    """
    if "://" in uri:
        return uri
    path = os.path.abspath(os.path.expanduser(uri))
    if "runtime_resources/working_dir_files" in path:
        print(
            f"warning: {uri!r} is relative, and a submitted job runs in Ray's copy of the working "
            f"directory: this is {path}. Give an absolute path or a URI.",
            file=sys.stderr,
        )
    return path


def join(uri: str, *parts: str) -> str:
    """``uri`` and parts below it, with single slashes."""
    return "/".join([uri.rstrip("/"), *(part.strip("/") for part in parts)])


def exists(uri: str) -> bool:
    fs, path = filesystem(uri)
    return bool(fs.exists(path))


def read_bytes(uri: str) -> bytes:
    fs, path = filesystem(uri)
    data: bytes = fs.cat_file(path)
    return data


def write_bytes(uri: str, data: bytes) -> None:
    """Write a whole object or nothing: object stores put at once, local files are renamed in."""
    fs, path = filesystem(uri)
    if not is_local(uri):
        fs.pipe_file(path, data)
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(target)


def read_json(uri: str) -> Any:
    return json.loads(read_bytes(uri))


def write_json(uri: str, data: Any) -> None:
    write_bytes(uri, (json.dumps(data, indent=2) + "\n").encode())


def list_files(uri: str, suffixes: Iterable[str] | None = None) -> list[str]:
    """Paths below ``uri``, relative to it, sorted; only with these suffixes (any case) if given.

    Hidden files are left out.

    Raises:
        FileNotFoundError: when there is nothing at ``uri``.
    """
    fs, root = filesystem(uri)
    if not fs.exists(root):
        raise FileNotFoundError(f"there is nothing at {uri}")
    wanted = None if suffixes is None else {suffix.lower() for suffix in suffixes}
    prefix = root.rstrip("/") + "/"
    found = (str(path).removeprefix(prefix) for path in fs.find(root))
    return sorted(
        path
        for path in found
        if not path.rpartition("/")[2].startswith(".")
        and (wanted is None or os.path.splitext(path)[1].lower() in wanted)
    )


def remove(uri: str) -> None:
    """Remove what is at ``uri``, if anything."""
    fs, path = filesystem(uri)
    if fs.exists(path):
        fs.rm(path, recursive=True)


def upload_folder(folder: str | Path, uri: str) -> None:
    """Copy a local folder's files to ``uri``, in order of name."""
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file():
            write_bytes(join(uri, path.relative_to(folder).as_posix()), path.read_bytes())


@contextmanager
def local_folder(uri: str) -> Iterator[str]:
    """The folder at ``uri`` as a local one: itself, or a copy for as long as the block runs."""
    fs, path = filesystem(uri)
    if is_local(uri):
        yield path
        return
    with tempfile.TemporaryDirectory() as copy:
        fs.get(path.rstrip("/") + "/", copy + "/", recursive=True)
        yield copy


def open_input(uri: str) -> Any:
    """A binary file to read from, seekable."""
    return fsspec.open(uri, "rb").open()


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
