"""What a reader of corpora yields: pairs, and what cannot be one."""

from __future__ import annotations

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
