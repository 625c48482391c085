"""Lists of a split's pairs: a text file with a line a pair, as people write them.

A line is an id, a file's name or its path, which may hold dots, blanks and folders; or two of them,
photo and mask, with a tab, a comma or blanks between. What a line means is what is there: of its
readings the longest that is an id counts.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator

from infra import storage, text
from pipelines.corpora.corpus import JPEGS, MASKS, PHOTOS

SUFFIXES = {*PHOTOS, *MASKS, *JPEGS}


def read_list(
    uri: str, images: Collection[str], masks: Collection[str], key: Callable[[str], str]
) -> Iterator[tuple[str, str]]:
    """The ids ``(of the photo, of the mask)`` of each line; twice the line's where none is there.

    Args:
        uri: of the list.
        images: ids of photos that are there.
        masks: ids of masks that are there.
        key: how ids are written.

    Raises:
        FileNotFoundError: when there is no list.
        ValueError: when it is of an unknown encoding.
    """
    for line in text.decode(storage.read_bytes(uri), uri).splitlines():
        line = line.strip()
        if not line:
            continue
        whole = _found(line, {*images, *masks}, key)
        if whole is not None:
            yield whole, whole
            continue
        for sign in ("\t", ",", r"\s+"):
            columns = [column.strip().strip("\"'") for column in re.split(sign, line)]
            first = _found(columns[0], images, key) if len(columns) > 1 else None
            if first is not None:
                yield first, _found(columns[1], masks, key) or first
                break
        else:
            if not line.startswith("#"):
                yield (line, line)


def _found(name: str, ids: Collection[str], key: Callable[[str], str]) -> str | None:
    """The id that a name stands for: with or without its suffix, from any folder on downwards."""
    stem, suffix = os.path.splitext(name)
    stems = [name, stem] if suffix.lower() in SUFFIXES else [name]
    folders = name.count("/")
    for start in range(folders + 1):
        for one in stems:
            candidate = key("/".join(one.split("/")[start:]))
            if candidate in ids:
                return candidate
    return None
