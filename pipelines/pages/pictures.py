"""Pictures that people look at: sheets of tiles with a heading over each column."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from pipelines.corpora.pixels import png
from pipelines.pages.samples import Samples
from semflow import Palette
from semflow.hub.images import to_bytes

GAP = 4
HEADING = 18


def to_uint8(pixels: Tensor) -> NDArray[np.uint8]:
    """Pixels ``[3, H, W]`` in [-1, 1] as uint8 ``[H, W, 3]``."""
    return to_bytes(pixels).movedim(0, -1).cpu().numpy()


def colours(ids: Tensor, palette: Palette) -> NDArray[np.uint8]:
    """Class ids ``[H, W]`` in their anchor colours, uint8 ``[H, W, 3]``."""
    return palette.colourize(ids[None])[0].movedim(0, -1).numpy()


def grey(values: Tensor) -> NDArray[np.uint8]:
    """Values ``[H, W]`` in [0, 1] as grey, uint8 ``[H, W, 3]``."""
    return np.repeat((values.clamp(0, 1) * 255).byte().numpy()[..., None], 3, axis=2)


def sheet(rows: Sequence[Sequence[NDArray[np.uint8]]], headings: Sequence[str]) -> bytes:
    """Rows of equal tiles as one PNG, magnified until a tile is a good 160 pixels wide."""
    height, width = rows[0][0].shape[:2]
    zoom = max(1, -(-160 // width))
    height, width = height * zoom, width * zoom
    canvas = Image.new(
        "RGB",
        (len(headings) * (width + GAP) + GAP, HEADING + len(rows) * (height + GAP) + GAP),
        "white",
    )
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(12)
    for column, heading in enumerate(headings):
        pen.text((GAP + column * (width + GAP), GAP), heading, fill="black", font=font)
    for number, row in enumerate(rows):
        for column, tile in enumerate(row):
            picture = Image.fromarray(tile).resize((width, height), Image.Resampling.NEAREST)
            canvas.paste(picture, (GAP + column * (width + GAP),
                                   HEADING + GAP + number * (height + GAP)))  # fmt: skip
    return png(np.asarray(canvas))


def sample_sheet(samples: Samples, palette: Palette) -> bytes:
    """Image, truth, prediction, its margin, and an image synthesized from the truth."""
    rows = [
        [to_uint8(image), colours(truth, palette), colours(predicted, palette), grey(margin),
         to_uint8(synthesized)]
        for image, truth, predicted, margin, synthesized in zip(*samples[:5], strict=True)
    ]  # fmt: skip
    return sheet(rows, ["image", "mask", "segmented", "margin", "synthesized"])


def path_sheet(samples: Samples, times: Sequence[float]) -> bytes:
    """States along the flow at ``times``: for each sample a row from image to mask, and one back.

    The first row is read from the left, the second from the right.
    """
    rows = [
        [to_uint8(state) for state in states]
        for pair in zip(samples.forth, samples.back, strict=True)
        for states in pair
    ]
    return sheet(rows, [f"t = {t:g}" for t in times])
