"""Class names and ids from a small file, for known corpora and for one's own."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources

from infra import storage
from pipelines.corpora.classfiles import parse
from pipelines.corpora.corpus import Corpus

KNOWN = resources.files("pipelines.corpora") / "classes"


def with_classes(corpus: Corpus) -> Corpus:
    """The corpus with the classes and ids of its class file, if it names one.

    Where colours are known, from the file or beside it, masks are read by them, and ids of the file
    only order the classes. A class of the file whose colour is to be ignored is none.

    Raises:
        ValueError: when there are fewer than two classes, the file cannot be understood, or colours
            are to be ignored and none are known.
    """
    if not corpus.class_file:
        if len(corpus.classes) < 2:
            raise ValueError(
                "name the classes: --corpus.classes sky road car ..., or --corpus.class-file FILE"
            )
        return corpus
    known = KNOWN / f"{corpus.class_file}.txt"
    content = (
        known.read_bytes()
        if known.is_file()
        else storage.read_bytes(storage.absolute(corpus.class_file))
    )
    found = parse(content, corpus.class_file).without(corpus.ignore_colours)
    colours, ids = corpus.colours or found.colours, corpus.ids
    if corpus.ignore_colours and not colours:
        raise ValueError("--corpus.ignore-colours goes with colours of the classes, and none are "
                         "given")  # fmt: skip
    if not colours and not ids and found.ids != tuple(range(len(found.names))):
        ids = found.ids
    return replace(corpus, classes=found.names, ids=ids, colours=colours, class_file="")
