"""The splits of a corpus: as its layout has them, or cut by a hash of each pair's id or group."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

import pyarrow as pa

from infra import storage
from infra.console import say
from pipelines.corpora.corpus import Corpus
from pipelines.corpora.listing import Listing, list_pairs
from pipelines.corpora.readers import index


def list_splits(corpus: Corpus) -> dict[str, Listing]:
    """The listing of every split of the corpus, by name.

    Raises:
        ValueError: when nothing tells one split's pairs from another's, when a corpus that has
            splits is to be cut, or as :func:`list_pairs`.
        FileNotFoundError: as :func:`list_pairs`.
    """
    several = len(corpus.splits) > 1
    if several and not divided(corpus) and not corpus.val_share:
        names = " and ".join(map(repr, corpus.splits))
        raise ValueError(
            f"{names} would be the same pairs: {_where(corpus)} has no {{split}}. Cut one off by "
            "--corpus.val-share 0.1, or name one split by --corpus.splits"
        )
    return {split: list_split(corpus, split) for split in corpus.splits}


def list_split(corpus: Corpus, split: str) -> Listing:
    """One split's listing, cut off by ``corpus.val_share`` where that is given.

    What cannot be used is named with the first split alone; what nobody asks for is said.

    Raises:
        ValueError: when the corpus has splits and is to be cut, no pair falls to the split, or as
            :func:`list_pairs`.
        FileNotFoundError: as :func:`list_pairs`.
    """
    listing = list_pairs(corpus, split)
    if listing.left:
        say(f"{split}: not taken are {'; '.join(map(str, listing.left))}", error=True)
    if not corpus.val_share:
        return listing
    if divided(corpus):
        raise ValueError(f"--corpus.val-share: {_where(corpus)} says already which split is which")
    last = split == corpus.splits[-1]
    ids = listing.pairs["id"].to_pylist()
    mine = [held_out(group, corpus.val_share) == last for group in groups(ids, corpus.groups)]
    if not any(mine):
        raise ValueError(
            f"of {len(ids)} pairs none falls to {split!r} by a hash of its id or group, with "
            f"--corpus.val-share {corpus.val_share:g}: give another share"
        )
    pairs = listing.pairs.filter(pa.array(mine))
    return Listing(pairs, [], []) if last else listing._replace(pairs=pairs)


def held_out(group: str, share: float) -> bool:
    """Whether a group falls to validation: by its name alone, whatever else is there."""
    place = int.from_bytes(hashlib.sha256(group.encode()).digest()[:8], "big") / 2**64
    return place < share


def groups(ids: Iterable[str], pattern: str) -> list[str]:
    """The group of each id, which ``{group}`` stands for in a pattern; without one, the id.

    Raises:
        ValueError: when an id is not of the pattern.
    """
    if not pattern:
        return list(ids)
    words = {"{group}": "(?P<group>.+?)", "*": ".*"}
    pieces = re.split(r"(\{group\}|\*)", pattern)
    regex = re.compile("".join(words.get(piece, re.escape(piece)) for piece in pieces))
    found = []
    for id_ in ids:
        match = regex.fullmatch(id_)
        if not match:
            raise ValueError(f"--corpus.groups {pattern!r} does not fit the id {id_!r}")
        found.append(match["group"])
    return found


def divided(corpus: Corpus) -> bool:
    """Whether the layout tells one split's pairs from another's."""
    if corpus.kind == "files":
        return any("{split}" in pattern for pattern in (corpus.images, corpus.masks, corpus.lists))
    return "{split}" in corpus.shards or (corpus.kind == "index" and index.has_splits(corpus))


def _where(corpus: Corpus) -> str:
    if corpus.kind == "files":
        return "the corpus, " + ", ".join(filter(None, [corpus.images, corpus.masks, corpus.lists]))
    return f"{corpus.shards!r} of {storage.absolute(corpus.root)}"
