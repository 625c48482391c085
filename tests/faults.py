"""A proxy before an S3 server that answers some requests with 500 or 503, as busy stores do."""

from __future__ import annotations

import http.client
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HOP = {"connection", "keep-alive", "transfer-encoding"}
FAULTS = [(500, "InternalError"), (503, "SlowDown")]


class FaultyProxy:
    """Forwards to ``127.0.0.1:port``; the next ``due`` requests and ``share`` of the rest fail."""

    def __init__(self, port: int, share: float = 0.0, seed: int = 0) -> None:
        self.upstream, self.share, self.due, self.seen, self.failed = port, share, 0, 0, 0
        self.random, self.lock = random.Random(seed), threading.Lock()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def fault(self) -> tuple[int, str] | None:
        """What to answer instead of the server, if anything."""
        with self.lock:
            self.seen += 1
            if not self.due and self.random.random() >= self.share:
                return None
            self.due = max(0, self.due - 1)
            self.failed += 1
            return FAULTS[self.failed % 2]

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    proxy: FaultyProxy
    protocol_version = "HTTP/1.1"

    def handle_one(self) -> None:
        chunked = self.headers.get("Transfer-Encoding", "").lower() == "chunked"  # pyarrow's SDK
        body = (
            self.chunks()
            if chunked
            else self.rfile.read(int(self.headers.get("Content-Length", 0)))
        )
        if fault := self.proxy.fault():
            status, code = fault
            text = f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
            self.answer(status, {"Content-Type": "application/xml"}, text)
            return
        # A signature covers the Host header: it goes on as the client wrote it.
        server = http.client.HTTPConnection("127.0.0.1", self.proxy.upstream, timeout=60)
        try:
            server.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                server.putheader(name, value)
            server.endheaders([body] if chunked else body, encode_chunked=chunked)
            response = server.getresponse()
            data = response.read()
        except (OSError, http.client.HTTPException):  # the server is away: so is this
            self.close_connection = True
            return
        finally:
            server.close()
        kept = {k: v for k, v in response.headers.items() if k.lower() not in HOP}
        self.answer(response.status, kept, data)

    def chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():  # trailers
            pass
        return body

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_one  # noqa: N815

    def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() != "content-length" or self.command == "HEAD":
                self.send_header(name, value)
        if self.command != "HEAD" and status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass
