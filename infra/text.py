"""Text files of other people: their encoding is known by their first bytes, or refused by name."""

from __future__ import annotations

import codecs

_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",  # before UTF-16: it begins alike
    codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip


def decode(data: bytes, source: str) -> str:
    """The text of a file: UTF-8, or what a byte order mark at its head says, without the mark.

    Raises:
        ValueError: for another encoding, naming the file and the first line that shows it.
    """
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{source}, line {line}: byte 0x{data[error.start]:02x} is not {encoding.upper()}; "
            "save the file as UTF-8"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ValueError(f"{source}, line {line}: a zero byte, as in UTF-16 without its mark; save "
                         "the file as UTF-8")  # fmt: skip
    return text
