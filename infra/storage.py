"""Any URI as storage: plain paths, file://, s3:// and whatever else fsspec knows.

Credentials and endpoints come from the environment (``AWS_*``, ``AWS_ENDPOINT_URL``) only. A
location stays a string: ``Path`` mangles URIs.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractFileSystem

from infra import tree
from infra.console import say

S3_TRIES = 16
"""Tries of a request to S3: s3fs waits 0.1 s, then 1.7 times longer each time, at most 15 s. This
is two minutes in all: a server that is restarted is waited for, one that is gone is reported."""

PARTIAL = ".partial"
"""How names end, beside a leading dot, of local files that are being written."""


def filesystem(uri: str) -> tuple[AbstractFileSystem, str]:
    """The filesystem that holds ``uri``, and the path on it."""
    if not is_s3(uri):
        fs, path = url_to_fs(uri)
        return fs, path
    # A remembered listing does not have what other workers have written since.
    fs, path = url_to_fs(uri, use_listings_cache=False)
    _be_patient(fs)
    return fs, path


def _be_patient(fs: Any) -> None:
    """Let s3fs wait for a server that is away or overloaded, and not only for slow ones."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
    from s3fs.core import set_custom_error_handler

    def transient(error: Exception) -> bool:
        if isinstance(error, ClientError):
            return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) >= 500
        if isinstance(error, NoCredentialsError):
            return False
        return isinstance(error, BotoCoreError | ConnectionError | TimeoutError)

    fs.retries = S3_TRIES
    set_custom_error_handler(transient)


def is_local(uri: str) -> bool:
    return "://" not in uri or uri.startswith("file://")


def local_path(uri: str) -> str:
    """The path of a local ``uri``: without ``file://``, absolute, ``~`` expanded."""
    return str(LocalFileSystem._strip_protocol(uri))


def is_s3(uri: str) -> bool:
    return uri.startswith(("s3://", "s3a://"))


def absolute(uri: str) -> str:
    """``uri`` as every worker can read it: local paths become absolute, URIs stay.

    A relative path inside the copy of the working directory that ``ray job submit`` makes would
    vanish with the job: that is said on stderr.
    """
    if "://" in uri:
        return uri
    path = os.path.abspath(os.path.expanduser(uri))
    if "runtime_resources/working_dir_files" in path:
        say(
            f"warning: {uri!r} is relative, and a submitted job runs in Ray's copy of the working "
            f"directory: this is {path}. Give an absolute path or a URI.",
            error=True,
        )
    return path


def join(uri: str, *parts: str) -> str:
    """``uri`` and parts below it, with single slashes: the one way from a name to a place.

    Names come from listings, tables, tars and manifests, which others wrote.

    Raises:
        ValueError: when a part leads out of ``uri``.
    """
    if outside := next((part for part in parts if leads_out(part)), None):
        raise ValueError(f"the name {outside!r} leads out of {uri}")
    return "/".join([uri.rstrip("/"), *(part.strip("/") for part in parts)])


def leads_out(name: str) -> bool:
    """Whether a name of something below a folder is none: as it stands, as a server would decode
    it, or with the separators of Windows."""
    if ".." not in name and "%" not in name and "\\" not in name and "\0" not in name:
        return False  # a million names are looked at
    decoded = unquote(unquote(name)).replace("\\", "/")
    return "\0" in decoded or ".." in decoded.split("/")


def exists(uri: str) -> bool:
    fs, path = filesystem(uri)
    return bool(fs.exists(path))


def read_bytes(uri: str, start: int | None = None, end: int | None = None) -> bytes:
    """A whole object, or its bytes from ``start`` up to ``end``."""
    if start is None and end is None and is_local(uri):  # fsspec takes twice as long for small ones
        with open(local_path(uri), "rb") as file:
            return file.read()
    fs, path = filesystem(uri)
    data: bytes = fs.cat_file(path, start, end)
    return data


def write_bytes(uri: str, data: bytes) -> None:
    """Write a whole object or nothing: object stores put at once, local files are renamed in."""
    if is_local(uri):
        with writer(uri) as file:
            file.write(data)
        return
    fs, path = filesystem(uri)
    fs.pipe_file(path, data)


