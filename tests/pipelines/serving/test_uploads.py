"""Bodies: read with limits, and not looked into by the loop that answers everybody."""

import asyncio
import time

import pytest
from fastapi import Request

from pipelines.serving.decoding.forms import Upload
from pipelines.serving.refused import Refused
from pipelines.serving.uploads import read_upload

LIMIT = 1_000_000


def read(chunks, kind, timeout_s=30.0, **headers):
    """What :func:`read_upload` makes of chunks that come one after the other."""
    left = list(chunks)

    async def receive():
        if not left:
            await asyncio.sleep(60)
        body = left.pop(0)
        return {"type": "http.request", "body": body, "more_body": body != b""}

    pairs = [(b"content-type", kind.encode())]
    pairs += [(name.encode(), value.encode()) for name, value in headers.items()]
    request = Request({"type": "http", "method": "POST", "headers": pairs}, receive)
    return asyncio.run(read_upload(request, ["PNG"], max_bytes=LIMIT, timeout_s=timeout_s))


def test_a_body_comes_as_it_was_sent():
    assert read([b"a", b"bc", b""], "image/PNG; x=y") == Upload(b"abc")
    kind = "multipart/form-data; boundary=x; charset=punycode"
    assert read([b"--x", b"--", b""], kind) == Upload(b"--x--", kind)


@pytest.mark.parametrize(
    ("status", "chunks", "kind", "options"),
    [(413, [bytes(LIMIT), b"a", b""], "image/png", {}),
     (413, [], "image/png", {"content-length": "9" * 5000}),
     (415, [], "text/plain", {}), (415, [], "", {}),
     (408, [b"a"], "image/png", {"timeout_s": 0.05})],
)  # fmt: skip
def test_what_is_too_long_too_late_or_of_another_type_is_refused(status, chunks, kind, options):
    with pytest.raises(Refused) as caught:
        read(chunks, kind, **options)
    assert caught.value.status == status


def test_what_a_form_says_costs_the_loop_nothing():
    field = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + b"a" * 900_000
    start = time.process_time()
    upload = read([field, b""], "multipart/form-data; boundary=x; charset=punycode")
    assert time.process_time() - start < 1  # decoded, it was 20
    with pytest.raises(Refused, match="UTF-8"):
        upload.file()
    upload = Upload(field + b"\r\n--x--\r\n", "multipart/form-data; boundary=x")
    with pytest.raises(Refused, match="exceeded maximum size"):
        upload.file()


def test_a_form_has_one_file():
    part = b'--x\r\nContent-Disposition: form-data; name="f"; filename="../a"\r\n\r\nabc\r\n'
    kind = 'multipart/form-data; boundary=x; charset="UTF-8"'
    assert Upload(part + b"--x--\r\n", kind).file() == b"abc"
    for body, reason in ((b"--x--\r\n", "no file"), (part * 2 + b"--x--", "Too many files")):
        with pytest.raises(Refused, match=reason):
            Upload(body, kind).file()
