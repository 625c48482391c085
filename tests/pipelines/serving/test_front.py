"""Connections that keep a server waiting are closed; others are not."""

import asyncio
import contextlib
import socket

import pytest
import uvicorn
from uvicorn.protocols.http import auto

from pipelines.serving import front

MUCH = bytes(40_000_000)
LOOK_S = 1.0


async def app(scope, receive, send):
    """Much at /much; a word at / once the body is there."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send(
        {"type": "http.response.body", "body": MUCH if scope["path"] == "/much" else b"word"}
    )


@pytest.fixture
def serving(monkeypatch):
    """A server of :func:`app` with the proxy's limits, and what one connects to."""
    monkeypatch.setattr(front, "WAIT_S", LOOK_S)
    monkeypatch.setattr(auto, "AutoHTTPProtocol", auto.AutoHTTPProtocol)
    assert [one.cls.__name__ for one in front.limits()] == ["Nosniff"]
    front.limits()  # twice is once

    @contextlib.asynccontextmanager
    async def served():
        with socket.socket() as place:
            place.bind(("127.0.0.1", 0))
            config = uvicorn.Config(app, log_level="critical", lifespan="off")
            server = uvicorn.Server(config)
            task = asyncio.ensure_future(server.serve(sockets=[place]))
            while not server.started:
                await asyncio.sleep(0.01)
            try:
                yield server, place.getsockname()
            finally:
                server.should_exit = server.force_exit = True
                await task

    return served


async def closed(reader):
    with contextlib.suppress(ConnectionError):
        while await asyncio.wait_for(reader.read(2**20), 30):
            pass
    return True


def test_who_never_ends_a_request_or_never_reads_is_let_go(serving):
    async def main():
        async with serving() as (server, place):
            sent = [b"", b"GET /", b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHo"] * 100
            ends = [await asyncio.open_connection(*place) for _ in sent]
            for (_, writer), text in zip(ends, sent, strict=True):
                writer.write(text)
            deaf = []
            for _ in range(4):
                one = socket.create_connection(place)
                one.sendall(b"GET /much HTTP/1.1\r\nHost: a\r\n\r\n")
                deaf.append(one)
            assert all(await asyncio.gather(*(closed(reader) for reader, _ in ends)))
            for _ in range(600):
                if not server.server_state.connections:
                    break
                await asyncio.sleep(0.05)
            assert not server.server_state.connections
            for one in deaf:
                one.close()

    asyncio.run(main())


def test_who_sends_a_body_or_reads_slowly_is_kept(serving):
    async def main():
        async with serving() as (_, place):
            reader, writer = await asyncio.open_connection(*place)
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\n")
            other, asking = await asyncio.open_connection(*place, limit=2**16)
            asking.write(b"GET /much HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            read = 0
            for _ in range(40):  # several looks
                writer.write(b".")
                await asyncio.sleep(LOOK_S / 10)
                read += len(await other.readexactly(500_000))
            assert b"200 OK" in await asyncio.wait_for(reader.readline(), 30)
            rest = await asyncio.wait_for(other.read(), 30)
            assert read + len(rest) > len(MUCH)

    asyncio.run(main())
