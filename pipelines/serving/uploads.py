"""What a stranger sends over HTTP, read with a limit of bytes and of time, and not looked into.

The service's event loop does this, so it does nothing whose cost a client chooses: what a body
holds, a form or a picture, is found out in a process of its own (pipelines.serving.decoding).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fastapi import Request
from starlette.requests import ClientDisconnect

from pipelines.serving.decoding.forms import FORM, Upload
from pipelines.serving.refused import Refused


async def read_upload(
    request: Request, kinds: Sequence[str], *, max_bytes: int, timeout_s: float
) -> Upload:
    """The body of a request: a file, or a form that has one.

    Args:
        request: not yet read.
        kinds: of files that may be sent, as Pillow names them.
        max_bytes: of the body; reading ends as soon as there are more.
        timeout_s: for the whole body.

    Raises:
        Refused: 408, 413 or 415; 400 for a connection that ends early.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > max_bytes:
        raise _too_long(max_bytes)
    header = request.headers.get("content-type", "")
    kind = header.split(";")[0].strip().lower()
    types = [f"image/{kind.lower()}" for kind in kinds]
    if kind != FORM and kind not in types:
        raise Refused(
            415,
            f"the body has type {kind[:80] or 'none'!r}: send one of {', '.join(types)} as the "
            f"body (curl -H 'Content-Type: {types[0]}' --data-binary @FILE), or {FORM} "
            "(curl -F file=@FILE)",
        )
    body = bytearray()  # a list of chunks takes 40 bytes for each, and they may be of one byte
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > max_bytes:
                    raise _too_long(max_bytes)
    except TimeoutError:
        raise Refused(408, f"the file did not arrive within {timeout_s:g} seconds") from None
    except ClientDisconnect:
        raise Refused(400, "the connection ended before the file did") from None
    return Upload(bytes(body), header if kind == FORM else None)


def _too_long(max_bytes: int) -> Refused:
    return Refused(
        413, f"the body is longer than {max_bytes} bytes: send a smaller or more compressed file"
    )
