"""Mask files to class ids: uint8 ``[H, W]``, 0..C-1, ignored pixels as 255."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipelines.corpora.pixels import BadInput, Pixels, open_image

IGNORE = 255
"""semflow's own, as a test says: to import that takes torch, which decoding pictures does not."""
SINGLE = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")


@dataclass(frozen=True, kw_only=True)
class LabelMap:
    """What the values of a corpus's mask files mean."""

    classes: int
    ids: tuple[int, ...] = ()
    """Value of each class; empty where class c has value c."""
    colours: tuple[str, ...] = ()
    """RRGGBB of each class, for masks that are pictures; several joined by +."""
    ignore_ids: tuple[int, ...] = (IGNORE,)
    ignore_rest: bool = False
    """Whether any other value is ignored too; else it makes a mask unusable."""

    def read(self, data: bytes) -> Pixels:
        """A mask file as class ids. Palette and 16-bit files are read by value.

        Raises:
            BadInput: when it cannot be read, holds colours where values are expected, or a value
                that means nothing.
        """
        image = open_image(data)
        if image.mode in SINGLE:
            values = np.asarray(image)
            return self._of_values(values.view(np.uint8) if values.dtype == bool else values)
        if self.colours and image.mode in ("RGB", "RGBA"):
            rgb = np.asarray(image.convert("RGB")).astype(np.uint32)
            return self._of_colours(rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2])
        raise BadInput(
            f"a mask of mode {image.mode} with {len(image.getbands())} channels, where one channel "
            "of class ids is expected (--corpus.colours reads masks that are pictures)"
        )

    def merge(self, layers: Mapping[str, bytes], names: tuple[str, ...]) -> Pixels:
        """Binary files, one a class, painted in the order of the classes; class 0 below them.

        Raises:
            BadInput: when one cannot be read, has another size or no class has its name.
        """
        unknown = sorted(layers.keys() - set(names))
        if unknown:
            raise BadInput(f"parts {unknown} are no classes")
        merged: Pixels | None = None
        for number, name in enumerate(names):
            if name not in layers:
                continue
            layer = np.asarray(open_image(layers[name]).convert("L")) > 0
            merged = np.zeros(layer.shape, np.uint8) if merged is None else merged
            if layer.shape != merged.shape:
                raise BadInput(f"part {name!r} has another size than the others")
            merged[layer] = number
        if merged is None:
            raise BadInput("the mask has no parts")
        return merged

    def _of_values(self, values: np.ndarray) -> Pixels:
        meanings = dict(zip(self.ids or range(self.classes), range(self.classes), strict=True))
        meanings |= dict.fromkeys(self.ignore_ids, IGNORE)
        ids, beyond = _translated(values, meanings)
        if beyond and not self.ignore_rest:
            allowed = f"0..{self.classes - 1}" if not self.ids else f"{len(self.ids)} given ids"
            raise BadInput(
                f"class ids {beyond[:8]} are beyond the {self.classes} classes "
                f"({allowed}; ignored: {sorted(self.ignore_ids)})"
            )
        return ids

    def _of_colours(self, values: np.ndarray) -> Pixels:
        meanings = {
            int(colour.strip("# "), 16): number
            for number, several in enumerate(self.colours)
            for colour in several.split("+")
        }
        ids, beyond = _translated(values, meanings)
        if beyond and not self.ignore_rest:
            wrong = [f"{value:06x}" for value in beyond[:8]]
            raise BadInput(f"colours {wrong} belong to no class (--corpus.ignore-rest takes "
                           "them as ignored)")  # fmt: skip
        return ids


def _translated(values: np.ndarray, meanings: Mapping[int, int]) -> tuple[Pixels, list[int]]:
    """Values ``[H, W]`` as class ids, those without a meaning as ignored; and these, sorted."""
    if values.dtype.itemsize <= 2:  # to sort a large mask takes forty times its memory
        there, where = np.arange(2 ** (8 * values.dtype.itemsize)), values
    else:
        there, where = np.unique(values, return_inverse=True)
    table = np.array([meanings.get(int(value), -1) for value in there], np.int16)
    found = table[where].reshape(values.shape)
    unknown = found < 0
    found[unknown] = IGNORE
    return found.astype(np.uint8), np.unique(values[unknown]).tolist()
