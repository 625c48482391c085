"""Whose pages may ask, and what every answer says."""

import asyncio
import contextlib

import pytest

from pipelines.serving import endpoints
from pipelines.serving.guard import Guard, Nosniff


async def nothing():
    return {"type": "http.request", "body": b"", "more_body": False}


def ask(app, path="/there", **headers):
    """Status, headers and body of an answer."""
    said = []

    async def send(message):
        said.append(message)

    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {
        "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "root_path": "",
        "query_string": b"", "headers": pairs, "scheme": "http", "http_version": "1.1",
        "server": ("127.0.0.1", 8000), "client": ("127.0.0.1", 1),
    }  # fmt: skip
    with contextlib.suppress(ZeroDivisionError):  # Starlette answers, and hands it to the log
        asyncio.run(app(scope, nothing, send))
    return said[0]["status"], dict(said[0]["headers"]), said[1]["body"]


def service(*hosts):
    web = endpoints.application(hosts)

    def broken():
        raise ZeroDivisionError

    web.add_api_route("/there", lambda: "yes")
    web.add_api_route("/broken", broken)
    return web


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8000", "localhost", "LOCALHOST:80", "[::1]:8000", "10.0.0.7", "a.localhost:1",
     "model.example.org", "one.gate.org:443"],
)  # fmt: skip
def test_addresses_the_loopback_and_given_names_are_answered(host):
    web = service("Model.example.org", "*.gate.org")
    assert ask(web, host=host)[0] == 200
    assert ask(web, host=host, origin=f"http://{host}")[0] == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "evil.example:8000", "",
     "[::1", "gate.org", "evilgate.org", "127.0.0.1@evil.example", "model.example.org.evil"],
)  # fmt: skip
def test_names_that_were_made_to_mean_this_machine_are_not(host):
    status, _, body = ask(service("model.example.org", "*.gate.org"), host=host)
    assert status == 421
    assert b"--allow-host" in body


def test_a_request_without_a_host_is_for_nobody():
    assert ask(service())[0] == 421


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://localhost:3000", "http://127.0.0.1:80", "http://[", "",
     "file://"],
)  # fmt: skip
def test_pages_of_others_are_refused_whatever_hosts_there_are(origin):
    for web in (service(), service("*")):
        assert ask(web, host="127.0.0.1:8000", origin=origin)[0] == 403


def test_a_gate_that_has_another_name_is_given_by_name():
    web = service("model.example.org")
    assert ask(web, host="10.0.0.7:8000", origin="https://model.example.org")[0] == 200


def test_no_answer_is_taken_for_another_type():
    web = service()
    asked = [
        ask(web, host="localhost"), ask(web, "/none", host="localhost"), ask(web, host="evil"),
        ask(web, "/broken", host="localhost"), ask(web, host="localhost", origin="null"),
        ask(Nosniff(Guard(web)), host="localhost"),
    ]  # fmt: skip
    assert [status for status, *_ in asked] == [200, 404, 421, 500, 403, 200]
    for _, headers, _ in asked:
        assert headers[b"x-content-type-options"] == b"nosniff"