def create_local(uri: str, data: bytes) -> bool:
    """Write a local file if there is none yet; of several that try at once, one is told True."""
    target = local_path(uri)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=os.path.dirname(target), prefix=".",
                                     suffix=PARTIAL) as file:  # fmt: skip
        file.write(data)
        file.flush()
        try:
            os.link(file.name, target)
        except FileExistsError:
            return False
    return True


@contextmanager
def writer(uri: str) -> Iterator[IO[bytes]]:
    """A file to write piece by piece: there whole when the block ends well, or not at all.

    What goes elsewhere is on the local disk until then, since what was sent cannot be taken back.
    """
    if not is_local(uri):
        fs, path = filesystem(uri)
        with tempfile.NamedTemporaryFile() as copy:
            yield copy
            copy.flush()
            fs.put_file(copy.name, path)
        return
    # Plain system calls: a million small files are written so, and pathlib took twice as long.
    target = local_path(uri)
    folder, name = os.path.split(target)
    short = digest(os.fsencode(name))[:16]  # a name may be long
    partial = f"{folder}/.{short}.{os.getpid()}{PARTIAL}"
    try:
        file = open(partial, "wb")  # noqa: SIM115 - closed below, before it gets its name
    except FileNotFoundError:
        os.makedirs(folder, exist_ok=True)
        file = open(partial, "wb")  # noqa: SIM115
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(partial)
        raise


def remove_partials(uri: str) -> None:
    """Remove what killed writers left below a local ``uri``; no other storage has such files."""
    if not is_local(uri):
        return
    for folder, _, names in os.walk(local_path(uri)):
        for name in names:
            if name.startswith(".") and name.endswith(PARTIAL):
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(folder, name))


def read_json(uri: str) -> Any:
    """What a JSON file says.

    Raises:
        ValueError: when it was cut or changed, naming it.
    """
    data = read_bytes(uri)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{uri} ({len(data)} bytes) is no whole JSON: it was cut or changed after it was "
            f"written ({type(error).__name__}: {error}). Copy it again from where it came, or "
            "remove it and run again the job that writes it"
        ) from error


def write_json(uri: str, data: Any) -> None:
    write_bytes(uri, (json.dumps(data, indent=2) + "\n").encode())


def list_files(uri: str, suffixes: Iterable[str] | None = None) -> list[str]:
    """Paths below ``uri``, as :func:`find` finds them."""
    return list(find(uri, suffixes))


def find(
    uri: str, suffixes: Iterable[str] | None = None, others: list[str] | None = None
) -> dict[str, int]:
    """Files below ``uri``, by path relative to it, sorted, with their bytes.

    Hidden files, and all in hidden folders, are left out; with suffixes (any case) all others are.
    Local folders that are linked in are entered, each real one once; what is not entered is said.
    ``others`` is given the paths of what no suffix takes, as a person can read them.

    Raises:
        FileNotFoundError: when there is nothing at ``uri``.
        ValueError: when it is a file, or a name is not UTF-8: no table could hold it.
    """
    files = tree.walk(local_path(uri)) if is_local(uri) else _listed(uri)
    wanted = None if suffixes is None else {suffix.lower() for suffix in suffixes}
    found = {
        path: files[path]
        for path in sorted(files)
        if wanted is None or os.path.splitext(path)[1].lower() in wanted
    }
    if others is not None:
        left = sorted(files.keys() - found.keys())
        others += [os.fsencode(path).decode(errors="backslashreplace") for path in left]
    if odd := [path for path in found if not _is_text(path)]:
        raise ValueError(f"{len(odd)} names below {uri} are not UTF-8, {os.fsencode(odd[0])!r} for "
                         "one, and no table could hold them: rename them")  # fmt: skip
    return found


