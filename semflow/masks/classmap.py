"""Values of mask files and numbers of classes are two things; a class map leads from one to the
other.

A *value* stands in the mask files of a corpus: 7 is the road in Cityscapes, 0 is void in ADE20K. A
*class number* is what everything behind the reading has: 0..K-1 in the order of the palette's
names, and 255 (:data:`~semflow.masks.palette.IGNORE`) for no class.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, NewType

import numpy as np

from semflow.masks.colours import number_of, numbers_of
from semflow.masks.palette import IGNORE

RawValues = NewType("RawValues", np.ndarray[Any, Any])
"""Integers ``[H, W]`` as they stand in a file; what they mean only a class map says."""
ClassNumbers = NewType("ClassNumbers", np.ndarray[Any, np.dtype[np.uint8]])
"""uint8 ``[H, W]``: 0..K-1, and 255 for no class."""


class UnknownValues(ValueError):
    """A mask has values that mean nothing; the message names them."""


@dataclass(frozen=True, kw_only=True)
class ClassMap:
    """What the values of mask files mean: a class each, or none.

    Raises:
        ValueError: when a value would be of two classes, or of one and of none.
    """

    classes: int
    """How many there are: 1..255, since the number 255 is no class's."""
    ids: tuple[int, ...] = ()
    """Value of each class; empty where class c has the value c."""
    colours: tuple[str, ...] = ()
    """RRGGBB or R,G,B of each class, for masks that are pictures; several joined by +."""
    ignore_ids: tuple[int, ...] = (IGNORE,)
    """Values that stand for no class."""
    ignore_rest: bool = False
    """Whether any other value stands for no class too; else it makes a mask unusable."""
    ignore_colours: tuple[str, ...] = ()
    """Colours that stand for no class."""
    threshold: int | None = None
    """With two classes: the grey from which on a pixel is the second one, in files of any kind."""

    def __post_init__(self) -> None:
        if not 0 < self.classes <= IGNORE:
            raise ValueError(f"{self.classes} classes, where 1 to {IGNORE} can be told apart")
        for what, given in (("ids", self.ids), ("colours", self.colours)):
            if given and len(given) != self.classes:
                raise ValueError(f"{len(given)} {what} for {self.classes} classes")
        colours = [f"{value:06x}" for _, value in numbers_of(self.colours)]
        colours += {f"{number_of(colour):06x}" for colour in self.ignore_colours}
        for what, values in (("ids", self.values), ("colours", colours)):
            if twice := [value for value, count in Counter(values).items() if count > 1]:
                raise ValueError(f"{what} {twice} are there twice: of which class are they?")
        if clash := sorted(set(self.ignore_ids) & set(self.values)):
            raise ValueError(f"ids {clash} are classes and are to be ignored")

    @property
    def values(self) -> tuple[int, ...]:
        """The value of each class in files of one channel, by its number."""
        return self.ids or tuple(range(self.classes))

    @cached_property
    def numbers_of_values(self) -> dict[int, int]:
        """The number of each value that means something, 255 for those of no class."""
        known = {value: number for number, value in enumerate(self.values)}
        return known | dict.fromkeys(self.ignore_ids, IGNORE)

    @property
    def as_numbers(self) -> bool:
        """Whether each value that is a class number, or 255, means just that, or nothing."""
        rest = IGNORE if self.ignore_rest else None
        found = ((n, self.numbers_of_values.get(n, rest)) for n in (*range(self.classes), IGNORE))
        return all(meaning in (number, None) for number, meaning in found)

    def numbers(self, values: RawValues) -> ClassNumbers:
        """The classes of values ``[H, W]``, integers of any width.

        Raises:
            UnknownValues: when some mean nothing.
        """
        if self.threshold is not None:
            return ClassNumbers((values >= self.threshold).astype(np.uint8))
        found, beyond = _translated(values, self.numbers_of_values)
        if beyond and not self.ignore_rest:
            allowed = f"{len(self.ids)} given ids" if self.ids else f"0..{self.classes - 1}"
            raise UnknownValues(
                f"values {beyond[:8]} are beyond the {self.classes} classes "
                f"({allowed}; ignored: {sorted(self.ignore_ids)})"
            )
        return found

    def numbers_of_colours(self, values: RawValues) -> ClassNumbers:
        """The classes of colours ``[H, W]``, each as the number 0xRRGGBB.

        Raises:
            UnknownValues: when some belong to no class.
        """
        meanings = {value: number for number, value in numbers_of(self.colours)}
        meanings |= {number_of(colour): IGNORE for colour in self.ignore_colours}
        found, beyond = _translated(values, meanings)
        if beyond and not self.ignore_rest:
            wrong = [f"{value:06x}" for value in beyond[:8]]
            raise UnknownValues(f"colours {wrong} belong to no class")
        return found

    def to_json(self) -> dict[str, Any]:
        """The map as JSON data, every value written out."""
        return asdict(self) | {"ids": list(self.values)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ClassMap:
        """What :meth:`to_json` gave; keys that are not the map's are left out.

        Raises:
            ValueError: as the map itself.
        """
        known: dict[str, Any] = {
            field.name: tuple(value) if isinstance(value, list | tuple) else value
            for field in fields(cls)
            if (value := data.get(field.name)) is not None
        }
        return cls(**known)


def _translated(values: RawValues, meanings: Mapping[int, int]) -> tuple[ClassNumbers, list[int]]:
    """Values ``[H, W]`` as class numbers, those without a meaning as 255; and these, sorted."""
    if values.dtype.kind == "b":
        values = RawValues(values.view(np.uint8))
    where: np.ndarray[Any, Any] = values
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        there = np.arange(2 ** (8 * values.dtype.itemsize))
    else:  # to sort a large mask takes forty times its memory
        there, where = np.unique(values, return_inverse=True)
    table = np.array([meanings.get(int(value), -1) for value in there], np.int16)
    found = table[where].reshape(values.shape)
    unknown = found < 0
    found[unknown] = IGNORE
    return ClassNumbers(found.astype(np.uint8)), np.unique(values[unknown]).tolist()
