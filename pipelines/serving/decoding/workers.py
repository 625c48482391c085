"""Decoders at work: two lanes, one for what is quick, one for what turns out not to be.

Every job is tried in the quick lane, for a fraction of a second; what takes longer, or is larger by
its header, goes on in the slow lane and never keeps small pictures waiting. Pictures are decoded
nowhere else, so that what the lanes may take is all the memory that they take.
"""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pipelines.serving.decoding import frames
from pipelines.serving.decoding.jobs import QUICK_PIXELS, Answer, Job
from pipelines.serving.refused import Refused

QUICK_S, SLOW_S = 0.2, 10.0
"""Seconds of a processor that a job may take in each lane."""
STALL_S = 120.0
"""Seconds on the clock after which a decoder is taken for dead: a busy machine gives it less than a
processor."""
PIXEL_BYTES = 32
"""Most memory a pixel that decoding takes (16-bit grey, on its way to RGB)."""
MODULE = "pipelines.serving.decoding.decoder"
KEPT = ("PATH", "LANG", "LC_ALL", "TZ")
"""Of the environment: a process that reads files of strangers gets no keys of storage."""


class Decoder:
    """A process for one job at a time; one that was ended is started again."""

    def __init__(self, memory: int, niceness: int) -> None:
        """Start a process whose jobs may take ``memory`` bytes."""
        self._arguments = [sys.executable, "-m", MODULE, str(niceness), str(memory)]
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        path = os.pathsep.join(filter(None, sys.path))
        threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            self._arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
            env=kept | threads | {"PYTHONPATH": path}, start_new_session=True,
        )  # fmt: skip

    def run(self, job: Job, quick: bool, seconds: float, arguments: tuple[Any, ...]) -> Answer:
        """What a job answers; ``{"slow": True}`` where it was ended. Blocks."""
        if self._process.poll() is not None:
            self._process = self._start()
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            message = pickle.dumps((job, quick, seconds, arguments), pickle.HIGHEST_PROTOCOL)
            frames.write(process.stdin.fileno(), message)
            del message
            pipe, until = process.stdout.fileno(), time.monotonic() + STALL_S
            return json.loads(frames.read(pipe, until)), frames.read(pipe, until)
        except (OSError, EOFError):  # TimeoutError is one of them
            self.end()
            return {"slow": True}, b""

    def end(self) -> None:
        """End the process with what it does, from any thread."""
        process = self._process
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def close(self) -> None:
        """End the process, and its pipes."""
        self.end()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


@dataclass
class Lane:
    """Decoders side by side; who comes when all are busy waits in turn."""

    quick: bool
    decoders: list[Decoder]
    free: asyncio.Semaphore = field(init=False)
    threads: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self.free = asyncio.Semaphore(len(self.decoders))
        self.idle = list(self.decoders)
        self.threads = ThreadPoolExecutor(len(self.decoders), "decoder")

    async def run(self, job: Job, arguments: tuple[Any, ...]) -> Answer:
        """What a job answers. A decoder is given back when its work ends, not when one who asked
        for it does; slow work that nobody waits for is ended."""
        await self.free.acquire()
        decoder, loop = self.idle.pop(), asyncio.get_running_loop()
        seconds = QUICK_S if self.quick else SLOW_S
        work = loop.run_in_executor(self.threads, decoder.run, job, self.quick, seconds, arguments)

        def given_back(_: asyncio.Future[Answer]) -> None:
            self.idle.append(decoder)
            self.free.release()

        work.add_done_callback(given_back)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            if not self.quick:  # to start a process again takes about what quick work may
                decoder.end()
            raise


class Decoders:
    """What a replica has pictures decoded and encoded by."""

    def __init__(self, cores: int, max_pixels: int, max_bytes: int) -> None:
        """A quick decoder for each of ``cores`` and a slow one for every four; a slow one has
        memory for a picture of ``max_pixels`` in a body of ``max_bytes``."""
        extra = 6 * max_bytes + 2**26  # the body, its pickle and parts of a form; heaps
        self.quick = Lane(True, [
            Decoder(PIXEL_BYTES * min(max_pixels, QUICK_PIXELS) + extra, 0) for _ in range(cores)
        ])  # fmt: skip
        self.slow = Lane(False, [
            Decoder(PIXEL_BYTES * max_pixels + extra, 5) for _ in range(max(1, cores // 4))
        ])  # fmt: skip

    async def run(self, job: Job, *arguments: Any) -> Answer:
        """What a job of :mod:`~pipelines.serving.decoding.jobs` answers, from either lane.

        Raises:
            Refused: as the job does; 413 when the slow lane, too, had to end it.
            RuntimeError: for anything else that the job raised.
        """
        info: dict[str, Any] = {}
        for lane in (self.quick, self.slow):
            info, data = await lane.run(job, arguments)
            if "refused" in info:
                raise Refused(*info["refused"])
            if "failed" in info:
                raise RuntimeError(f"{job.__name__}: {info['failed']}")
            if "slow" not in info:
                return info, data
        raise Refused(413, f"the picture takes more than {SLOW_S:g} seconds of a processor, or "
                           "more memory than one may: send a smaller or simpler one")  # fmt: skip

    def close(self) -> None:
        """End all of them."""
        for lane in (self.quick, self.slow):
            for decoder in lane.decoders:
                decoder.close()
            lane.threads.shutdown(wait=False)
