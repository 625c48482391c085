"""What a reader of corpora yields: pairs, what cannot be one, and what is none."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Pair(NamedTuple):
    """One photo with its mask: a row of a listing."""

    id: str
    image: str
    image_part: str
    mask: str
    mask_part: str
    bytes: int


class Bad(NamedTuple):
    """Something that cannot be used."""

    file: str
    reason: str


class Left(NamedTuple):
    """Files of a kind that lie there and that nobody asked for."""

    kind: str
    number: int
    example: str

    def __str__(self) -> str:
        return f"{self.number} {self.kind}, {self.example} for one"


def left_over(paths: Iterable[str]) -> Iterator[Left]:
    """Paths that are not taken, by suffix, most first."""
    kinds: dict[str, list[str]] = {}
    for path in paths:
        suffix = os.path.splitext(path)[1].lower()
        kinds.setdefault(suffix or "without a suffix", []).append(path)
    for kind, named in sorted(kinds.items(), key=lambda item: (-len(item[1]), item[0])):
        yield Left(kind, len(named), min(named))
