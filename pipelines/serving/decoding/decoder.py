"""The process that decodes and encodes pictures, apart from the service so that it can be ended.

    python -m pipelines.serving.decoding.decoder NICENESS MEMORY

takes jobs from its input and answers at its output until the input ends. Each job runs in a child,
which the kernel ends when the job has had the processor for longer than it may, whatever it does;
the next child is a fork, made in a millisecond. MEMORY is how many bytes a child may take beyond
what it starts with.

A job is a pickle from the service alone: ``(job, quick, seconds, arguments)``. An answer is two
messages, JSON and bytes; nothing that comes from here is unpickled.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import signal
import sys
from typing import Any

from PIL import Image

from pipelines.serving.decoding import frames
from pipelines.serving.decoding.jobs import Answer, Job
from pipelines.serving.decoding.pictures import Slow
from pipelines.serving.refused import Refused

JOBS, ANSWERS = 0, 1
"""The file descriptors."""
SLOW: Answer = ({"slow": True}, b"")
"""Too much of something: time, pixels or memory."""


def _send(answer: Answer) -> None:
    frames.write(ANSWERS, json.dumps(answer[0]).encode())
    frames.write(ANSWERS, answer[1])


def _done(job: Job, quick: bool, seconds: float, arguments: tuple[Any, ...]) -> Answer:
    signal.setitimer(signal.ITIMER_PROF, seconds)  # of the processor, so that a busy machine may be
    try:
        return job(quick, *arguments)
    except (Slow, MemoryError):
        return SLOW
    except Refused as error:
        return {"refused": [error.status, error.reason]}, b""
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}"}, b""
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _work(memory: int) -> None:
    with open("/proc/self/statm") as file:
        held = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + memory, held + memory))
    while True:
        try:
            message = frames.read(JOBS)
        except EOFError:
            return
        job, quick, seconds, arguments = pickle.loads(message)
        del message
        answer = _done(job, quick, seconds, arguments)
        del arguments
        _send(answer)


def main() -> None:
    niceness, memory = map(int, sys.argv[1:])
    os.nice(niceness)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the service's, which closes the input
    Image.init()  # Pillow's plugins, once for all children
    while True:
        child = os.fork()
        if not child:
            _work(memory)
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            return
        try:  # what it read was one job, and it had not answered
            _send(SLOW)
        except BrokenPipeError:
            return


if __name__ == "__main__":
    main()
