"""Colours as people write them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

_HEX = re.compile(r"(?:#|0x)?([0-9a-f]{6})", re.IGNORECASE)
_DECIMAL = re.compile(r"\(?\[?\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*\]?\)?")


def number_of(colour: str) -> int:
    """``R << 16 | G << 8 | B`` of a colour as RRGGBB or as R,G,B.

    Raises:
        ValueError: for anything else.
    """
    if found := _HEX.fullmatch(colour.strip()):
        return int(found[1], 16)
    if found := _DECIMAL.fullmatch(colour.strip()):
        red, green, blue = map(int, found.groups())
        if max(red, green, blue) < 256:
            return red << 16 | green << 8 | blue
    raise ValueError(f"{colour!r} is no colour: write RRGGBB (ff00cc) or R,G,B (255,0,204)")


def numbers_of(colours: Iterable[str]) -> Iterator[tuple[int, int]]:
    """``(class, number of a colour)`` of each class's colours, several of which ``+`` joins.

    Raises:
        ValueError: for what is no colour.
    """
    for number, several in enumerate(colours):
        for colour in several.split("+"):
            yield number, number_of(colour)


def packed(rgb: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """RGB uint8 ``[..., 3]`` as numbers ``[...]``, as :func:`number_of` gives them."""
    wide = rgb.astype(np.uint32)
    numbers: np.ndarray[Any, Any] = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
    return numbers
