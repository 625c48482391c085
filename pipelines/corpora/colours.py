"""Colours as people write them, and masks that are pictures as numbers of colours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from pipelines.corpora.pixels import BadInput

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


def check(colours: Iterable[str], ignored: Iterable[str]) -> None:
    """Refuse what is no colour, and a colour that stands for two things.

    Raises:
        ValueError: naming it.
    """
    owner: dict[int, str] = {}
    named = [(value, f"class {number}") for number, value in numbers_of(colours)]
    for value, whose in [*named, *((number_of(colour), "ignored") for colour in ignored)]:
        if owner.setdefault(value, whose) != whose:
            raise ValueError(f"the colour {value:06x} is that of {owner[value]} and of {whose}")


def of_picture(image: Image.Image) -> np.ndarray[Any, Any]:
    """The colours ``[H, W]`` of a picture of any kind: indexed and grey ones as they are shown.

    Raises:
        BadInput: when its values are beyond those of colours.
    """
    if image.mode.startswith(("I", "F")):
        wide = np.asarray(image)
        if image.mode == "F" or (wide % 257).any():
            raise BadInput(f"a mask of mode {image.mode}, whose values are no colours of 8 bits")
        image = Image.fromarray((wide // 257).astype(np.uint8))
    rgb = np.asarray(image.convert("RGB")).astype(np.uint32)
    numbers: np.ndarray[Any, Any] = rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]
    return numbers
