"""Folders of files: photos and masks are paired by what their paths have in common."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Set
from functools import partial
from typing import NamedTuple

from infra import storage
from pipelines.corpora.corpus import JPEGS, MASKS, PHOTOS, Corpus
from pipelines.corpora.pair import Bad, Left, Pair, left_over
from pipelines.corpora.readers.lists import read_list

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


def pairs(corpus: Corpus, split: str) -> Iterator[Pair | Bad | Left]:
    """The photos and masks of a split, paired by ``{id}``, or as a list pairs them."""
    photo_files, others = look(corpus, corpus.images, split, PHOTOS)
    mask_files, more = look(corpus, corpus.masks, split, (*MASKS, *JPEGS))
    images, again = _places(corpus, photo_files)
    masks, twice = _places(corpus, _lossless(mask_files))
    wanted = {key: key for key in sorted(images.keys() | masks.keys())}
    listed = corpus.lists.format(split=corpus.folder(split))
    if corpus.lists:
        uri = storage.join(storage.absolute(corpus.root), listed)
        keys = (images.keys(), masks.keys())
        wanted = dict(read_list(uri, *keys, partial(_key, corpus)))
    else:
        for key, mask_key in _alike(images.keys() - masks.keys(), masks.keys() - images.keys()):
            del wanted[mask_key]
            wanted[key] = mask_key
    known = wanted.keys() | set(wanted.values())
    yield from (bad for key, bad in (*again, *twice) if key in known)
    alone: list[Bad] = []
    for key, mask_key in wanted.items():
        image, mask = images.get(key), masks.get(mask_key)
        if image and mask:
            yield Pair(key, image.uri, image.part, mask.uri, mask.part, image.bytes + mask.bytes)
        elif image:
            yield Bad(image.uri, f"an image without a mask{_escaped(key)}")
        elif mask:
            alone.append(Bad(mask.uri, f"a mask without an image{_escaped(mask_key)}"))
        else:
            alone.append(Bad(f"{listed}: {key}", "listed, not there"))
    yield from alone
    taken = {file.path for file in (*photo_files, *mask_files)}
    yield from left_over({*others, *more} - taken - {listed})


def _alike(images: Set[str], masks: Set[str]) -> Iterator[tuple[str, str]]:
    """Ids that differ in their Unicode normal form alone, which macOS changes in names of files."""
    forms: list[dict[str, list[str]]] = [defaultdict(list), defaultdict(list)]
    for form, keys in zip(forms, (images, masks), strict=True):
        for key in keys:
            form[unicodedata.normalize("NFC", key)].append(key)
    for name, of_images in forms[0].items():
        of_masks = forms[1].get(name, [])
        if len(of_images) == len(of_masks) == 1:  # else nobody knows which belongs to which
            yield of_images[0], of_masks[0]


def _escaped(key: str) -> str:
    """The id in ASCII, where another one may look the same."""
    return "" if key.isascii() else f" of exactly the id {key!a}"


def find(
    corpus: Corpus, pattern: str, split: str, suffixes: tuple[str, ...] | None = None
) -> list[Found]:
    """Files below the root that a pattern names, sorted by path; suffixes in any case.

    Raises:
        FileNotFoundError: when the folder that the pattern begins with is missing.
    """
    return look(corpus, pattern, split, suffixes)[0]


def look(
    corpus: Corpus, pattern: str, split: str, suffixes: tuple[str, ...] | None = None
) -> tuple[list[Found], list[str]]:
    """As :func:`find`, and the paths of all files in the folder that the pattern begins with.

    Raises:
        FileNotFoundError: when that folder is missing.
    """
    pattern = pattern.replace("{split}", corpus.folder(split))
    if suffixes and not re.search(WILD, pattern):
        pattern = pattern.rstrip("/") + "/{id}.*"
    any_suffix = suffixes is not None and pattern.endswith(ANY_SUFFIX)
    pieces = re.split(WILD, pattern.removesuffix(ANY_SUFFIX) if any_suffix else pattern)
    # With a part behind it, an id ends at the first place where a part can begin: 00012_l_eye.
    groups = {"{id}": "(?P<id>.+?)" if "{part}" in pieces else "(?P<id>.+)",
              "{part}": "(?P<part>[^/.]+)", "*": "[^/]*"}  # fmt: skip
    stem, dot, suffix = pieces[-1].rpartition(".")
    last = f"{re.escape(stem + dot)}(?i:{re.escape(suffix)})" if dot else re.escape(suffix)
    written = [groups.get(piece, re.escape(piece)) for piece in pieces[:-1]] + [last]
    regex = re.compile("".join(written))
    folder = pieces[0].rpartition("/")[0]
    root = storage.absolute(corpus.root)
    odd: list[str] = []
    listed = storage.find(storage.join(root, folder), suffixes if any_suffix else None, odd)
    found, paths = [], [f"{folder}/{name}" if folder else name for name in odd]
    for name, size in listed.items():
        path = f"{folder}/{name}" if folder else name
        paths.append(path)
        match = regex.fullmatch(os.path.splitext(path)[0] if any_suffix else path)
        if match:
            got, whole = match.groupdict(), path
            if "part" in got:
                whole = f"{path[: match.start('part')]}*{path[match.end('part') :]}"
            found.append(Found(path, got.get("id", ""), got.get("part", ""), whole, size))
    return found, paths


def _lossless(found: list[Found]) -> list[Found]:
    """Mask files, without a JPEG beside a file that keeps every value: it is most often the photo's
    or a picture for people."""
    kept = {file.id for file in found if not file.path.lower().endswith(JPEGS)}
    return [f for f in found if f.id not in kept or not f.path.lower().endswith(JPEGS)]


def _places(corpus: Corpus, found: list[Found]) -> tuple[dict[str, Place], list[tuple[str, Bad]]]:
    """By id: files, or several files as one; and second files of an id."""
    root = storage.absolute(corpus.root)
    places: dict[str, Place] = {}
    again: list[tuple[str, Bad]] = []
    for file in found:
        key, uri = _key(corpus, file.id), storage.join(root, file.whole)
        there = places.get(key)
        if there is None:
            places[key] = Place(uri, f"layers:{file.part}" if file.part else "", file.bytes)
        elif file.part and there.uri == uri:
            places[key] = Place(uri, f"{there.part},{file.part}", there.bytes + file.bytes)
        else:
            what = f"a second file of the name {key!r}, beside {there.uri}"
            again.append((key, Bad(uri, what)))
    return places, again


def _key(corpus: Corpus, key: str) -> str:
    return str(int(key)) if corpus.numeric_ids and key.isdecimal() else key


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
