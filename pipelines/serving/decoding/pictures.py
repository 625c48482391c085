"""Pictures of strangers: checked by their header before they are decoded.

Whatever cannot be used raises :class:`Refused`. What a file costs is its sender's choice, so these
run in processes that can be ended (:mod:`pipelines.serving.decoding.decoder`).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from pipelines.corpora import pixels
from pipelines.corpora.pixels import BadInput, Pixels
from pipelines.corpora.stored import SINGLE, open_stored
from pipelines.serving.refused import Refused

PHOTO_KINDS = ("PNG", "JPEG", "WEBP")
MASK_KINDS = ("PNG",)
MAX_SIDE = 65_535
"""Longest side, JPEG's own: a row of one pixel takes eight bytes more, and loops of Python."""


MOST_COLOURS = 4096
"""Of a mask that is a picture."""


class Mask(NamedTuple):
    """A mask that was decoded."""

    values: np.ndarray[Any, Any]  # uint8 or uint16 [H, W], or RGB uint8 [H, W, 3]
    palette: list[int] | None  # of an index image, RGB after RGB


class Slow(Exception):
    """Work that is too much for where it was tried."""


def read_photo(data: bytes, max_pixels: int, quick_pixels: int | None = None) -> Pixels:
    """A photo file as RGB uint8 ``[H, W, 3]``, as :func:`pixels.read_photo` gives it.

    Raises:
        Slow: for more than ``quick_pixels`` pixels, by its header.
        MemoryError: when there is not enough.
        Refused: 413 for more than ``max_pixels`` and for sides over ``MAX_SIDE``, 415 for another
            kind of file, 400 for one that is empty, truncated or broken.
    """
    _check_header(data, PHOTO_KINDS, max_pixels, quick_pixels)
    try:
        return pixels.read_photo(data)
    except BadInput as error:
        raise _unusable("photo", error) from error


def read_mask(data: bytes, colours: bool, max_pixels: int, quick_pixels: int | None = None) -> Mask:
    """A mask file as it stores its values; what they mean is not asked here.

    Raises:
        Slow: as :func:`read_photo`.
        Refused: as :func:`read_photo`; 400 also for a picture with colours, unless ``colours`` may
            be values, and for one with more of them than any corpus has.
    """
    mode = _check_header(data, MASK_KINDS, max_pixels, quick_pixels)
    if mode not in (*SINGLE, *(("RGB", "RGBA") if colours else ())):
        raise Refused(
            400,
            f"the mask has mode {mode}, where one channel of class ids is expected: send an index "
            "or grey PNG (GET /model lists the ids)",
        )
    try:
        stored = open_stored(data)
    except BadInput as error:
        raise _unusable("mask", error) from error
    values = stored.values()
    if values is None:
        return Mask(np.asarray(stored.image.convert("RGB")), None)
    wide = values.dtype.itemsize > 1
    return Mask(values.astype(np.uint16 if wide else np.uint8), stored.image.getpalette())


def found_values(mask: Mask) -> np.ndarray[Any, Any]:
    """All values that a mask has, each once, ``[N]`` or ``[N, 3]``.

    Raises:
        Refused: 400 for more colours than any corpus has.
    """
    if mask.values.ndim == 2:
        return np.unique(mask.values)
    red, green, blue = (mask.values[..., n].astype(np.uint32) for n in range(3))
    packed = np.unique(red << 16 | green << 8 | blue)
    if len(packed) > MOST_COLOURS:
        raise Refused(400, f"the mask has {len(packed)} colours: is it a photo, or a JPEG?")
    return np.stack([packed >> 16, packed >> 8 & 255, packed & 255], -1).astype(np.uint8)


def _unusable(what: str, error: BadInput) -> Exception:
    if isinstance(error.__cause__, MemoryError):
        return error.__cause__
    return Refused(400, f"the {what} cannot be used: {error}")


def _check_header(
    data: bytes, kinds: Sequence[str], max_pixels: int, quick_pixels: int | None
) -> str:
    """Refuse a picture by what its header says; returns its mode."""
    if not data:
        raise Refused(400, "the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=tuple(kinds)) as image:
            (width, height), mode = image.size, image.mode
    except UnidentifiedImageError:
        wanted = " or ".join(kinds)
        raise Refused(415, f"the file is no {wanted} image that can be read: send one") from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plugins raise ValueError, SyntaxError, struct.error, ...
        raise Refused(400, f"the image's header cannot be read: {error}") from error
    if width * height > max_pixels or max(width, height) > MAX_SIDE:
        raise Refused(
            413,
            f"the image has {width}x{height} pixels, where {max_pixels} in all and {MAX_SIDE} a "
            "side are the most: send a smaller one",
        )
    if quick_pixels is not None and width * height > quick_pixels:
        raise Slow
    return mode
