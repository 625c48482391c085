"""Corpora as they are in the world become one listing: ``{id, image, mask}``, a row a pair.

corpus.py    what a corpus is: where things are, what the values of its masks mean
known.py     the corpora that people have: Cityscapes, ADE20K, COCO-Stuff, ... as values
classes/     their class names and ids
classes.py   a corpus with the classes of its file, read by classfiles/
pair.py      what a reader yields
listing.py   corpus -> listing, by its kind, with the readers in readers/:
files.py       folders of files, by two patterns
index.py       a CSV, JSONL or Parquet index of pairs
tars.py        WebDataset shards
tables.py      Parquet or Arrow files with image bytes, as Hugging Face datasets are stored
splits.py    the listing of every split, or one cut off by a hash
parts.py     a place in a listing -> bytes
truth.py     a place in a listing -> class ids, by masks.py (values: stored.py, colours: colours.py)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.corpora.corpus import MASKS, PHOTOS, Corpus
    from pipelines.corpora.listing import Listing, list_pairs
    from pipelines.corpora.pair import Bad
    from pipelines.corpora.splits import list_split, list_splits

__all__ = ["MASKS", "PHOTOS", "Bad", "Corpus", "Listing", "list_pairs", "list_split", "list_splits"]

_HOMES = {
    "corpus": ("MASKS", "PHOTOS", "Corpus"),
    "listing": ("Listing", "list_pairs"),
    "pair": ("Bad",),
    "splits": ("list_split", "list_splits"),
}


def __getattr__(name: str) -> Any:
    """What is asked for, when it is: to decode pictures takes neither torch nor Arrow."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
