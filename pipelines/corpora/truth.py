"""A corpus's true masks as class numbers."""

from __future__ import annotations

from functools import lru_cache

from pipelines.corpora import parts
from pipelines.corpora.corpus import Corpus
from pipelines.corpora.masks import LabelMap
from pipelines.corpora.pixels import Pixels


@lru_cache(maxsize=16)
def label_map(corpus: Corpus) -> LabelMap:
    """What the values of the corpus's mask files mean.

    Raises:
        ValueError: when one would be of two classes, or of one and of none.
    """
    return LabelMap(
        classes=len(corpus.classes), ids=corpus.ids, colours=corpus.colours,
        ignore_ids=corpus.ignore_ids, ignore_rest=corpus.ignore_rest,
        ignore_colours=corpus.ignore_colours, threshold=corpus.threshold,
    )  # fmt: skip


def read_mask(corpus: Corpus, uri: str, part: str) -> Pixels:
    """The mask at a place of the corpus's listing: uint8 ``[H, W]``, ignored pixels as 255.

    Raises:
        BadInput: when it cannot be used, or went away after it was listed.
    """
    return read_noting(corpus, uri, part)[0]


def read_noting(corpus: Corpus, uri: str, part: str) -> tuple[Pixels, dict[str, int]]:
    """As :func:`read_mask`, and the pixels of each value that is ignored, as people write it.

    Raises:
        BadInput: as :func:`read_mask`.
    """
    labels = label_map(corpus)
    if part.startswith("layers:"):
        return labels.merge(parts.read_layers(uri, part), corpus.classes), {}
    return labels.read_noting(parts.read(uri, part, "mask"))