def _listed(uri: str) -> dict[str, int]:
    """What is not hidden below a ``uri`` elsewhere, with bytes."""
    fs, root = filesystem(uri)
    files = fs.find(root, detail=True)
    if not files and not fs.exists(root):
        raise FileNotFoundError(f"there is nothing at {uri}")
    if root.rstrip("/") in files:
        raise ValueError(f"{uri} is a file, and a folder is asked for")
    prefix = root.rstrip("/") + "/"
    strange = [p for p in files if not p.startswith(prefix) or leads_out(p.removeprefix(prefix))]
    if strange:
        say(f"warning: {len(strange)} names in the listing of {uri} lead out of it and are left "
            f"out, {strange[0]!r} for one", error=True)  # fmt: skip
    names = {path.removeprefix(prefix): files[path] for path in files.keys() - set(strange)}
    return {
        name: int(info["size"] or 0)
        for name, info in names.items()
        if not any(tree.hidden(part) for part in name.split("/"))
    }


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def below(uri: str, folder: str) -> str | None:
    """The path from ``folder`` to ``uri``, "" for itself; None where it is not in it.

    Local ones by where links lead; of others ``..`` and doubled slashes are resolved.
    """
    one, other = (_real(u).rstrip("/") + "/" for u in (uri, folder))
    return one.removeprefix(other).rstrip("/") if one.startswith(other) else None


def _real(uri: str) -> str:
    if is_local(uri):
        return os.path.realpath(local_path(uri))
    scheme, _, path = uri.partition("://")
    return f"{'s3' if scheme == 's3a' else scheme}://{os.path.normpath(path)}"


def move(uri: str, to: str) -> None:
    """Give a local folder or file another name."""
    os.replace(local_path(uri), local_path(to))


def remove(uri: str) -> None:
    """Remove what is at ``uri``, if anything."""
    fs, path = filesystem(uri)
    if fs.exists(path):
        fs.rm(path, recursive=True)


def remove_files(uris: Sequence[str]) -> None:
    """Remove files on one filesystem, with few requests where it takes many at once."""
    if uris:
        fs, _ = filesystem(uris[0])
        fs.rm([filesystem(uri)[1] for uri in uris])


def upload_folder(folder: str | Path, uri: str, last: str | None = None) -> None:
    """Copy a local folder's files to ``uri``, in order of name.

    ``last`` names the file that makes the folder whole: it is gone from ``uri`` until all others
    are there, and what lay there of another folder goes, too.
    """
    paths = (path for path in sorted(Path(folder).rglob("*")) if path.is_file())
    files = {path.relative_to(folder).as_posix(): path for path in paths}
    if last is not None:
        remove(join(uri, last))
        there = find(uri) if exists(uri) else {}
        remove_files([join(uri, other) for other in there if other not in files])
        files[last] = files.pop(last)
    for name, path in files.items():
        write_bytes(join(uri, name), path.read_bytes())


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


def open_input(uri: str, *, ahead: bool = False) -> Any:
    """A binary file to read from, seekable.

    Args:
        uri: of the file.
        ahead: whether to fetch megabytes beyond what is asked for: for many small reads in a row.
    """
    fs, path = filesystem(uri)
    return fs.open(path, "rb") if ahead or is_local(uri) else fs.open(path, "rb", cache_type="none")


def open_columnar(uri: str) -> Any:
    """A binary file for pyarrow to read parts of.

    S3 by Arrow's own client, which fetches without Python's lock: training reads a third more rows
    a second than through fsspec, at two thirds of the work (``docs/reference/data-plane.md``).
    """
    fs, path = arrow(uri)
    return fs.open_input_file(path) if fs else open_input(uri)


def arrow(uri: str) -> tuple[Any, str]:
    """Arrow's filesystem for S3, and the path on it; for others None and the URI."""
    if not is_s3(uri):
        return None, uri
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    fs = _arrow_s3(endpoint, os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_PROFILE"))
    return fs, uri.partition("://")[2]


@lru_cache(maxsize=4)
def _arrow_s3(endpoint: str, *_whose: str | None) -> Any:
    """Arrow's client for what the environment says, as patient as ours."""
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    scheme, _, host = endpoint.rpartition("://")
    return S3FileSystem(
        endpoint_override=host or None,
        scheme=scheme or "https",
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=S3_TRIES),
    )


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
