"""Files that name classes: read in each form that people have, or refused with file and line."""

from __future__ import annotations

from infra import text
from pipelines.corpora.classfiles import data, lines
from pipelines.corpora.classfiles.entries import Classes, gathered

__all__ = ["Classes", "parse"]


def parse(content: bytes | str, source: str) -> Classes:
    """The classes that a file names.

    JSON is read as :mod:`data` says, anything else as :mod:`lines` does.

    Raises:
        ValueError: naming the file, and the line where there is one, when it is of no known form,
            of an unknown encoding, or names something twice.
    """
    if isinstance(content, bytes):
        content = text.decode(content, source)
    if content.lstrip().startswith(("{", "[")):
        return gathered(data.of_json(content, source), source)
    return gathered(lines.of_text(content, source), source)
