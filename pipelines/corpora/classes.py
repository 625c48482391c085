"""Class names and ids from a small file, for known corpora and for one's own."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources

from infra import storage
from pipelines.corpora.corpus import Corpus

KNOWN = resources.files("pipelines.corpora") / "classes"


def with_classes(corpus: Corpus) -> Corpus:
    """The corpus with the classes and ids of its class file, if it names one.

    Raises:
        ValueError: when there are fewer than two classes, or the file cannot be understood.
    """
    if not corpus.class_file:
        if len(corpus.classes) < 2:
            raise ValueError(
                "name the classes: --corpus.classes sky road car ..., or --corpus.class-file FILE"
            )
        return corpus
    known = KNOWN / f"{corpus.class_file}.txt"
    text = (
        known.read_text()
        if known.is_file()
        else storage.read_bytes(storage.absolute(corpus.class_file)).decode()
    )
    names, ids = parse(text, corpus.class_file)
    ids = () if ids == tuple(range(len(names))) else ids
    return replace(corpus, classes=names, ids=corpus.ids or ids, class_file="")


def parse(text: str, source: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names, and the value of each in mask files.

    ``text`` is JSON ``{"name": id}`` or ``["name", ...]``, or lines of ``id name`` (also ``id:
    name``, ``id,name``) or of ``name``; blank lines and those that begin with # do not count.

    Raises:
        ValueError: for anything else, and for a name or an id that is there twice.
    """
    if text.lstrip().startswith(("{", "[")):
        data = json.loads(text)
        if isinstance(data, list):
            data = {str(name): number for number, name in enumerate(data)}
        named = [(int(number), str(name)) for name, number in data.items()]
    else:
        lines = [line.strip() for line in text.splitlines()]
        lines = [line for line in lines if line and not line.startswith("#")]
        words = [line.replace(":", " ").replace(",", " ").replace("\t", " ") for line in lines]
        pairs = [word.split(maxsplit=1) for word in words]
        if all(len(pair) == 2 and pair[0].isdecimal() for pair in pairs):
            named = [(int(number), name.strip()) for number, name in pairs]
        else:
            named = list(enumerate(lines))
    named.sort()
    ids, names = tuple(number for number, _ in named), tuple(name for _, name in named)
    for what, values in (("id", ids), ("name", names)):
        if len(set(values)) != len(values):
            raise ValueError(f"{source}: an {what} is there twice".replace("an n", "a n"))
    if len(names) < 2:
        raise ValueError(f"{source}: {len(names)} classes; lines are 'name' or 'id name'")
    return names, ids
