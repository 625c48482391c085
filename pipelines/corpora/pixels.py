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


def to_rgb(image: Image.Image) -> Pixels:
    """A photo of any mode as RGB; 16-bit grey is scaled, transparency dropped.

    Raises:
        BadInput: for pixels of 32 bits, unless their values are those of 16 (which one is white?),
            and of modes that are no colours.
    """
    values = np.asarray(image) if image.mode in ("I", "F") else None
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
    """A photo file as RGB, turned the way its EXIF orientation says.

    Raises:
        BadInput: when it cannot be read.
    """
    return to_rgb(upright(open_image(data, max_pixels)))


def fit_photo(image: bytes, ids: Pixels, *, resize: bool = False, stored: bool = False) -> Pixels:
    """A photo file that belongs to a mask, as RGB of the mask's size.

    The photo is turned by its EXIF orientation, or with ``stored`` left as it is, unless only the
    other one has the mask's size.

    Args:
        image: the file.
        ids: the mask ``[H, W]``.
        stored: whether masks were drawn on the stored pixels.
        resize: whether a photo of another size is resized, if its shape is the mask's within 2 %.

    Raises:
        BadInput: as :func:`read_photo`, or when the sizes differ.
    """
    photo, size = open_image(image), (ids.shape[1], ids.shape[0])
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
