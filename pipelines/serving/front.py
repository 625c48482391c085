"""Connections of Serve's proxy: how long one may keep it waiting.

The proxy has limits for requests, and none for those who never finish one, or never read what they
are answered: each stays with its memory for good. ``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`` in
the environment of the proxy is Serve's way to a function that the proxy calls as it starts; with
:data:`PATH` there, uvicorn's connections are those of :func:`patient`.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from starlette.middleware import Middleware
from uvicorn.protocols.http import auto

from pipelines.serving.guard import Nosniff

VARIABLE = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
PATH = "pipelines.serving.front.limits"
WAIT_S = 15.0
"""How often a connection is looked at; one that has not moved since the last time is closed."""
READ_BYTES = 2**18
"""Least that is read of an answer from one look to the next."""


def use() -> None:
    """Have a Ray that is started from here limit its proxies' connections."""
    os.environ.setdefault(VARIABLE, PATH)


def limits() -> list[Middleware]:
    """What the proxy calls: its connections get limits, its own answers ``nosniff``."""
    if not issubclass(auto.AutoHTTPProtocol, _Patient):
        auto.AutoHTTPProtocol = patient(auto.AutoHTTPProtocol)
    return [Middleware(Nosniff)]


class _Patient:
    """A mark."""


def patient(protocol: type[Any]) -> type[Any]:
    """A protocol of uvicorn's whose connections end when they keep waiting.

    Between two looks, :data:`WAIT_S` apart, a connection finishes the header of a request, or has
    one answered, or reads :data:`READ_BYTES` of an answer; else it is closed.
    """

    class Patient(_Patient, protocol):  # type: ignore[misc]
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._seen: tuple[object, int] = (None, 0)
            self._look = self.loop.call_later(WAIT_S, self._looked)

        def connection_lost(self, error: Exception | None) -> None:
            self._look.cancel()
            super().connection_lost(error)

        def _looked(self) -> None:
            cycle, waiting = self.cycle, self.transport.get_write_buffer_size()
            before, waited = self._seen
            if waiting:
                kept = cycle is before and waited > 0 and waiting > waited - READ_BYTES
            else:
                kept = (cycle is None or cycle.response_complete) and cycle is before
            if kept:
                self.transport.abort()  # to close it would wait for whoever does not read
                return
            self._seen = cycle, waiting
            self._look = self.loop.call_later(WAIT_S, self._looked)

    return Patient
