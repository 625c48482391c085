"""What a class file says, line by line, and as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from semflow.masks.colours import number_of

MOST = 65535
"""The greatest value of a mask file."""


class Entry(NamedTuple):
    """A class as its file has it."""

    line: int
    """Of a text file; in JSON, the how-many-th class."""
    name: str
    id: int | None = None
    colour: str | None = None  # RRGGBB


class Classes(NamedTuple):
    """Class names, in the order of their ids, or of the file where it has none."""

    names: tuple[str, ...]
    ids: tuple[int, ...]
    """Value of each in mask files; 0, 1, 2, ... where the file names none."""
    colours: tuple[str, ...]
    """RRGGBB of each; none where the file names none."""

    def without(self, colours: Iterable[str]) -> Classes:
        """The classes that have none of these colours."""
        away = {f"{number_of(colour):06x}" for colour in colours}
        if not away & set(self.colours):
            return self
        kept = [row for row in zip(*self, strict=True) if row[2] not in away]
        names, ids, left = zip(*kept, strict=True) if kept else ((), (), ())
        return Classes(names, ids, left)


def gathered(entries: Iterable[Entry], source: str) -> Classes:
    """The classes of a file as one.

    Raises:
        ValueError: naming file and line, for a name, id or colour that is there twice, an id that
            no mask can have, an empty name, and fewer than two classes.
    """
    entries = list(entries)
    keys: dict[str, Callable[[Entry], object]] = {
        "name": lambda entry: entry.name, "id": lambda entry: entry.id,
        "colour": lambda entry: entry.colour,
    }  # fmt: skip
    for what, key in keys.items():
        first: dict[object, int] = {}
        for entry in entries:
            value = key(entry)
            if value is not None and first.setdefault(value, entry.line) != entry.line:
                raise ValueError(f"{source}, line {entry.line}: the {what} {value!r} is there "
                                 f"twice, first in line {first[value]}")  # fmt: skip
    for entry in entries:
        if not entry.name:
            raise ValueError(f"{source}, line {entry.line}: a class without a name")
        if not 0 <= (entry.id or 0) <= MOST:
            raise ValueError(f"{source}, line {entry.line}: no mask has the value {entry.id}")
    if len(entries) < 2:
        raise ValueError(f"{source}: {len(entries)} classes; lines are 'name' or 'id name'")
    named = all(entry.id is not None for entry in entries)
    ordered = sorted(entries, key=lambda entry: entry.id or 0) if named else entries
    return Classes(
        tuple(entry.name for entry in ordered),
        tuple(entry.id or 0 for entry in ordered) if named else tuple(range(len(ordered))),
        tuple(entry.colour for entry in ordered if entry.colour is not None),
    )
