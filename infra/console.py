"""What a person reads while a job runs: its own lines, and what they can act on.

Ray prints every line of every worker in the driver: among them its own notes, and lines of
libraries that look like failures and are none. The workers' logs keep all of it, below
``/tmp/ray/session_latest/logs``. The console shows what was said with :func:`say`, Ray's events,
and Serve's lines. ``--verbose`` shows everything.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import sys
import threading
from typing import Any, TextIO

VERBOSE = "SEMFLOW_VERBOSE"
MARK = "semflow: "
"""Begins a line that is for people, whichever process says it."""

_OF_A_WORKER = re.compile(r"(?:\x1b\[\d+m)*\((?P<who>[^=\n]*?) ?pid=\d+")
_SHOWN = ("ServeReplica", "ServeController", "ProxyActor")
"""Processes whose lines are shown: the service's log is what its user reads."""

_LOGGERS = {
    "alembic": logging.WARNING,
    "ray._private.authentication": logging.ERROR,  # warns that a cluster of one's own is protected
    "ray.data._internal.progress": logging.ERROR,  # warns that its bars are off; ours are on
}
_NATIVE = (b"has constructor arguments in the object store",)
"""Ray Data hands its actors references to arguments, always; Ray's core calls that an error,
whatever their size (ray issue 53727). It is written by C++, out of the reach of any logger."""


def say(line: str, *, error: bool = False) -> None:
    """Say something to the person who runs the job, from the driver or from any worker."""
    stream = sys.stderr if error else sys.stdout
    shown = line if isinstance(stream, _Console) else MARK + line
    print(shown, file=stream, flush=True)


def verbose() -> bool:
    """Whether all is to be shown."""
    return bool(os.environ.get(VERBOSE))


def quieten() -> None:
    """From now on show, in this process, what is for people; all of it where :func:`verbose`."""
    if verbose() or isinstance(sys.stdout, _Console):
        return
    for name, level in _LOGGERS.items():
        logging.getLogger(name).setLevel(level)
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # its import sets its loggers anew
    native = _filter_native()
    sys.stdout, sys.stderr = _Console(sys.stdout), _Console(native)


class _Console:
    """A text stream without the lines of workers that are not for people."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._dropped = stream, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """One call a line, as ``print`` does it: the line, then its end."""
        if self._dropped and text == "\n":
            self._dropped = False
            return 1
        shown = for_people(text)
        self._dropped = shown is None and not text.endswith("\n")
        if shown:
            self._stream.write(shown)
        return len(text)


def for_people(text: str) -> str | None:
    """What of a printed line is for people: the line, its part after the mark, or nothing."""
    found = _OF_A_WORKER.match(text)
    if not found or found["who"].startswith(_SHOWN):
        return text
    _, mark, said = text.partition(MARK)
    return said if mark else None


def _filter_native() -> TextIO:
    """Send what C and C++ write to standard error through a filter; Python's goes past it."""
    real = os.dup(2)
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)

    def pump() -> None:
        while chunk := os.read(reading, 1 << 16):
            for line in chunk.splitlines(keepends=True):
                if not any(known in line for known in _NATIVE):
                    os.write(real, line)

    thread = threading.Thread(target=pump, name="console", daemon=True)
    thread.start()

    def restore() -> None:
        os.dup2(real, 2)  # closes the pipe's only writing end in this process
        thread.join(1)

    atexit.register(restore)
    return os.fdopen(os.dup(real), "w", buffering=1, errors="backslashreplace")
