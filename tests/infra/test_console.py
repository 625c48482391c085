"""The console shows what is for people, and loses nothing that is."""

import subprocess
import sys
from pathlib import Path

import pytest

from infra import console

ROOT = Path(__file__).parents[2]
CYAN, RESET = "\x1b[36m", "\x1b[0m"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("encode train:  50%|█", "encode train:  50%|█"),
        (f"{CYAN}(RayTrainWorker pid=7){RESET} semflow: step 5/10", "step 5/10"),
        (f"{CYAN}(RayTrainWorker pid=7, ip=10.0.0.2){RESET} semflow: step 5 [repeated 2x]",
         "step 5 [repeated 2x]"),
        (f"{CYAN}(TrainController pid=7){RESET} Requesting resources: {{'CPU': 0.5}} * 1", None),
        ("(MapWorker(MapBatches(_Shard)) pid=9) UserWarning: not writable", None),
        ("(pid=9) E core_worker.cc", None),
        (f"{CYAN}(ServeReplica:semflow:Service pid=9){RESET} ERROR at /segment",
         f"{CYAN}(ServeReplica:semflow:Service pid=9){RESET} ERROR at /segment"),
        ("\x1b[33m(raylet)\x1b[0m 1 Workers killed due to memory pressure (OOM)",
         "\x1b[33m(raylet)\x1b[0m 1 Workers killed due to memory pressure (OOM)"),
        ("(autoscaler +3s) Error: no node can take {'GPU': 1.0}",
         "(autoscaler +3s) Error: no node can take {'GPU': 1.0}"),
        ("error: no model at pid=3", "error: no model at pid=3"),
    ],
)  # fmt: skip
def test_workers_lines_are_shown_if_they_are_for_people(line, shown):
    assert console.for_people(line) == shown


PROGRAM = """
import os, sys
from infra import console
console.quieten()
console.say("a result")
console.say("warning: act on it", error=True)
print("(TrainController pid=1) noise", file=sys.stderr)
print("kept", end="", file=sys.stderr)
print(" whole", file=sys.stderr)
os.write(2, b"[E 1 1] core_worker.cc:1: Actor has constructor arguments in the object store\\n")
os.write(2, b"another line of C\\n")
"""


@pytest.mark.parametrize("verbose", ["", "1"])
def test_of_what_c_writes_only_the_red_herring_is_hidden(verbose):
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True,
        env={console.VERBOSE: verbose},
    )  # fmt: skip
    if verbose:
        assert result.stdout == "semflow: a result\n"
        assert "core_worker.cc" in result.stderr
        assert "TrainController" in result.stderr
        return
    assert result.stdout == "a result\n"
    said = sorted(result.stderr.splitlines())  # C's lines come by another thread
    assert said == ["another line of C", "kept whole", "warning: act on it"]
