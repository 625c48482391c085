"""Colours of a corpus's classes, and masks that are pictures as numbers of colours."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image

from pipelines.corpora.pixels import BadInput
from semflow.masks.colours import number_of, numbers_of, packed


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
    return packed(np.asarray(image.convert("RGB")))
