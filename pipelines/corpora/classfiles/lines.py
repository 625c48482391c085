"""Text files that name classes, in each of the forms that people have.

A name a line; ``id name``; ``name,id``; ``name r g b``; CVAT's labelmap.txt; a table with a header
(CSV, tabs, semicolons; class_dict.csv, objectInfo150.txt).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence

from pipelines.corpora.classfiles.entries import Entry
from semflow.masks.colours import number_of

_COLUMNS = {
    "name": ("name", "names", "class", "classes", "class_name", "classname", "category", "label",
             "labels", "label_name"),
    "id": ("id", "idx", "index", "class_id", "classid", "label_id", "labelid", "category_id",
           "value", "pixel_value"),
    "r": ("r", "red"), "g": ("g", "green"), "b": ("b", "blue"),
    "colour": ("colour", "color", "rgb", "hex"),
}  # fmt: skip
"""Names of columns in the headers of tables."""
_RGB = r"(?P<r>\d{1,3})[\s,;]+(?P<g>\d{1,3})[\s,;]+(?P<b>\d{1,3})"
_LINES = {
    "name:r,g,b:parts:actions": r"(?P<name>[^:]+):(?P<colour>\d+,\d+,\d+):[^:]*:[^:]*",
    "r g b name": rf"{_RGB}[\s,;]+(?P<name>\D.*)",
    "id name r g b": rf"(?P<id>\d+)[\s,;:]+(?P<name>.*?[^\s,;\d].*?)[\s,;]+{_RGB}",
    "name r g b": rf"(?P<name>.*?[^\s,;\d].*?)[\s,;:]+{_RGB}",
    "id name": r"(?P<id>\d+)\s*[\s:,;]\s*(?P<name>\S.*)",
    "name,id": r"(?P<name>.*\S)\s*[\t,;:]\s*(?P<id>\d+)",
}
"""Forms of a line, by how they are written; all lines of a file are of one."""


def of_text(text: str, source: str) -> list[Entry]:
    """The classes of a text file.

    Raises:
        ValueError: naming the file and the line, when lines are not all of one form.
    """
    numbered = [(n, line.strip()) for n, line in enumerate(text.splitlines(), start=1)]
    lines = [(n, line) for n, line in numbered if line and not line.startswith("#")]
    if not lines:
        return []
    if table := _table(lines, source):
        return table
    for form in _LINES.values():
        found = [(n, re.fullmatch(form, line)) for n, line in lines]
        if all(match for _, match in found):
            _refuse_columns(lines, source)
            return [_entry(n, match.groupdict(), source) for n, match in found if match]
    return _names(lines, source)


def _names(lines: Sequence[tuple[int, str]], source: str) -> list[Entry]:
    """Lines that are names; those that look like another form are refused."""
    for how, form in _LINES.items():
        fit = [re.fullmatch(form, line) is not None for _, line in lines]
        if any(fit):
            number, line = next(one for one, ok in zip(lines, fit, strict=True) if ok != fit[0])
            raise ValueError(f"{source}, line {number}: {line!r} is not of the form of line "
                             f"{lines[0][0]}; some lines are '{how}'")  # fmt: skip
    number, line = lines[0]
    ends = [re.fullmatch(r"(.*\S)\s+\d+", line) for _, line in lines]
    if all(ends) and len({end[1] for end in ends if end}) == len(lines) > 1:
        raise ValueError(f"{source}, line {number}: is {line!r} a name, or a name and its id? "
                         "Write 'id name' or 'name,id'")  # fmt: skip
    _refuse_columns(lines, source)
    if line.endswith(":") or line in ("---", "{", "["):
        raise ValueError(f"{source}, line {number}: {line!r} is no class: YAML is not read")
    if line == "__ignore__":  # labelme's first line is -1, and its second one 0
        return [Entry(number, name, n) for n, (number, name) in enumerate(lines[1:])]
    return [Entry(number, name) for number, name in lines]


def _refuse_columns(lines: Sequence[tuple[int, str]], source: str) -> None:
    """Refuse names that are columns: of a table without a header nobody knows which is the name."""
    number, line = lines[0]
    for sign in "\t;,":
        columns = line.count(sign) + 1
        numbers = len(re.findall(r"\d+", line)) > 2  # name:r,g,b and its like were understood
        if columns > 2 and not numbers and all(o.count(sign) + 1 == columns for _, o in lines):
            raise ValueError(f"{source}, line {number}: {columns} columns, and no header that "
                             f"names them ({', '.join(_COLUMNS['name'])})")  # fmt: skip


def _table(lines: Sequence[tuple[int, str]], source: str) -> list[Entry] | None:
    """The rows of a table with a header; None where the first line is none."""
    number, first = lines[0]
    sign = max("\t;,", key=first.count)
    rows = list(csv.reader([line for _, line in lines], delimiter=sign, skipinitialspace=True))
    header = [cell.strip().lower() for cell in rows[0]]
    places = {
        what: next((header.index(name) for name in names if name in header), None)
        for what, names in _COLUMNS.items()
    }
    if all(place is None for place in places.values()) or (
        len(header) > 1 and sum(place is not None for place in places.values()) < 2
    ):
        return None
    if places["name"] is None:
        raise ValueError(f"{source}, line {number}: no column of {', '.join(header)} is the name "
                         f"({', '.join(_COLUMNS['name'])})")  # fmt: skip
    entries = []
    for (line, _), cells in zip(lines[1:], rows[1:], strict=True):
        if len(cells) != len(header):
            raise ValueError(f"{source}, line {line}: {len(cells)} columns, the header has "
                             f"{len(header)}")  # fmt: skip
        found = {what: cells[at].strip() for what, at in places.items() if at is not None}
        entries.append(_entry(line, found, source))
    return entries


def _entry(line: int, found: dict[str, str], source: str) -> Entry:
    try:
        colour = found.get("colour")
        if colour is None and "r" in found:
            colour = ",".join(found[channel] for channel in "rgb")
        return Entry(
            line, found["name"].strip(), int(found["id"]) if "id" in found else None,
            None if colour is None else f"{number_of(colour):06x}",
        )  # fmt: skip
    except (KeyError, ValueError) as error:
        raise ValueError(f"{source}, line {line}: {error}") from error
