"""What is done with pictures: files of strangers to arrays, arrays to PNG.

Their cost is the sender's choice, so all of it runs in processes that can be ended
(:mod:`pipelines.serving.decoding.decoder`). These import Pillow and NumPy, neither torch nor Ray.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from pipelines.corpora import pixels
from pipelines.corpora.pixels import Pixels
from pipelines.serving.decoding import pictures
from pipelines.serving.decoding.forms import Upload
from pipelines.serving.decoding.pictures import Slow

QUICK_PIXELS = 2**22
"""Most pixels of what is decoded or encoded where small pictures are."""
OVERLAY_PIXELS = 2**22
"""Most pixels of a photo with its mask over it, which is there to be looked at."""

Size = tuple[int, int]
"""Width and height."""
Answer = tuple[dict[str, Any], bytes]
Job = Callable[..., Answer]
"""A job's first argument says whether it is tried among the quick ones."""


def photo(quick: bool, upload: Upload, max_pixels: int, size: Size) -> Answer:
    """A photo's ``width`` and ``height``, and its RGB at ``size`` ``[H, W, 3]`` as bytes."""
    whole = pictures.read_photo(upload.file(), max_pixels, QUICK_PIXELS if quick else None)
    small = pixels.resize_photo(whole, *size)
    return {"width": whole.shape[1], "height": whole.shape[0]}, small.tobytes()


def mask(quick: bool, upload: Upload, max_pixels: int, size: Size, colours: bool) -> Answer:
    """A mask at ``size`` as a PNG of the values that it stores, below rows of all of them.

    What values mean is for whoever knows the model; so that none escapes them, since a small mask
    need not have each, all are in the first rows, as many as ``above`` says.
    """
    limit = QUICK_PIXELS if quick else None
    found = pictures.read_mask(upload.file(), colours, max_pixels, limit)
    there, (width, height) = pictures.found_values(found), size
    above = -(-len(there) // width)
    rows = np.resize(there, (above, width, *there.shape[1:]))
    small = Image.fromarray(found.values).resize((width, height), Image.Resampling.NEAREST)
    return {"above": above}, pixels.png(np.concatenate([rows, np.asarray(small)]), found.palette)


def index_png(quick: bool, ids: Pixels, size: Size, palette: list[int]) -> Answer:
    """Class ids ``[H, W]`` as an index PNG of ``size``."""
    if quick and size[0] * size[1] > QUICK_PIXELS:
        raise Slow
    return {}, pixels.png(pixels.resize_ids(ids, *size), palette)


def picture_png(quick: bool, picture: Pixels) -> Answer:
    """RGB ``[H, W, 3]`` or grey ``[H, W]`` as PNG."""
    return {}, pixels.png(picture)


def overlay_png(
    quick: bool, upload: Upload, max_pixels: int, ids: Pixels, palette: list[int], opacity: float
) -> Answer:
    """A photo with its mask over it; one of more than ``OVERLAY_PIXELS`` is scaled down to them.

    The photo is decoded again: until its mask is computed, only its file is held.
    """
    whole = pictures.read_photo(upload.file(), max_pixels, QUICK_PIXELS if quick else None)
    height, width = whole.shape[:2]
    scale = min(1.0, (OVERLAY_PIXELS / (width * height)) ** 0.5)
    size = max(1, int(width * scale)), max(1, int(height * scale))
    below = Image.fromarray(pixels.resize_photo(whole, *size))
    del whole
    above = Image.fromarray(pixels.resize_ids(ids, *size))
    above.putpalette(palette)
    return {}, pixels.png(np.asarray(Image.blend(below, above.convert("RGB"), opacity)))
