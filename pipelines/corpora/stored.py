"""A mask file's values as they are stored, where its reader would scale or invert them.

Encoders save few ids in few bits, and readers make pictures of these: of 4 bits, a stored 1 is
shown as 17; of a TIFF whose 0 is white, a stored 0 is shown as 255.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from pipelines.corpora.pixels import decode

SINGLE = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")
"""Modes of one channel, as Pillow names them."""


class Stored(NamedTuple):
    """A mask file, decoded."""

    image: Image.Image
    """As its reader shows it."""
    white: int
    """What the file stores for white; 0 where its reader shows what is stored."""
    inverted: bool
    """Whether the file stores 0 for white instead, and ``white`` for black."""

    def values(self) -> np.ndarray[Any, Any] | None:
        """What is stored ``[H, W]``: samples of grey, indices of a palette; None for colours."""
        if self.image.mode not in SINGLE:
            return None
        shown = np.asarray(self.image)
        if self.image.mode == "1":  # a bool of Pillow's is a byte of 0 or 255
            shown = shown.astype(np.uint8) * 255
        if not self.white:
            return shown
        full = 65535 if self.image.mode == "I" else 255
        found = np.rint(shown * (self.white / full)).astype(np.uint16 if full > 255 else np.uint8)
        return self.white - found if self.inverted else found


def open_stored(data: bytes) -> Stored:
    """Decode a mask file whole.

    Raises:
        BadInput: for an empty, truncated, foreign or oversized file.
    """
    image, raw = decode(data)  # raw is L;4 or (L, ...), as Pillow names what a file holds
    name, *more = raw if isinstance(raw, tuple) else (raw,)
    if image.format == "PPM" and more and image.mode in ("L", "I"):  # it says what is white
        return Stored(image, int(more[0]), inverted=False)
    if image.mode not in ("1", "L"):
        return Stored(image, 0, inverted=False)
    bits = 1 if image.mode == "1" else int((re.findall(r"^L;([24])", str(name)) or ["8"])[0])
    inverted = re.search(r";\d?I", str(name)) is not None
    return Stored(image, 2**bits - 1 if inverted or bits < 8 else 0, inverted)
