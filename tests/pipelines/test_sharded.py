"""Decoding side by side: in order, and never far ahead of who asks."""

import threading
import time

import pytest

from pipelines.sharded import DECODE_THREADS, side_by_side


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
    assert len(taken) <= 2 * DECODE_THREADS + 1
    decoded.close()


def test_an_error_reaches_whoever_asks():
    def decode(row):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        list(side_by_side(decode, [{"n": 0}]))
