"""Pictures in a folder that is no corpus: photos to label, real ones to compare with."""

from __future__ import annotations

import os
from collections.abc import Sequence

from infra import storage

_BEGIN = (
    b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*",
    b"\0\0\0\x0cjP  ", b"\xffO\xffQ",
)  # fmt: skip
_READ = 16


def pictures_below(folder: str, suffixes: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """Pictures by path relative to the folder, sorted, with their bytes; and all other files.

    A file is known by its suffix in any case, one that has none by its first bytes.

    Raises:
        FileNotFoundError: when there is no such folder.
        ValueError: when it is a file, or a name that is taken is not UTF-8.
    """
    left: list[str] = []
    found = storage.find(folder, suffixes, left)
    bare = {path for path in left if not os.path.splitext(path)[1]}
    if bare:
        sizes = storage.find(folder, [""])
        found |= {
            path: size for path, size in sizes.items()
            if path in bare and _is_picture(storage.join(folder, path))
        }  # fmt: skip
    return dict(sorted(found.items())), [path for path in left if path not in found]


def _is_picture(uri: str) -> bool:
    try:
        data = storage.read_bytes(uri, 0, _READ)
    except (FileNotFoundError, PermissionError):
        return False
    boxed = data[4:8] == b"ftyp" or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")
    return boxed or data.startswith(_BEGIN)
