"""Image files to arrays and back, and the views that are cut from a pair.

Photos are uint8 ``[H, W, 3]``, masks of class ids uint8 ``[H, W]``. Whatever cannot be used raises
:class:`BadInput` with a reason that a person can act on.
"""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

Pixels = NDArray[np.uint8]

KINDS = ["AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP"]
"""Of files that are opened, as Pillow names them; for others it would start other programs."""
try:
    import pillow_heif
except ImportError:
    pass
else:
    pillow_heif.register_heif_opener()
    KINDS.append("HEIF")
HEIF = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
"""Brands of HEIC files."""
MAX_PIXELS = 2**31 // 12
"""Most pixels of a picture: 0.5 GiB of RGB. Below it a picture is nothing to warn of."""
FULL = 65535
"""White of 16 bits, where a photo uses them all."""
WHITES = (255, 1023, 4095, 16383, FULL)
"""Of 8, 10, 12, 14 and 16 bits."""
Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit is one for the whole process


class BadInput(Exception):
    """An input that cannot be used; the message is the reason."""


@dataclass(frozen=True)
class View:
    """A crop of a pair, in pixels of the photo, and whether it is mirrored."""

    left: int
    top: int
    width: int
    height: int
    flip: bool


def open_image(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode an image file whole.

    Raises:
        BadInput: for an empty, truncated, foreign or oversized file.
    """
    return decode(data, max_pixels)[0]


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> tuple[Image.Image, Any]:
    """As :func:`open_image`, and what Pillow says of the pixels in the file.

    Raises:
        BadInput: for an empty, truncated, foreign or oversized file.
    """
    if not data:
        raise BadInput("the file is empty")
    try:
        image = Image.open(io.BytesIO(data), formats=KINDS)
        if image.width * image.height > max_pixels:
            raise BadInput(f"too large an image: {image.width}x{image.height} are more than "
                           f"{max_pixels} pixels")  # fmt: skip
        raw = image.tile[0].args if getattr(image, "tile", None) else ""  # gone once it is loaded
        image.load()
    except BadInput:
        raise
    except UnidentifiedImageError as error:
        if data[4:8] == b"ftyp" and data[8:12] in HEIF:
            raise BadInput("a HEIC photo, which is opened where pillow-heif is installed: pip "
                           "install pillow-heif") from error  # fmt: skip
        raise BadInput("not a whole image file: of no kind that is known") from error
    except Exception as error:  # Pillow's plugins raise OSError, SyntaxError, struct.error, ...
        raise BadInput(f"not a whole image file: {error}") from error
    return image, raw


def read_png(data: bytes) -> Pixels:
    """What :func:`png` made, of any size; ids with a palette as ids."""
    return np.asarray(open_image(data, sys.maxsize))


def orientation(image: Image.Image) -> int:
    """A photo's EXIF orientation, 1 to 8; 1 is upright, from 5 on it lies on its side.

    Raises:
        BadInput: when the EXIF block is broken.
    """
    try:
        found = image.getexif().get(0x0112, 1)
    except Exception as error:  # Pillow raises struct.error, TypeError, SyntaxError, ...
        raise BadInput(f"its EXIF block is broken, and which side is up not known: {error}"
                       ) from error  # fmt: skip
    return found if found in range(1, 9) else 1


def upright(image: Image.Image) -> Image.Image:
    """A photo turned the way its EXIF orientation says.

    Raises:
        BadInput: when the EXIF block is broken.
    """
    if orientation(image) == 1:  # else it would be copied
        return image
    try:
        return ImageOps.exif_transpose(image)
    except Exception as error:  # as above
        raise BadInput(f"its EXIF block is broken, and which side is up not known: {error}"
                       ) from error  # fmt: skip


def upright_ids(ids: Pixels, image: bytes, *, stored: bool) -> Pixels:
    """A mask ``[H, W]``, turned as its photo is to be upright, where it was drawn on stored pixels.

    Args:
        ids: the mask.
        image: the file of its photo.
        stored: whether masks were drawn so; where the size tells otherwise, that counts.

    Raises:
        BadInput: as :func:`read_photo`.
    """
    photo = open_image(image)
    turn = orientation(photo)
    if turn >= 5 and photo.width != photo.height:
        stored = ids.shape == (photo.height, photo.width)
    if turn == 1 or not stored:
        return ids
    mask = Image.fromarray(ids)
    mask.getexif()[0x0112] = turn
    return np.asarray(ImageOps.exif_transpose(mask))


def deep(image: Image.Image, raw: Any) -> bool:
    """Whether a file stores samples of 16 bits and leaves open which of them is white.

    Of Netpbm and JPEG 2000 the file says it, and Pillow scales them.

    Args:
        image: of the file, decoded or not.
        raw: what :func:`decode` says of its pixels.
    """
    name = str(raw[0] if isinstance(raw, tuple) and raw else raw)
    wide = image.mode.startswith("I;16") or (image.mode in ("RGB", "RGBA") and ";16" in name)
    return wide and image.format not in ("PPM", "JPEG2000")


def largest(image: Image.Image) -> int:
    """The largest sample of a file that is :func:`deep`, 0..65535; of colours to the next 256."""
    most = int(_samples(image).max())
    return most if image.mode.startswith("I") else most * 256 + 255  # Pillow shows the upper 8 bits


def _samples(image: Image.Image) -> np.ndarray[Any, Any]:
    """Grey ``[H, W]`` or colours ``[H, W, 3]``, without transparency."""
    found = np.asarray(image)
    return found[..., :3] if found.ndim == 3 else found


def tagged_white(data: bytes, image: Image.Image, most: int) -> int | None:
    """What a file's own tags say is white, as one of ``WHITES``; None where they do not.

    TIFF has a largest sample and a white level. PNG says how many bits are significant; these are
    to stand at the upper end of the samples, and where they do, some sample is larger.

    Args:
        data: the file.
        image: of the file, decoded.
        most: its largest sample; a tag below it does not count.
    """
    tags = getattr(image, "tag_v2", {})
    found = [tags.get(tag) for tag in (50717, 281, 341)]
    if image.format == "PNG":
        found.append(_significant(data))
    for value in found:
        value = max(value) if isinstance(value, tuple) and value else value
        if isinstance(value, int | float) and 1 <= value <= FULL:
            white = white_for(int(value))
            if most <= white:
                return white
    return None


def _significant(data: bytes) -> int | None:
    """The largest sample of so many bits as a PNG's sBIT chunk says."""
    place = 8
    while (kind := data[place + 4 : place + 8]) and kind != b"IDAT":
        length = int.from_bytes(data[place : place + 4], "big")
        if kind == b"sBIT" and length:
            return int(2 ** max(data[place + 8 : place + 8 + min(3, length)]) - 1)
        place += 12 + length
    return None


def white_for(most: int) -> int:
    """The least of ``WHITES`` that a sample of 0..65535 does not pass."""
    return next(white for white in WHITES if most <= white)


def open_photo(data: bytes, max_pixels: int = MAX_PIXELS, white: int | None = None) -> Image.Image:
    """Decode a photo file whole; where not all of 16 bits are used, they are scaled to 8.

    Args:
        data: the file.
        max_pixels: most that it may have.
        white: which sample of 16 bits is white, 1..65535; None goes by the file: its tags, else 255
            or 4095, where none of its samples is larger.

    Raises:
        BadInput: for an empty, truncated, foreign or oversized file, or a sample that so many bits
            do not hold.
    """
    image, raw = decode(data, max_pixels)
    if image.mode == "I" and image.format != "PPM":  # of 32 bits only this can say it
        most = int(np.asarray(image).max())
        white = white or FULL
    elif deep(image, raw):
        most = largest(image)
        if white is None:
            white = tagged_white(data, image, most)
        if white is None:
            white = next(one for one in (255, 4095, FULL) if most <= one)
    else:
        return image
    if white >= FULL:
        return image
    if most > white_for(white):
        raise BadInput(f"a sample of {most}, where white is {white}: --corpus.white says what is")
    samples = _samples(image).astype(np.float64)
    if samples.ndim == 3:
        samples = samples * 256 + _lower_bytes(data, raw)
    shown = Image.fromarray(np.clip(samples / (white / 255), 0, 255).astype(np.uint8))
    shown.getexif()[0x0112] = orientation(image)
    return shown


def _lower_bytes(data: bytes, raw: Any) -> np.ndarray[Any, Any]:
    """The lower 8 of 16 bits a colour ``[H, W, 3]``, which Pillow drops: read as if the order of
    the bytes were the other one.

    Raises:
        BadInput: where Pillow cannot read it so.
    """
    little = sys.byteorder == "little"
    swapped = {"B": "L", "L": "B", "N": "B" if little else "L"}
    image = Image.open(io.BytesIO(data), formats=KINDS)
    name = str(raw[0] if isinstance(raw, tuple) else raw)
    head, sign, order = name.partition(";16")
    other = f"{head}{sign}{swapped.get(order, order)}"
    try:
        image.tile = [
            tile._replace(args=(other, *tile.args[1:]) if isinstance(tile.args, tuple) else other)
            for tile in image.tile
        ]
        image.load()
    except Exception as error:  # as above
        raise BadInput(f"colours of 16 bits as {name}, whose lower 8 are not read: save it with 8"
                       ) from error  # fmt: skip
    return _samples(image)


def to_rgb(image: Image.Image) -> Pixels:
    """A picture of any mode as RGB; 16-bit grey is scaled, transparency dropped.

    Raises:
        BadInput: for pixels of 32 bits, unless their values are those of 16 (which one is white?),
            and of modes that are no colours.
    """
    known = image.format == "PPM"  # it says what is white, and Pillow scales it to 16 bits
    values = np.asarray(image) if image.mode in ("I", "F") and not known else None
    if values is not None and not (image.mode == "I" and 255 < values.max() < 2**16):
        raise BadInput(f"pixels of 32 bits, {values.min():g} to {values.max():g}, and nothing says "
                       "which is white: save it with 8 or 16")  # fmt: skip
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.float64) / 257
        return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode != "RGB":
        try:
            image = image.convert("RGB")
        except ValueError as error:
            raise BadInput(f"pixels of mode {image.mode} cannot be made RGB: {error}") from error
    return np.asarray(image)


