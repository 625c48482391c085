"""The fresh process that writes a library's data or times one epoch of its reader.

    python -m tests.benchmarks.measure '{"do": "read", "name": "litdata", ...}' ANSWER.json

reading.py starts it. The answer goes to a file, since libraries print.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from typing import Any

import psutil
import torch

from tests.benchmarks import readers
from tests.benchmarks.synthetic import Batch, Check, Shape, Truth


def versions() -> dict[str, str]:
    """What is installed, by library."""
    return {name: library.version() for name, library in readers.LIBRARIES.items()}


def read(name: str, work: readers.Work, truth: str) -> dict[str, Any]:
    """Time one epoch; with the path of a truth, check it instead.

    Imports stand before the clock, since a training program has paid for them; the processes that
    a reader starts to read do not.
    """
    library = readers.LIBRARIES[name]
    library.version()
    check = Check(Truth.load(truth)) if truth else None
    at, rows = [], []  # of each batch
    spent, begin = cpu_seconds(), time.perf_counter()
    for batch in library.read(work):
        at.append(time.perf_counter() - begin)
        rows.append(len(batch["ids"]))
        if len(rows) == 1:
            require(batch, work.shape)
        if check:
            check.add(batch)
    seconds = time.perf_counter() - begin
    return {
        "wrong": check.verdict() if check else "",
        "rows": sum(rows),
        "first": at[0],
        "rate": sum(rows) / seconds,
        "steady": sum(rows[1:]) / (seconds - at[0]),
        "cpu": (cpu_seconds() - spent) / sum(rows),
    }


def require(batch: Batch, shape: Shape) -> None:
    """Every reader has to come to the same tensors.

    Raises:
        ValueError: when these are others.
    """
    due = {
        "x_0": (torch.float32, shape.latent),
        "x_1": (torch.float16, shape.latent),
        "ids": (torch.uint8, shape.mask),
    }
    given = {name: (batch[name].dtype, tuple(batch[name].shape[1:])) for name in due}
    if given != due:
        raise ValueError(f"a batch is {given}, due is {due}")


def cpu_seconds() -> float:
    """Of this process and of all below it, those that have ended too."""
    process, total = psutil.Process(), 0.0
    for each in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):  # it ended just now: its parent's children_* has it
            times = each.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def main() -> None:
    task, answer = json.loads(sys.argv[1]), sys.argv[2]
    do = task.pop("do")
    if "shape" in task:
        task["shape"] = Shape(**task["shape"])
    result: Any = None
    if do == "versions":
        result = versions()
    elif do == "write":
        readers.WRITERS[task["data"]](task["shape"], task["folder"])
    elif do == "truth":
        Truth.of(task["shape"]).save(task["path"])
    else:
        name, truth = task.pop("name"), task.pop("truth")
        result = read(name, readers.Work(**task), truth)
    with open(answer, "w") as file:
        json.dump(result, file)


if __name__ == "__main__":
    main()
