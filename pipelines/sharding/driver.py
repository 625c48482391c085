"""One driver works on an output at a time: the first says that it is there, a second one is told.

The sign is a small file beside the job's notes, renewed while the driver lives. Of a driver of this
machine the process is looked for; of another machine's, whether the sign is still renewed. A driver
that was killed is followed at once here, and after :data:`GONE` seconds elsewhere.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from infra import storage
from infra.console import say
from pipelines.config import UserError
from pipelines.sharding.plan import PROGRESS

RENEWED = 20.0
"""Seconds between two signs of life."""
GONE = 90.0
"""Seconds without one after which a driver on another machine counts as gone."""


def sign_uri(output: str) -> str:
    return storage.join(output, PROGRESS, "driver.json")


@contextmanager
def at_work(output: str) -> Iterator[None]:
    """Hold an output for as long as the block runs.

    Raises:
        UserError: when another driver is at work there, saying which one.
    """
    refuse_two(output)
    mine = {
        "token": uuid.uuid4().hex, "host": socket.gethostname(), "pid": os.getpid(),
        "began": psutil.Process().create_time(), "since": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        "sign": 0,
    }  # fmt: skip
    where = sign_uri(output)
    _take(where, mine)
    refuse_two(output, but=mine["token"])
    stop = threading.Event()
    thread = threading.Thread(target=_renew, args=(where, mine, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        with suppress(Exception):  # what the job ended with is more to the point
            if _read(where).get("token") == mine["token"]:
                storage.remove(where)


def _take(where: str, mine: dict[str, Any]) -> None:
    """Leave the sign; of two that begin at once here, one, and elsewhere the last to write, has
    it when both look again."""
    data = json.dumps(mine).encode()
    if not storage.is_local(where):
        storage.write_bytes(where, data)
        time.sleep(0.5)
    elif not storage.create_local(where, data):
        there = _read(where)
        if not (there and _lives(where, there)):  # what a dead one, or a cut one, left
            with suppress(FileNotFoundError):  # another one removed it at the same moment
                storage.remove(where)
            storage.create_local(where, data)
            time.sleep(0.2)


def _renew(where: str, mine: dict[str, Any], stop: threading.Event) -> None:
    while not stop.wait(RENEWED):
        with suppress(Exception):  # storage may be away for a while
            mine["sign"] += 1
            storage.write_json(where, mine)


def refuse_two(output: str, *, but: str | None = None) -> None:
    """End a second driver of an output; ``but`` is the token of this one's own sign.

    The sign of a driver that is gone is removed: to find that out may take :data:`GONE` seconds,
    and a job looks more than once.

    Raises:
        UserError: when another one is at work.
    """
    where = sign_uri(output)
    there = _read(where)
    if not there or (but and there.get("token") == but):
        return
    if not _lives(where, there):
        if _read(where) == there:
            with suppress(FileNotFoundError):  # another one removed it at the same moment
                storage.remove(where)
        return
    raise UserError(
        f"{output} is worked on by process {there.get('pid')} on {there.get('host')}, since "
        f"{there.get('since')}. Two drivers would undo each other's work: wait for it, stop it, or "
        f"give another --output. If it is gone for certain, remove {where}"
    )


def _read(where: str) -> dict[str, Any]:
    try:
        return dict(storage.read_json(where))
    except (
        FileNotFoundError,
        NotADirectoryError,
        ValueError,
        TypeError,
    ):  # being written, or cut: it is renewed
        return {}


def _lives(where: str, there: dict[str, Any]) -> bool:
    if there.get("host") == socket.gethostname():
        try:
            process = psutil.Process(int(there["pid"]))
            if process.status() == psutil.STATUS_ZOMBIE:  # killed, and not waited for
                return False
            began = process.create_time()
        except (psutil.Error, KeyError, ValueError):
            return False
        return bool(abs(began - float(there.get("began", 0))) < 1.0)
    say(f"{there.get('host')} has worked on this output: looking for {GONE:.0f} s whether it still "
        "does", error=True)  # fmt: skip
    until = time.monotonic() + GONE
    while time.monotonic() < until:
        now = _read(where)
        if not now:
            return False
        if now != there:
            return True
        time.sleep(min(5.0, GONE / 10))
    return False
