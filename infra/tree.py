"""A local folder's files, with those of folders that are linked into it."""

from __future__ import annotations

import os
from collections.abc import Iterator

from infra.console import say

OTHERS = ("@eaDir", "__MACOSX", "$RECYCLE.BIN")
"""Folders that systems keep for themselves, beside those whose names begin with a dot: thumbnails
of a Synology, what macOS adds to an archive, what Windows has deleted."""


def hidden(name: str) -> bool:
    """Whether a file or folder of this name is no data."""
    return name.startswith(".") or name in OTHERS


def walk(root: str) -> dict[str, int]:
    """Files below a folder that are not hidden: path relative to it, and bytes.

    A link to a file is the file; one that leads nowhere has its own length. A real folder is
    entered once, by its own name if it has one below the root: a second link to it, one that leads
    to a folder around itself, and a folder that may not be read are said on stderr and left out.

    Raises:
        FileNotFoundError: when there is nothing at ``root``.
        ValueError: when it is a file.
    """
    root = root.rstrip("/") or "/"
    if not os.path.exists(root):
        raise FileNotFoundError(f"there is nothing at {root}")
    if not os.path.isdir(root):
        raise ValueError(f"{root} is a file, and a folder is asked for")
    found: dict[str, int] = {}
    links: list[str] = []
    entered: dict[str, str] = {}  # real folders, and by which path

    def enter(folder: str) -> None:
        """A folder and all below it; links to folders wait until all real ones were entered."""
        waiting = [folder]
        while waiting:
            path = waiting.pop()
            real = os.path.realpath(_join(root, path))
            if real in entered:
                _say(root, path, f"is {_join(root, entered[real])}, which was read already")
                continue
            entered[real] = path
            for entry in _entries(root, path):
                name = f"{path}/{entry.name}" if path else entry.name
                if not _is_folder(entry):
                    found[name] = _bytes(entry)
                elif entry.is_symlink():
                    links.append(name)
                else:
                    waiting.append(name)

    enter("")
    while links:
        links.sort(reverse=True)
        link = links.pop()
        target = os.path.realpath(_join(root, link))
        around = (os.path.realpath(_join(root, os.path.dirname(link))), os.path.realpath(root))
        if any(_in(place, target) for place in around):
            _say(root, link, f"is a loop: it leads to {target}, which it is in")
        else:
            enter(link)
    return found


def _entries(root: str, path: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(_join(root, path)) as entries:
            yield from (entry for entry in entries if not hidden(entry.name))
    except PermissionError:
        if not path:
            raise
        _say(root, path, "may not be read")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _bytes(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError:  # a link that leads nowhere
        return entry.stat(follow_symlinks=False).st_size


def _join(root: str, path: str) -> str:
    return os.path.join(root, path) if path else root


def _in(path: str, folder: str) -> bool:
    return f"{path}/".startswith(folder.rstrip("/") + "/")


def _say(root: str, path: str, what: str) -> None:
    say(f"warning: {_join(root, path)} {what}: not entered", error=True)
