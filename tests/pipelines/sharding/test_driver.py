"""Two drivers on one output: the first works, the second says who does; the dead are followed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import IO

import pytest

from infra import storage
from pipelines.config import UserError
from pipelines.sharding import claim, driver

HOLDS = """
import sys, time
from pipelines.sharding import driver
with driver.at_work(sys.argv[1]):
    print("holds", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that works on the output."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "holds\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_driver_is_told_of_the_first_and_follows_it_when_it_was_killed(other, tmp_path):
    for begin in (
        lambda: claim.start(str(tmp_path), "one", None),
        lambda: driver.at_work(str(tmp_path)).__enter__(),
    ):
        with pytest.raises(UserError, match=rf"worked on by process {other.pid} on .*, since 2"):
            begin()
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    with driver.at_work(str(tmp_path)):
        claim_there = storage.read_json(driver.sign_uri(str(tmp_path)))
        assert claim_there["pid"] == os.getpid()
    assert not storage.exists(driver.sign_uri(str(tmp_path)))


def test_a_process_that_has_the_number_of_a_dead_one_is_another(tmp_path):
    note = {"host": driver.socket.gethostname(), "pid": os.getpid(), "began": 1.0}
    storage.write_json(driver.sign_uri(str(tmp_path)), note)
    driver.refuse_two(str(tmp_path))


def test_another_machine_lives_while_its_sign_is_renewed(tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "GONE", 1.0)
    where = driver.sign_uri(str(tmp_path))
    storage.write_json(where, {"host": "elsewhere", "pid": 7, "since": "then", "sign": 1})
    driver.refuse_two(str(tmp_path))  # no other sign within the time: it is gone
    assert not storage.exists(where)  # so that the next look does not wait again
    storage.write_json(where, {"host": "elsewhere", "pid": 7, "since": "then", "sign": 1})
    monkeypatch.setattr(driver, "GONE", 30.0)
    renew = threading.Timer(
        0.3, storage.write_json, (where, {"host": "elsewhere", "pid": 7, "sign": 2})
    )
    renew.start()
    with pytest.raises(UserError, match="process 7 on elsewhere"):
        driver.refuse_two(str(tmp_path))
    renew.join()


@pytest.mark.parametrize("left", [b"", b'{"host', b"[]", b"{}"])
def test_a_sign_that_was_cut_stops_nobody(tmp_path, left):
    storage.write_bytes(driver.sign_uri(str(tmp_path)), left)
    with driver.at_work(str(tmp_path)):
        pass


AT_ONCE = """
import sys, time
from pipelines.config import UserError
from pipelines.sharding import driver
print("ready", flush=True)
time.sleep(max(0, float(sys.stdin.readline()) - time.time()))
try:
    with driver.at_work(sys.argv[1]):
        print("worked", flush=True)
        sys.stdin.readline()
except UserError:
    print("told", flush=True)
"""


@pytest.mark.parametrize("left", [None, b'{"host": "dead"}'])
def test_of_two_that_begin_at_the_same_moment_one_works(tmp_path, left):
    if left:
        note = json.dumps({"host": driver.socket.gethostname(), "pid": 2**22 + 1, "began": 0.0})
        storage.write_bytes(driver.sign_uri(str(tmp_path)), note.encode())
    both = [
        subprocess.Popen([sys.executable, "-c", AT_ONCE, str(tmp_path)], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True, bufsize=1)
        for _ in range(2)
    ]  # fmt: skip
    try:
        assert [lines(process).readline() for process in both] == ["ready\n"] * 2
        at = f"{time.time() + 0.5}\n"
        for process in both:
            assert process.stdin is not None
            process.stdin.write(at)
        assert sorted(lines(process).readline() for process in both) == ["told\n", "worked\n"]
    finally:
        for process in both:
            process.kill()
            process.wait()


def lines(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdout is not None
    return process.stdout
