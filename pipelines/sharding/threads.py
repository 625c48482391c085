"""Work on threads, in order: storage makes one wait, and decoders free Python's lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar, cast

from infra import storage

T = TypeVar("T")
Item = TypeVar("Item")

THREADS = 8


def side_by_side(
    function: Callable[[Item], T], items: Iterable[Item], threads: int = THREADS
) -> Iterator[T]:
    """``map`` on threads, in order and a few ahead: storage makes one wait, decoders free the lock.

    Unlike an executor's own ``map``, it takes no more items than it has room for. With one thread
    it is ``map``.
    """
    if threads == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[T]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def threads_for(uri: str, gpus: float) -> int:
    """How many files to read or write at once in a process, where they are at ``uri``.

    Several where storage makes one wait, or a GPU does. Local files are work for cores that have an
    actor each: threads that take turns with Python's lock took twice the time for small ones.
    """
    return 1 if storage.is_local(uri) and not gpus else THREADS


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same, with the next one being made on a thread while one is looked at."""
    end = object()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, items, end)
        while (item := waiting.result()) is not end:
            waiting = pool.submit(next, items, end)
            yield cast(T, item)
