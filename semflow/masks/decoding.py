"""Mask pictures to class ids, with regard to a pixel's neighbours.

A learned flow arrives near an anchor and not on it, and where it is unsure single pixels end nearer
to another class's anchor than all around them do. So the probability of a class in a pixel, the
softmax over anchors that the anchor term trains (:mod:`semflow.flow.objective`), is averaged over a
window of pixels before the most probable class is taken. A window of 1 is the paper's nearest
anchor (SemFlow, section 3.2).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from semflow.masks.palette import TEMPERATURE, Decoded, Palette

PIXELS = 2**18
"""Rows of about so many pixels are decoded at once: it takes K numbers for each."""


def check_window(window: int) -> None:
    """Refuse what is no window.

    Raises:
        ValueError: for an even or non-positive number.
    """
    if window < 1 or window % 2 == 0:
        raise ValueError(f"a window has a pixel in its middle: an odd number, not {window}")


def decode(palette: Palette, pictures: Tensor, window: int = 1) -> Decoded:
    """Pictures ``[B, 3, H, W]`` in [-1, 1] to class ids, with margin.

    The margin is the difference of the two largest averaged probabilities; with a window of 1,
    :meth:`Palette.decode`'s. Windows end at the picture's borders.

    Args:
        palette: the anchors.
        pictures: what the autoencoder made of mask latents.
        window: its side in pixels.

    Raises:
        ValueError: for a window without a middle.
    """
    check_window(window)
    ids = torch.empty(pictures[:, 0].shape, dtype=torch.int64, device=pictures.device)
    margin = torch.empty(ids.shape, device=pictures.device)
    halo, (height, width) = window // 2, ids.shape[1:]
    rows = max(1, PIXELS // width)
    for number, picture in enumerate(pictures.float()):
        for top in range(0, height, rows):
            first, end = max(0, top - halo), min(height, top + rows + halo)
            found = _decode_strip(palette, picture[None, :, first:end], window)
            inner = slice(top - first, min(height, top + rows) - first)
            ids[number, top : top + rows] = found.ids[0, inner]
            margin[number, top : top + rows] = found.margin[0, inner]
    return Decoded(ids, margin)


def _decode_strip(palette: Palette, strip: Tensor, window: int) -> Decoded:
    if window == 1:
        return palette.decode(strip)
    return most_probable(palette.logits(strip, TEMPERATURE).softmax(1), window)


def most_probable(posterior: Tensor, window: int = 1) -> Decoded:
    """The class of the largest of probabilities ``[B, K, H, W]``, averaged over a window."""
    if window > 1:
        posterior = F.avg_pool2d(posterior, window, 1, window // 2, count_include_pad=False)
    most, best = posterior.topk(2, 1)
    return Decoded(best[:, 0], most[:, 0] - most[:, 1])