def to_grey(image: Image.Image) -> Pixels:
    """A picture of any mode as grey ``[H, W]``.

    Raises:
        BadInput: as :func:`to_rgb`.
    """
    return np.asarray(Image.fromarray(to_rgb(image)).convert("L"))


def read_photo(data: bytes, max_pixels: int = MAX_PIXELS) -> Pixels:
    """A photo file as RGB, turned the way its EXIF orientation says; its white as the file has it.

    Raises:
        BadInput: when it cannot be read.
    """
    return to_rgb(upright(open_photo(data, max_pixels)))


def fit_photo(
    image: bytes, ids: Pixels, *, resize: bool = False, stored: bool = False, white: int = FULL
) -> Pixels:
    """A photo file that belongs to a mask, as RGB of the mask's size.

    The photo is turned by its EXIF orientation, or with ``stored`` left as it is, unless only the
    other one has the mask's size.

    Args:
        image: the file.
        ids: the mask ``[H, W]``.
        stored: whether masks were drawn on the stored pixels.
        resize: whether a photo of another size is resized, if its shape is the mask's within 2 %.
        white: which sample of 16 bits is white, 1..65535.

    Raises:
        BadInput: as :func:`open_photo`, or when the sizes differ.
    """
    photo, size = open_photo(image, white=white), (ids.shape[1], ids.shape[0])
    turned = upright(photo)
    for candidate in (photo, turned) if stored else (turned, photo):
        if candidate.size == size:
            return to_rgb(candidate)
    if resize and abs(turned.width * size[1] / (turned.height * size[0]) - 1) < 0.02:
        return resize_photo(to_rgb(turned), *size)
    raise BadInput(
        f"sizes differ: the photo is {turned.width}x{turned.height}, "
        f"its mask {ids.shape[1]}x{ids.shape[0]}"
    )


