"""Forms: the one file that a form has. What is in its text fields is never asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from pipelines.serving.refused import Refused

FORM = "multipart/form-data"
FIELDS, FIELD_BYTES = 16, 1000
"""Text fields that a form may have, which nobody reads, and the length of each."""


@dataclass(frozen=True)
class Upload:
    """A body as it came."""

    body: bytes
    form: str | None = None
    """Content type of a form, with its boundary; None: the body is the file."""

    def file(self) -> bytes:
        """The file that was sent; names that a client gives to it are not looked at.

        What this takes is the sender's choice: call it where it can be ended.

        Raises:
            Refused: 400 for a form without exactly one file; 415 for one that is not in UTF-8.
        """
        if self.form is None:
            return self.body
        charset = parse_options_header(self.form)[1].get(b"charset", b"utf-8")
        if charset.lower() not in (b"utf-8", b"utf8"):  # Python knows some that take hours
            raise Refused(415, f"the form's charset is {charset[:80].decode('latin-1')!r}: "
                               "send it in UTF-8")  # fmt: skip
        return asyncio.run(_file_of(self.body, self.form))


async def _chunks(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body


async def _file_of(body: bytes, kind: str) -> bytes:
    headers = Headers({"content-type": kind})
    parser = MultiPartParser(headers, _chunks(body), max_files=1, max_fields=FIELDS)
    parser.max_part_size = FIELD_BYTES
    parser.spool_max_size = len(body) + 1  # held in memory: it is no more than a plain body is
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise Refused(400, f"the form cannot be read: {error.message.rstrip('.')}") from error
    except FormParserError as error:
        raise Refused(400, f"the form cannot be read: {str(error).rstrip('.')}") from error
    files = [value for value in form.values() if isinstance(value, UploadFile)]
    if not files:
        raise Refused(400, "the form has no file: send one as a file field (curl -F file=@FILE)")
    try:
        return await files[0].read()
    finally:
        await form.close()
