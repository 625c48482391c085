"""Whose pages may ask: a service without passwords must not answer every page of the web.

A browser lets any page send a photo to ``127.0.0.1``, and lets it read the answers, too, once the
page's own name has been made to mean ``127.0.0.1``. Both are known by what the browser says.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NOSNIFF = {"X-Content-Type-Options": "nosniff"}


def name_of(place: str) -> str | None:
    """Host of ``HOST[:PORT]``, in small letters; None for what is none."""
    try:
        return urlsplit(f"//{place}").hostname
    except ValueError:
        return None


def is_named(host: str, names: Sequence[str]) -> bool:
    """Whether ``names`` has a host; ``*.example.org`` are all below it, ``*`` is any."""
    return any(
        name in ("*", host) or (name.startswith("*.") and host.endswith(name[1:]))
        for name in map(str.lower, names)
    )


def is_fixed(host: str) -> bool:
    """Whether a host is an address or a name of the loopback.

    Nobody can give these away: only other names can be made to mean another machine.
    """
    try:
        ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return True


class Guard:
    """Lets through what is asked of a known host, and by no page of another."""

    def __init__(self, app: ASGIApp, hosts: Sequence[str] = ()) -> None:
        """Guard ``app``; ``hosts`` are names that it has beside the loopback's."""
        self.app, self.hosts = app, tuple(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or one lifespan, of which there is nothing to say."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(Headers(scope=scope))
        await (refusal or self.app)(scope, receive, _unsniffed(send))

    def _refusal(self, headers: Headers) -> JSONResponse | None:
        places = headers.getlist("host")
        host = name_of(places[0]) if len(places) == 1 else None
        if not host or not (is_fixed(host) or is_named(host, self.hosts)):
            reason = (
                f"the request is for {', '.join(places)[:80]!r}, which is no name of this service: "
                "start it with --allow-host NAME, or use its address"
            )
            return JSONResponse({"error": reason}, 421)
        for origin in headers.getlist("origin"):
            if not self._is_own(origin, places[0]):
                reason = f"a page of {origin[:80]!r} asks, and only the service's own may"
                return JSONResponse({"error": reason}, 403)
        return None

    def _is_own(self, origin: str, place: str) -> bool:
        """Whether an origin is this service, as the request or as ``--allow-host`` names it."""
        other = origin.partition("://")[2].lower()
        named = [name for name in self.hosts if name != "*"]  # any host is not any page
        return other == place.lower() or is_named(name_of(other) or "", named)


def _unsniffed(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=list(message.get("headers", [])))
            for name, value in NOSNIFF.items():
                headers.setdefault(name, value)
            message = {**message, "headers": headers.raw}
        await send(message)

    return sent


class Nosniff:
    """Answers of ``app``, none of which is to be taken for another type than it says."""

    def __init__(self, app: ASGIApp) -> None:
        """Answer as ``app`` does."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        await self.app(scope, receive, _unsniffed(send))