def plan_views(
    width: int, height: int, *, count: int, min_scale: float, aspect: float, seed: list[int]
) -> list[View]:
    """The views of a pair: first all of it, then random crops; every second one is mirrored.

    Args:
        width: of the photo.
        height: of the photo.
        count: how many views.
        min_scale: least side of a crop, as a share of the largest box of ``aspect`` that fits; at
            1 the views are the whole pair, as it is and mirrored.
        aspect: width over height of a crop.
        seed: decides the crops.
    """
    rng = np.random.default_rng(seed)
    views = [View(0, 0, width, height, flip=False)]
    for number in range(1, count):
        w, h = width, height
        if min_scale < 1:
            scale = rng.uniform(min_scale, 1)
            w = max(1, round(scale * min(width, height * aspect)))
            h = max(1, round(scale * min(height, width / aspect)))
        left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
        views.append(View(left, top, w, h, flip=number % 2 == 1))
    return views


def cut(photo: Pixels, ids: Pixels, view: View, width: int, height: int) -> tuple[Pixels, Pixels]:
    """A view of a pair at ``width x height``: the photo bicubic, the ids nearest."""
    box = (view.left, view.top, view.left + view.width, view.top + view.height)
    image = Image.fromarray(photo).resize((width, height), Image.Resampling.BICUBIC, box=box)
    mask = Image.fromarray(ids).resize((width, height), Image.Resampling.NEAREST, box=box)
    if view.flip:
        image, mask = ImageOps.mirror(image), ImageOps.mirror(mask)
    return np.asarray(image), np.asarray(mask)


def resize_photo(photo: Pixels, width: int, height: int) -> Pixels:
    """A photo at ``width x height``, bicubic with anti-aliasing."""
    if photo.shape[:2] == (height, width):
        return photo
    return np.asarray(Image.fromarray(photo).resize((width, height), Image.Resampling.BICUBIC))


def resize_ids(ids: Pixels, width: int, height: int) -> Pixels:
    """Class ids at ``width x height``, nearest."""
    if ids.shape == (height, width):
        return ids
    return np.asarray(Image.fromarray(ids).resize((width, height), Image.Resampling.NEAREST))


def png(array: Pixels, palette: list[int] | None = None) -> bytes:
    """RGB or ids as PNG; ids with a palette as an index PNG, which viewers show in colour."""
    image = Image.fromarray(array)
    if palette is not None:
        image.putpalette(palette)  # turns "L" into "P" and leaves the ids as they are
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
