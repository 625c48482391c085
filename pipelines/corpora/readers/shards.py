"""The files of a split: those that a pattern names and that belong to it by their own index."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator

from infra import storage
from pipelines.corpora.corpus import Corpus
from pipelines.corpora.pair import Bad, Left, left_over
from pipelines.corpora.readers.files import shards_of

STATE = "state.json"
"""Of Hugging Face's ``save_to_disk``: it lists the files of a split."""
_OF = re.compile(r"(?P<stem>.+)-(?P<number>\d+)-of-(?P<count>\d+)(?P<suffix>\.\w+)")
_CACHE = re.compile(r"(cache-[0-9a-f]+|tmp\w*)\.arrow")
"""What ``map`` and ``shuffle`` of the datasets library leave beside the data."""

Shard = tuple[str, str, int]


def own_shards(corpus: Corpus, split: str) -> tuple[list[Shard], list[Bad | Left]]:
    """A split's files ``(path, URI, bytes)``, and what is beside them or missing.

    A folder's ``state.json`` says which of its files are data; so do names that end in
    ``-00000-of-00010``.

    Raises:
        FileNotFoundError: when there is no file.
        ValueError: when two sets of files are there, or an index picks and orders their rows.
    """
    folders: dict[str, dict[str, Shard]] = defaultdict(dict)
    for shard in shards_of(corpus, split):
        folder, _, name = shard[0].rpartition("/")
        folders[folder][name] = shard
    kept: list[Shard] = []
    beside: list[str] = []
    bad: list[Bad] = []
    for folder, shards in folders.items():
        at = storage.join(storage.absolute(corpus.root), *filter(None, [folder]))
        listed = _listed(storage.join(at, STATE))
        if listed is None:
            data = [name for name in shards if not _CACHE.fullmatch(name)]
            own = [shards[name] for name in data or shards]
        else:
            own = [shards[name] for name in listed if name in shards]
            gone = [name for name in listed if not storage.exists(storage.join(at, name))]
            bad += [Bad(storage.join(at, name), f"{STATE} lists it, not there") for name in gone]
        kept += own
        beside += [shard[0] for shard in shards.values() if shard not in own]
    if "*" in corpus.shards:  # else one set was named, or a part of it
        bad += _missing(storage.absolute(corpus.root), kept)
    return kept, [*bad, *left_over(beside)]


def _listed(state: str) -> list[str] | None:
    """Names of the data files; None where no index says so."""
    if not storage.exists(state):
        return None
    try:
        data = json.loads(storage.read_bytes(state))
        names = [str(file["filename"]) for file in data["_data_files"]]
    except (ValueError, KeyError, TypeError):
        return None
    if data.get("_indices_data_files"):
        raise ValueError(f"{state}: a table of indices picks the rows of these files; save the "
                         "dataset again after flatten_indices()")  # fmt: skip
    return names


def _missing(root: str, kept: list[Shard]) -> Iterator[Bad]:
    """Files that the names of the others say are there."""
    sets: dict[tuple[str, str], dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    for path, _, _ in kept:
        if found := _OF.fullmatch(path):
            of = sets[found["stem"], found["suffix"]]
            of[int(found["count"])].add(int(found["number"]))
    for (stem, suffix), counts in sets.items():
        if len(counts) > 1:
            both = " and ".join(f"{stem}-*-of-{count:05d}{suffix}" for count in sorted(counts))
            raise ValueError(f"{root} holds two sets of files, {both}, most likely of the same "
                             "rows: name one by --corpus.shards")  # fmt: skip
        ((count, there),) = counts.items()
        for number in sorted(set(range(count)) - there):
            name = f"{stem}-{number:05d}-of-{count:05d}{suffix}"
            yield Bad(storage.join(root, name), "of this set by the names of others, not there")
