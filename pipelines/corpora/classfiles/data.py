"""JSON files that name classes, in each of the forms that people have.

Names; ``{name: id}`` and ``{id: name}`` (label2id and id2label of Hugging Face, alone or in a
config.json); COCO's ``categories``; the ``labels`` of Mapillary Vistas; ``names``, as Ultralytics
calls them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pipelines.corpora.classfiles.entries import Entry

_WITHIN = ("id2label", "label2id", "categories", "labels", "names", "classes")
"""Where a larger file has its classes."""
_KNOWN = "{name: id}, {id: name}, a list of names, or COCO's categories"


def of_json(content: str, source: str) -> list[Entry]:
    """The classes of a JSON file.

    Raises:
        ValueError: naming the file, and the line where JSON ends to be one.
    """
    try:
        data = json.loads(content, object_pairs_hook=_pairs)
    except json.JSONDecodeError as error:
        raise ValueError(f"{source}, line {error.lineno}: no JSON: {error.msg}") from error
    except _Twice as twice:
        raise ValueError(f"{source}: the key {twice} is there twice") from twice
    if isinstance(data, dict):
        inner = next((data[k] for k in _WITHIN if isinstance(data.get(k), dict | list)), None)
        data = data if inner is None else inner
    entries = _of_list(data) if isinstance(data, list) else _of_mapping(data)
    if entries is None:
        raise ValueError(f"{source}: JSON, but neither {_KNOWN}")
    return entries


class _Twice(Exception):
    pass


def _pairs(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _Twice(repr(key))
        found[key] = value
    return found


def _of_mapping(data: Any) -> list[Entry] | None:
    if not isinstance(data, dict) or not data:
        return None
    ids = [_id(value) for value in data.values()]
    if all(isinstance(value, str) for value in data.values()) and all(map(str.isdecimal, data)):
        return [Entry(n, name, int(key)) for n, (key, name) in enumerate(data.items(), start=1)]
    if None in ids:
        return None
    named = zip(data, ids, strict=True)
    return [Entry(n, name, number) for n, (name, number) in enumerate(named, start=1)]


def _of_list(data: list[Any]) -> list[Entry] | None:
    if all(isinstance(one, str) for one in data):
        return [Entry(n, name) for n, name in enumerate(data, start=1)]
    if not all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in data):
        return None
    with_ids = [_id(one.get("id")) for one in data]
    if all(number is None for number in with_ids) and not any("id" in one for one in data):
        with_ids = list(range(len(data)))  # Vistas: a value is the place in the list
    if None in with_ids:
        return None
    named = zip(data, with_ids, strict=True)
    return [Entry(n, one["name"], number) for n, (one, number) in enumerate(named, start=1)]


def _id(value: Any) -> int | None:
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
