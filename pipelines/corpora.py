"""Corpora: folders of photos and masks become rows ``{id, image, mask}``.

The one layout so far: a photo and its mask share a stem, in parallel folders for each split.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import NamedTuple

from infra import storage

PHOTOS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
MASKS = (".png", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A labelled corpus in folders."""

    root: str = ""
    """Folder or URI that holds it."""
    images: str = "images/{split}"
    """Folder of a split's photos, below the root."""
    masks: str = "masks/{split}"
    """Folder of a split's masks, of class ids, each named like its photo."""
    splits: tuple[str, ...] = ("train", "val")
    classes: tuple[str, ...] = ()
    """Class names; class c is the c-th."""
    ignore_ids: tuple[int, ...] = (255,)
    """Ids of pixels that are not trained on and not scored."""

    def __post_init__(self) -> None:
        clash = [i for i in self.ignore_ids if i < len(self.classes)]
        if clash:
            raise ValueError(f"ids {clash} are classes and are to be ignored")


class Pair(NamedTuple):
    """One photo with its mask."""

    id: str  # unique within a split: the path below the split's folder, without suffix
    image: str  # URI
    mask: str  # URI


class Bad(NamedTuple):
    """Something that cannot be used."""

    file: str
    reason: str


def list_pairs(corpus: Corpus, split: str) -> tuple[list[Pair], list[Bad]]:
    """A split's pairs sorted by id, and the files that have no partner.

    Raises:
        FileNotFoundError: when a folder is missing.
        ValueError: when there is not one pair.
    """
    folders = [
        storage.join(storage.absolute(corpus.root), template.format(split=split))
        for template in (corpus.images, corpus.masks)
    ]
    bad: list[Bad] = []
    images, masks = (
        _by_stem(folder, suffixes, bad)
        for folder, suffixes in zip(folders, (PHOTOS, MASKS), strict=True)
    )
    pairs = [Pair(stem, images[stem], masks[stem]) for stem in sorted(images.keys() & masks.keys())]
    bad += [Bad(images[s], "an image without a mask") for s in sorted(images.keys() - masks.keys())]
    bad += [Bad(masks[s], "a mask without an image") for s in sorted(masks.keys() - images.keys())]
    if not pairs:
        raise ValueError(
            f"no photo in {folders[0]} has a mask of the same name in {folders[1]} "
            f"({len(images)} photos, {len(masks)} masks)"
        )
    return pairs, bad


def _by_stem(folder: str, suffixes: tuple[str, ...], bad: list[Bad]) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in storage.list_files(folder, suffixes):
        stem, uri = os.path.splitext(path)[0], storage.join(folder, path)
        if stem in found:
            bad.append(Bad(uri, f"a second file of the name {stem!r}, beside {found[stem]}"))
        else:
            found[stem] = uri
    return found
