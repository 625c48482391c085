"""Mask files to class numbers: uint8 ``[H, W]``, 0..K-1, ignored pixels as 255."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipelines.corpora.pixels import BadInput, Pixels, open_image
from semflow.masks.classmap import ClassMap, ClassNumbers, RawValues, UnknownValues

SINGLE = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")


@dataclass(frozen=True, kw_only=True)
class LabelMap(ClassMap):
    """A class map that reads mask files."""

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

    def _of_values(self, values: np.ndarray) -> ClassNumbers:
        try:
            return self.numbers(RawValues(values))
        except UnknownValues as unknown:
            raise BadInput(str(unknown)) from unknown

    def _of_colours(self, values: np.ndarray) -> ClassNumbers:
        try:
            return self.numbers_of_colours(RawValues(values))
        except UnknownValues as unknown:
            raise BadInput(f"{unknown} (--corpus.ignore-rest takes them as ignored)") from unknown
