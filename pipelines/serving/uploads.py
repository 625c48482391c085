"""What a stranger sends over HTTP: a file read with a limit, and a picture checked before decoding.

Whatever cannot be used raises :class:`Refused` with an HTTP status and a sentence that says what
to do. Names that a client gives to its files are never looked at.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, Sequence

from fastapi import Request
from PIL import Image, UnidentifiedImageError
from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from pipelines.corpora import pixels
from pipelines.corpora.masks import SINGLE
from pipelines.corpora.pixels import BadInput, Pixels
from pipelines.inference.masks import MaskReader
from semflow.masks.classmap import ClassNumbers

PHOTO_KINDS = ("PNG", "JPEG", "WEBP")
MASK_KINDS = ("PNG",)
FORM = "multipart/form-data"


class Refused(Exception):
    """A request that is not answered as asked."""

    def __init__(self, status: int, reason: str) -> None:
        """HTTP ``status``, and the ``reason`` as a sentence for the client."""
        super().__init__(reason)
        self.status, self.reason = status, reason


async def read_file(
    request: Request, kinds: Sequence[str], *, max_bytes: int, timeout_s: float
) -> bytes:
    """The file that a request carries, as its body or as the only file of a form.

    Args:
        request: not yet read.
        kinds: of files that may be sent, as Pillow names them.
        max_bytes: of the body; reading ends as soon as there are more.
        timeout_s: for the whole body.

    Raises:
        Refused: 408, 413 or 415, or 400 for a form without exactly one file.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise _too_long(max_bytes)
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    types = [f"image/{kind.lower()}" for kind in kinds]
    try:
        async with asyncio.timeout(timeout_s):
            if kind == FORM:
                return await _file_of_form(request, max_bytes)
            if kind in types:
                return b"".join([chunk async for chunk in _limited(request, max_bytes)])
    except TimeoutError:
        raise Refused(408, f"the file did not arrive within {timeout_s:g} seconds") from None
    except ClientDisconnect:
        raise Refused(400, "the connection ended before the file did") from None
    raise Refused(
        415,
        f"the body has type {kind[:80] or 'none'!r}: send one of {', '.join(types)} as the body "
        f"(curl -H 'Content-Type: {types[0]}' --data-binary @FILE), or {FORM} (curl -F file=@FILE)",
    )


async def _limited(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > max_bytes:
            raise _too_long(max_bytes)
        yield chunk


async def _file_of_form(request: Request, max_bytes: int) -> bytes:
    parser = MultiPartParser(
        request.headers, _limited(request, max_bytes), max_files=1, max_fields=16
    )
    parser.spool_max_size = max_bytes + 1  # held in memory: it is no more than a plain body is
    try:
        form = await parser.parse()
    except (MultiPartException, FormParserError) as error:
        raise Refused(400, f"the form cannot be read: {str(error).rstrip('.')}") from error
    files = [value for value in form.values() if isinstance(value, UploadFile)]
    if not files:
        raise Refused(400, "the form has no file: send one as a file field (curl -F file=@FILE)")
    try:
        return await files[0].read()
    finally:
        await form.close()


def _too_long(max_bytes: int) -> Refused:
    return Refused(
        413, f"the body is longer than {max_bytes} bytes: send a smaller or more compressed file"
    )


def read_photo(data: bytes, max_pixels: int) -> Pixels:
    """A photo file as RGB uint8 ``[H, W, 3]``, as :func:`pixels.read_photo` gives it.

    Raises:
        Refused: as :func:`check_photo`; 400 also for one that is truncated or broken.
    """
    check_photo(data, max_pixels)
    try:
        return pixels.read_photo(data)
    except BadInput as error:
        raise Refused(400, f"the photo cannot be used: {error}") from error


def read_mask(data: bytes, reader: MaskReader, max_pixels: int) -> ClassNumbers:
    """A mask file as class numbers uint8 ``[H, W]``, 255 for no class, as ``reader`` reads it.

    Raises:
        Refused: as :func:`check_mask`; 400 also for one that is truncated or broken, for values
            that are not taken, and for what could mean two things.
    """
    check_mask(data, max_pixels, colours=reader.takes_colours)
    try:
        return reader.read(data)
    except BadInput as error:
        raise Refused(400, f"the mask cannot be used: {error}") from error


def check_photo(data: bytes, max_pixels: int) -> int:
    """Pixels of a photo by its header, before one is decoded.

    Raises:
        Refused: 413 for more than ``max_pixels``, 415 for another kind of file, 400 for one that is
            empty or has a broken header.
    """
    return _check_header(data, PHOTO_KINDS, max_pixels)[0]


def check_mask(data: bytes, max_pixels: int, *, colours: bool = False) -> int:
    """Pixels of a mask by its header, before one is decoded.

    Args:
        data: the file.
        max_pixels: that it may have.
        colours: whether a picture with colours may be one.

    Raises:
        Refused: as :func:`check_photo`, and 400 for a picture with colours that may be none.
    """
    count, mode = _check_header(data, MASK_KINDS, max_pixels)
    if mode not in (*SINGLE, *(("RGB", "RGBA") if colours else ())):
        raise Refused(
            400,
            f"the mask has mode {mode}, where one channel of class ids is expected: send an index "
            "or grey PNG (GET /model lists the ids)",
        )
    return count


def _check_header(data: bytes, kinds: Sequence[str], max_pixels: int) -> tuple[int, str]:
    """Refuse a picture by what its header says; returns its pixels and mode."""
    if not data:
        raise Refused(400, "the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=tuple(kinds)) as image:
            (width, height), mode = image.size, image.mode
    except UnidentifiedImageError:
        wanted = " or ".join(kinds)
        raise Refused(415, f"the file is no {wanted} image that can be read: send one") from None
    except Exception as error:  # Pillow's plugins raise ValueError, SyntaxError, struct.error, ...
        raise Refused(400, f"the image's header cannot be read: {error}") from error
    if width * height > max_pixels:
        raise Refused(
            413,
            f"the image has {width}x{height} pixels, more than {max_pixels} in all: "
            "send a smaller one",
        )
    return width * height, mode
