"""Folders of files: photos and masks are paired by what their paths have in common."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from infra import storage
from pipelines.corpora.corpus import MASKS, PHOTOS, Corpus
from pipelines.corpora.pair import Bad, Pair

ANY_SUFFIX = ".*"
WILD = r"(\{id\}|\{part\}|\*)"


class Found(NamedTuple):
    """A file that a pattern names."""

    path: str  # below the root
    id: str
    part: str
    whole: str  # the path with * for the part
    bytes: int


class Place(NamedTuple):
    uri: str
    part: str
    bytes: int


def pairs(corpus: Corpus, split: str) -> Iterator[Pair | Bad]:
    """The photos and masks of a split, paired by ``{id}``."""
    wanted, bad = _listed(corpus, split), list[Bad]()
    images = _places(corpus, find(corpus, corpus.images, split, PHOTOS), wanted, bad)
    masks = _places(corpus, find(corpus, corpus.masks, split, MASKS), wanted, bad)
    yield from bad
    for key in images.keys() & masks.keys():
        image, mask = images[key], masks[key]
        yield Pair(key, image.uri, image.part, mask.uri, mask.part, image.bytes + mask.bytes)
    for key in sorted(images.keys() - masks.keys()):
        yield Bad(images[key].uri, "an image without a mask")
    for key in sorted(masks.keys() - images.keys()):
        yield Bad(masks[key].uri, "a mask without an image")
    for key in sorted((wanted or set()) - images.keys() - masks.keys()):
        yield Bad(f"{corpus.lists.format(split=corpus.folder(split))}: {key}", "listed, not there")


def find(
    corpus: Corpus, pattern: str, split: str, suffixes: tuple[str, ...] | None = None
) -> list[Found]:
    """Files below the root that a pattern names, sorted by path.

    Raises:
        FileNotFoundError: when the folder that the pattern begins with is missing.
    """
    pattern = pattern.replace("{split}", corpus.folder(split))
    if suffixes and not re.search(WILD, pattern):
        pattern = pattern.rstrip("/") + "/{id}.*"
    any_suffix = suffixes is not None and pattern.endswith(ANY_SUFFIX)
    pieces = re.split(WILD, pattern.removesuffix(ANY_SUFFIX) if any_suffix else pattern)
    # With a part behind it, an id ends at the first place where a part can begin: 00012_l_eye.
    groups = {"{id}": "(?P<id>.+?)" if "{part}" in pieces else "(?P<id>.+)",
              "{part}": "(?P<part>[^/.]+)", "*": "[^/]*"}  # fmt: skip
    regex = re.compile("".join(groups.get(piece, re.escape(piece)) for piece in pieces))
    folder = pieces[0].rpartition("/")[0]
    root = storage.absolute(corpus.root)
    listed = storage.find(storage.join(root, folder), suffixes if any_suffix else None)
    found = []
    for name, size in sorted(listed.items()):
        path = f"{folder}/{name}" if folder else name
        match = regex.fullmatch(os.path.splitext(path)[0] if any_suffix else path)
        if match:
            got, whole = match.groupdict(), path
            if "part" in got:
                whole = f"{path[: match.start('part')]}*{path[match.end('part') :]}"
            found.append(Found(path, got.get("id", ""), got.get("part", ""), whole, size))
    return found


def _places(
    corpus: Corpus, found: list[Found], wanted: set[str] | None, bad: list[Bad]
) -> dict[str, Place]:
    """By id: files, or several files as one."""
    root = storage.absolute(corpus.root)
    places: dict[str, Place] = {}
    for file in found:
        key, uri = _key(corpus, file.id), storage.join(root, file.whole)
        if wanted is not None and key not in wanted:
            continue
        there = places.get(key)
        if there is None:
            places[key] = Place(uri, f"layers:{file.part}" if file.part else "", file.bytes)
        elif file.part and there.uri == uri:
            places[key] = Place(uri, f"{there.part},{file.part}", there.bytes + file.bytes)
        else:
            bad.append(Bad(uri, f"a second file of the name {key!r}, beside {there.uri}"))
    return places


def _key(corpus: Corpus, key: str) -> str:
    return str(int(key)) if corpus.numeric_ids and key.isdecimal() else key


def _listed(corpus: Corpus, split: str) -> set[str] | None:
    """Ids of a split's list. Lines may hold paths, and more behind a blank: lists come so."""
    if not corpus.lists:
        return None
    name = corpus.lists.format(split=corpus.folder(split))
    lines = storage.read_bytes(storage.join(storage.absolute(corpus.root), name)).decode()
    names = (line.split()[0].rpartition("/")[2] for line in lines.splitlines() if line.strip())
    return {_key(corpus, os.path.splitext(name)[0]) for name in names}


def shards_of(corpus: Corpus, split: str) -> Iterator[tuple[str, str, int]]:
    """The files of a split that ``corpus.shards`` names: path below the root, URI, bytes.

    Raises:
        FileNotFoundError: when there is none.
    """
    if not corpus.shards:
        raise ValueError(f"--corpus.shards says which files hold the {corpus.kind}")
    found = find(corpus, corpus.shards, split)
    if not found:
        raise FileNotFoundError(f"no file is {corpus.shards!r} (split {split!r}) in {corpus.root}")
    for file in found:
        uri = storage.join(storage.absolute(corpus.root), file.path)
        yield file.path, uri, file.bytes
