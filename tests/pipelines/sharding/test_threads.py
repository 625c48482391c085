"""Decoding side by side: in order, and never far ahead of who asks."""

import threading
import time

import pytest

from pipelines.sharding.threads import THREADS, ahead, side_by_side, threads_for


def test_rows_come_in_order_and_are_decoded_at_the_same_time():
    gate = threading.Barrier(4, timeout=10)  # passes only if four are decoded at once

    def decode(row):
        if row["n"] < 4:  # later ones could wait for rows that are only read once these are done
            gate.wait()
        return row["n"]

    assert list(side_by_side(decode, ({"n": n} for n in range(40)))) == list(range(40))


def test_no_more_is_read_than_there_is_room_for():
    taken = []

    def rows():
        for n in range(1000):
            taken.append(n)
            yield {"n": n}

    decoded = side_by_side(lambda row: row["n"], rows())
    assert next(decoded) == 0
    time.sleep(0.1)
    assert len(taken) <= 2 * THREADS + 1
    decoded.close()


@pytest.mark.parametrize("threads", [1, THREADS])
def test_an_error_reaches_whoever_asks(threads):
    def decode(row):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        list(side_by_side(decode, [{"n": 0}], threads))


def test_one_thread_is_the_callers_own():
    here = threading.get_ident()
    assert set(side_by_side(lambda _: threading.get_ident(), range(5), 1)) == {here}


def test_local_files_without_a_gpu_wait_for_nobody():
    assert threads_for("/data/photos", 0) == threads_for("file:///data", 0) == 1
    assert threads_for("/data/photos", 1) == threads_for("s3://bucket/photos", 0) == THREADS


def test_the_next_one_is_made_while_one_is_looked_at():
    made = threading.Semaphore(0)

    def items():
        for n in range(4):
            yield n
            made.release()

    found = []
    for n in ahead(items()):
        found.append(n)
        assert made.acquire(timeout=10)  # nobody asked for the next one yet
    assert found == [0, 1, 2, 3]


def test_what_fails_ahead_fails_in_its_turn():
    def items():
        yield 1
        raise RuntimeError("a bug")

    looked_at = ahead(items())
    assert next(looked_at) == 1
    with pytest.raises(RuntimeError, match="a bug"):
        next(looked_at)
