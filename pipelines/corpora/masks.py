"""Mask files to class numbers: uint8 ``[H, W]``, 0..K-1, ignored pixels as 255."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pipelines.corpora import colours
from pipelines.corpora.pixels import BadInput, Pixels, open_image, to_grey
from pipelines.corpora.stored import SINGLE as SINGLE
from pipelines.corpora.stored import open_stored
from semflow.masks.classmap import ClassMap, ClassNumbers, RawValues, UnknownValues
from semflow.masks.palette import IGNORE


@dataclass(frozen=True, kw_only=True)
class LabelMap(ClassMap):
    """A class map that reads mask files."""

    advises: ClassVar[bool] = True
    """Whether what cannot be read is answered with options of a corpus, which not all jobs have."""

    def read(self, data: bytes) -> Pixels:
        """A mask file as class ids.

        With colours, a picture of any kind is read by the colours that it shows; with ids beside
        them, one of a single channel is read by its values. Without colours, palette, 16-bit and
        low-bit files are read by what they store.

        Raises:
            BadInput: when it cannot be read, holds colours where values are expected, or a value
                that means nothing.
        """
        return self.read_noting(data)[0]

    def read_noting(self, data: bytes) -> tuple[Pixels, dict[str, int]]:
        """As :meth:`read`, and the pixels of each value that is ignored, as people write it.

        Raises:
            BadInput: as :meth:`read`.
        """
        stored = open_stored(data)
        if self.threshold is not None:
            return (np.asarray(to_grey(stored.image)) >= self.threshold).astype(np.uint8), {}
        if stored.image.format in ("JPEG", "MPO"):
            raise self._bad(
                "a JPEG, which does not keep the values of a mask: save it as PNG where it was "
                "drawn", "--corpus.threshold reads one of two classes",
            )  # fmt: skip
        values = stored.values()
        if self.colours and (values is None or not self.ids):
            shown = colours.of_picture(stored.image)
            return _noting(self._of_colours(shown), shown, "06x")
        if values is not None:
            return _noting(self._of_values(values), values, "d")
        image = stored.image
        raise self._bad(
            f"a mask of mode {image.mode} with {len(image.getbands())} channels, where one channel "
            "of class ids is expected", "--corpus.colours reads masks that are pictures",
        )  # fmt: skip

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
            raise self._bad(
                str(unknown), "--corpus.ignore-colours names some to ignore, --corpus.ignore-rest "
                "ignores all others",
            ) from unknown  # fmt: skip

    def _bad(self, reason: str, advice: str) -> BadInput:
        return BadInput(f"{reason} ({advice})" if self.advises else reason)


def _noting(ids: Pixels, values: np.ndarray, form: str) -> tuple[Pixels, dict[str, int]]:
    ignored = values[ids == IGNORE]
    if ignored.dtype in (np.uint8, np.uint16):  # counted, where sorting takes ten times as long
        every = np.bincount(ignored)
        there = every.nonzero()[0]
        counts = every[there]
    else:
        there, counts = np.unique(ignored, return_counts=True)
    found = zip(there.tolist(), counts.tolist(), strict=True)
    return ids, {format(value, form): count for value, count in found}
