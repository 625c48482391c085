"""Messages through the pipes between the service and its decoders."""

from __future__ import annotations

import os
import select
import struct
import time

_LENGTH = struct.Struct(">Q")


def read(pipe: int, until: float | None = None) -> bytes:
    """The next message of a file descriptor, and not a byte more.

    Args:
        pipe: file descriptor.
        until: when to stop waiting, on the clock of :func:`time.monotonic`.

    Raises:
        EOFError: when the other end is closed.
        TimeoutError: when the message is not whole by then.
    """
    (length,) = _LENGTH.unpack(_exactly(pipe, _LENGTH.size, until))
    return _exactly(pipe, length, until)


def _exactly(pipe: int, length: int, until: float | None) -> bytes:
    found = bytearray()
    while len(found) < length:
        if until is not None:
            left = max(0.0, until - time.monotonic())
            if not select.select([pipe], [], [], left)[0]:
                raise TimeoutError
        part = os.read(pipe, min(length - len(found), 2**20))
        if not part:
            raise EOFError
        found += part
    return bytes(found)


def write(pipe: int, message: bytes) -> None:
    """Write a message to a file descriptor.

    Raises:
        BrokenPipeError: when the other end is closed.
    """
    for part in (_LENGTH.pack(len(message)), message):
        left = memoryview(part)
        while left:
            left = left[os.write(pipe, left) :]
