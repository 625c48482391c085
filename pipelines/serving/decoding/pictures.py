"""Pictures of strangers: checked by their header before they are decoded.

Whatever cannot be used raises :class:`Refused`. What a file costs is its sender's choice, so these
run in processes that can be ended (:mod:`pipelines.serving.decoding.decoder`).
"""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image, UnidentifiedImageError

from pipelines.corpora import pixels
from pipelines.corpora.masks import SINGLE, LabelMap
from pipelines.corpora.pixels import BadInput, Pixels
from pipelines.serving.refused import Refused

PHOTO_KINDS = ("PNG", "JPEG", "WEBP")
MASK_KINDS = ("PNG",)
MAX_SIDE = 65_535
"""Longest side, JPEG's own: a row of one pixel takes eight bytes more, and loops of Python."""


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


def read_mask(
    data: bytes, labels: LabelMap, max_pixels: int, quick_pixels: int | None = None
) -> Pixels:
    """A mask file as class ids uint8 ``[H, W]``, as ``labels`` reads it.

    Raises:
        Slow: as :func:`read_photo`.
        Refused: as :func:`read_photo`; 400 also for a picture with colours, and for values that are
            no class.
    """
    mode = _check_header(data, MASK_KINDS, max_pixels, quick_pixels)
    if mode not in SINGLE:
        raise Refused(
            400,
            f"the mask has mode {mode}, where one channel of class ids is expected: send an index "
            "or grey PNG (GET /model lists the ids)",
        )
    try:
        return labels.read(data)
    except BadInput as error:
        raise _unusable("mask", error) from error


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
