"""WebDataset shards: tar files, read by range; they are not unpacked."""

from __future__ import annotations

import os
import posixpath
import tarfile
from collections.abc import Iterator
from typing import NamedTuple

from infra import storage, tree
from pipelines.corpora.corpus import Corpus
from pipelines.corpora.pair import Bad, Left, Pair, left_over
from pipelines.corpora.readers.files import shards_of


class Range(NamedTuple):
    """Where a member's bytes are in its tar."""

    offset: int
    length: int


def pairs(corpus: Corpus, split: str) -> Iterator[Pair | Bad | Left]:
    """Samples of the shards. ``images`` and ``masks`` are suffixes, by ``;``: 'jpg;png', 'seg.png'.

    A key is a member's name without the longest of these suffixes (any case), so it may have dots.
    Of several photos the one of the first suffix is taken. Many writers number from 0 in every
    shard, so an id is the shard's name and the key.
    """
    asked = {"image": _suffixes(corpus.images), "mask": _suffixes(corpus.masks)}
    others: list[str] = []
    for name, uri, _ in shards_of(corpus, split):
        members, bad = _members(uri)
        yield from bad
        samples: dict[str, dict[tuple[str, str], Range]] = {}
        twice: set[str] = set()
        for path, place in members:
            key, role, suffix = _split(path, asked)
            if not role:
                others.append(f"{name}: {path}")
                continue
            sample = samples.setdefault(key, {})
            if (role, suffix) in sample:
                twice.add(key)
            sample[role, suffix] = place
        shard = os.path.splitext(name)[0]
        whole = {key for key, sample in samples.items() if len({role for role, _ in sample}) == 2}
        for key, sample in samples.items():
            image, mask = (
                next((sample[role, s] for s in wanted if (role, s) in sample), None)
                for role, wanted in asked.items()
            )
            if key in twice:
                yield Bad(f"{uri}: {key}", "the key is there twice, and nothing says which photo "
                          "and which mask are one sample")  # fmt: skip
            elif image and mask:
                at, mask_at = (f"bytes:{offset}:{length}" for offset, length in (image, mask))
                size = image.length + mask.length
                yield Pair(f"{shard}/{key}", uri, at, uri, mask_at, size)
            elif _begins(key, whole):  # of 7.jpg, 7.seg.png and 7.depth.png
                suffix = next(iter(sample))[1]
                others.append(f"{name}: {key}.{suffix}")
            else:
                what = "an image without a mask" if image else "a mask without an image"
                yield Bad(f"{uri}: {key}", what)
    yield from left_over(others)


def _suffixes(given: str) -> list[str]:
    return [suffix.strip().lstrip(".").lower() for suffix in given.split(";")]


def _split(path: str, asked: dict[str, list[str]]) -> tuple[str, str, str]:
    """Key, role and suffix of a member; no role where no suffix is asked for."""
    name = path.lower()
    fitting = [(len(suffix), role, suffix) for role, several in asked.items() for suffix in several
               if name.endswith(f".{suffix}") and not name.endswith(f"/.{suffix}")]  # fmt: skip
    if not fitting:
        return path, "", ""
    length, role, suffix = max(fitting)
    return path[: -length - 1], role, suffix


def _begins(key: str, others: set[str]) -> bool:
    """Whether another key is this one up to one of its dots."""
    folder, _, base = key.rpartition("/")
    parts = base.split(".")
    return any(posixpath.join(folder, ".".join(parts[:n])) in others for n in range(1, len(parts)))


def _members(uri: str) -> tuple[list[tuple[str, Range]], list[Bad]]:
    """Names and places of a tar's files, links as what they lead to; and what is none."""
    places: dict[str, Range] = {}
    found: list[tuple[str, Range]] = []
    links: list[tuple[str, str]] = []
    bad: list[Bad] = []
    try:
        with (
            storage.open_input(uri, ahead=True) as file,
            tarfile.open(fileobj=file, mode="r:") as tar,
        ):
            for member in tar:
                path = member.name
                if any(map(tree.hidden, posixpath.normpath(path).split("/"))):
                    continue
                if member.islnk() or member.issym():
                    base = posixpath.dirname(path) if member.issym() else ""
                    links.append((path, posixpath.normpath(posixpath.join(base, member.linkname))))
                elif member.issparse():
                    bad.append(Bad(f"{uri}: {path}", "a sparse member: its bytes lie apart"))
                elif member.isfile():
                    place = Range(member.offset_data, member.size)
                    places[posixpath.normpath(path)] = place
                    found.append((path, place))
    except tarfile.TarError as error:
        bad.append(Bad(uri, f"not a whole, uncompressed tar: {error}"))
    for path, target in links:
        if target in places:
            places[posixpath.normpath(path)] = places[target]
            found.append((path, places[target]))
        else:
            bad.append(Bad(f"{uri}: {path}", f"a link to {target}, which is no file of the tar"))
    return found, bad
