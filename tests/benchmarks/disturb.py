"""A command that is started, killed at random moments, and started again."""

from __future__ import annotations

import os
import random
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil

from infra import storage


class Job:
    """A command, and its processes."""

    def __init__(
        self, command: list[str], output: str, environment: dict[str, str], log: Path,
        worker: str = "ray::",
    ) -> None:  # fmt: skip
        """``worker`` is how the titles begin of those that may be killed as one."""
        self.command, self.output, self.log, self.worker = command, output, log, worker
        self.environment = os.environ | environment
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, cwd=self.log.parent, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def ended(self) -> bool:
        assert self.process
        return self.process.poll() is not None

    def family(self) -> list[psutil.Process]:
        """All that the command started, without itself."""
        assert self.process
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def workers(self) -> list[psutil.Process]:
        """Ray workers that are at work; the idle ones would be no loss."""
        return [
            p for p in self.family()
            if _title(p).startswith(self.worker) and "IDLE" not in _title(p)
        ]  # fmt: skip

    def wait(self, timeout: float) -> int:
        assert self.process
        return self.process.wait(timeout)


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def disturb(kind: str, job: Job, rng: random.Random) -> bool:
    """One kill; whether there was something to kill."""
    assert job.process
    if kind == "driver":
        job.process.kill()
        job.wait(30)
    elif kind == "worker":
        if not (workers := job.workers()):
            return False
        kill([rng.choice(workers)])
    elif kind == "node":
        if not (family := job.family()):
            return False
        kill(family)
        try:
            job.wait(10)
        except subprocess.TimeoutExpired:  # Ray's driver gives its control store a minute
            job.process.kill()
    return True


def torment(kind: str, job: Job, kills: int, length: float, rng: random.Random) -> dict[str, Any]:
    """Start and disturb until it was disturbed often enough and is finished."""
    done, starts = 0, 0
    while True:
        job.start()
        starts, started = starts + 1, time.monotonic()
        while not job.ended() and done < kills:
            try:
                job.wait(rng.uniform(0.5, length))
            except subprocess.TimeoutExpired:
                if disturb(kind, job, rng):
                    done += 1
                    print(f"  {kind}: kill {done} of {kills}", flush=True)
        if job.wait(900):
            continue
        if done == kills:
            return {"kills": done, "starts": starts}
        length = min(length, time.monotonic() - started)
        storage.remove(job.output)  # too early: the rest of the kills hit another encode
