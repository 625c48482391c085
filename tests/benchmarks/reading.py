"""Rows a second of reading latents for training, cold and shuffled: ours beside its peers.

    python -m tests.benchmarks.reading --peers /tmp/peers --output out/reading

writes the same synthetic latents in each library's own format, then reads one shuffled epoch with
each, from the local disk and from a real S3 server on loopback, to the same tensors (readers.py
says which), and prints one table a store. Each measurement is a process of its own, its data
dropped from the page cache and its local copies gone. Measurements are interleaved (A B C A B C);
medians are given, with their range. Before that, every reader is checked to give each row once.

The peers are not needed for anything else and stay out of the environment. They install beside it,
without their dependencies, since torchvision has no build that fits a CPU-only torch; MosaicML
streaming imports it for its vision datasets only, and the last command takes that import away:

    pip install --target /tmp/peers --no-deps mosaicml-streaming==0.13.0 litdata==0.2.76 \\
        webdataset==1.0.2 datasets==5.2.0 transformers tokenizers "boto3==1.43.*" s3transfer dill \\
        multiprocess xxhash lightning-utilities tifffile obstore braceexpand brotli python-snappy \\
        cramjam zstd catalogue
    sed -i '/vision/d' /tmp/peers/streaming/__init__.py

(boto3 has to fit the botocore that s3fs brought.) WebDataset reads S3 with curl. A library that
is not there is reported as not installed.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from infra import storage
from infra.services.s3 import S3Server
from pipelines import config
from pipelines.dataset import latents
from tests.benchmarks.readers import LIBRARIES
from tests.benchmarks.results import report
from tests.benchmarks.synthetic import Shape

ROOT = Path(__file__).parents[2]
Store = Literal["local", "s3"]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What to compare, and with how much data."""

    rows: int = 8192
    """Rows of the dataset; a few thousand at least, or start-up is all that is measured."""
    size: int = 32
    """Side of the latents; the masks' is 8 times that."""
    draws: int = 4
    """Stored draws of a row's mask."""
    masks: Literal["png", "zstd"] = "png"
    """How the peers keep masks: as PNG files, the common way, or through zstd, which decodes
    faster and is what ours does."""
    batch: int = 64
    """Rows a batch."""
    workers: tuple[int, ...] = (0, 1, 2)
    """DataLoader workers to try for each peer; the best is reported."""
    stores: tuple[Store, ...] = ("local", "s3")
    """Where to read from."""
    only: tuple[str, ...] = ()
    """Readers whose name contains one of these; all by default."""
    repeats: int = 3
    """Epochs for each reader, store and number of workers."""
    patience: float = 20
    """Seconds to wait, before each, for other programs to leave the machine alone. What they still
    used is written down."""
    peers: str = ""
    """Folder that the peers were installed in, when not in this environment."""
    data: str = ""
    """Folder to keep the data in and find it again; a temporary one by default."""
    output: str = ""
    """Folder for reading.json and reading.md."""

    @property
    def shape(self) -> Shape:
        return Shape(self.rows, self.size, self.draws, self.masks)

    @property
    def names(self) -> list[str]:
        return [n for n in LIBRARIES if not self.only or any(word in n for word in self.only)]


# --- processes ------------------------------------------------------------------------------------


def run(cfg: Reading, task: dict[str, Any], cache: str, ours: bool, timeout: float = 900) -> Any:
    """Do a task of measure.py in a fresh process; what it answers, or ``{"error": ...}``."""
    answer, log = f"{cache}.json", f"{cache}.log"
    environment = os.environ | {
        "HF_HOME": cache + ".hf",
        "HF_HUB_OFFLINE": "1",
        "S3_ENDPOINT_URL": os.environ.get("AWS_ENDPOINT_URL", ""),  # streaming's own name for it
    }
    if not ours:  # ours is measured in its own environment and no other
        environment["TMPDIR"] = os.path.dirname(cache)  # streaming leaves locks in it
        if cfg.peers:
            environment["PYTHONPATH"] = os.path.abspath(cfg.peers)
    command = [sys.executable, "-m", "tests.benchmarks.measure", json.dumps(task), answer]
    with open(log, "wb") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=out, stderr=out, start_new_session=True
        )
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return {"error": f"no end after {timeout:.0f} s"}
    if code:
        return {"error": last_error(Path(log).read_text(errors="replace"), code)}
    return json.loads(Path(answer).read_text())


def last_error(log: str, code: int) -> str:
    """The line that says what went wrong: a traceback's last, which a dump may follow."""
    lines = [line for line in log.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    return (named or lines or [f"exit code {code}"])[-1][:300]


@contextmanager
def scratch(folder: str) -> Iterator[str]:
    """An empty folder on the data's disk; what stands beside it under its name goes with it."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="scratch.") as outer:
        os.mkdir(f"{outer}/cache")
        yield f"{outer}/cache"


def evict(folder: str) -> None:
    """Drop a folder's files from the page cache; nobody else's."""
    for path in Path(folder).rglob("*"):
        if path.is_file():
            file = os.open(path, os.O_RDONLY)
            os.fdatasync(file)  # dirty pages stay
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)


def others(patience: float) -> float:
    """Cores that other programs use, once they are few or patience has ended."""
    cores, until = os.cpu_count() or 1, time.monotonic() + patience
    while True:
        used = psutil.cpu_percent(0.5) / 100 * cores
        if used < 0.15 * cores or time.monotonic() > until:
            return used


# --- data -----------------------------------------------------------------------------------------


def make(cfg: Reading, folder: str, names: list[str]) -> dict[str, str]:
    """Write what is not there yet; returns what went wrong, by the data's name."""
    shape, wrong = asdict(cfg.shape), {}
    for data in dict.fromkeys(["truth", *(LIBRARIES[name].data for name in names)]):
        target, stamp = f"{folder}/{data}", Path(f"{folder}/{data}.made")
        made = json.dumps([shape, latents.FORMAT])
        if stamp.exists() and stamp.read_text() == made:
            continue
        print(f"writing {cfg.rows} rows for {data}", file=sys.stderr)
        shutil.rmtree(target, ignore_errors=True)
        task = {"do": "write", "data": data, "folder": target, "shape": shape}
        if data == "truth":
            task = {"do": "truth", "path": f"{target}.npz", "shape": shape}
        with scratch(folder) as cache:
            answer = run(cfg, task, cache, ours=data in ("truth", "ours"))
        if answer:
            wrong[data] = answer["error"]
        else:
            stamp.write_text(made)
    if "truth" in wrong:
        sys.exit(f"error: {wrong['truth']}")
    return wrong


@contextmanager
def serve(folder: str, names: list[str]) -> Iterator[str]:
    """An S3 server with all data on it; gives the URI."""
    shutil.rmtree(f"{folder}/server", ignore_errors=True)
    with S3Server(f"{folder}/server") as server:
        uri = f"s3://{server.bucket}/reading"
        for data in {LIBRARIES[name].data for name in names}:
            print(f"uploading {data}", file=sys.stderr)
            storage.upload_folder(f"{folder}/{data}", storage.join(uri, data))
        yield uri


# --- measuring ------------------------------------------------------------------------------------


def measure(cfg: Reading, folder: str, place: str, one: dict[str, Any]) -> dict[str, Any]:
    """One epoch: what was asked, and what came of it."""
    library, check = LIBRARIES[one["name"]], one["check"]
    evict(f"{folder}/{library.data}" if one["store"] == "local" else f"{folder}/server")
    idle = 0.0 if check else others(cfg.patience)
    with scratch(folder) as cache:
        task = {
            "do": "read", "name": one["name"], "location": storage.join(place, library.data),
            "cache": cache, "shape": asdict(cfg.shape), "workers": one["workers"],
            "batch": cfg.batch, "seed": one["repeat"],
            "truth": f"{folder}/truth.npz" if check else "",
        }  # fmt: skip
        answer = run(cfg, task, cache, ours=library.data == "ours")
    if answer.get("rows", cfg.rows) != cfg.rows:
        answer["wrong"] = answer["wrong"] or f"{answer['rows']} rows of {cfg.rows}"
    good = "each row once" if check else f"{answer.get('rate', 0):.0f} rows/s"
    said = answer.get("error") or answer["wrong"] or good
    print(f"{one['store']:6}{one['name']:24}{one['workers']} workers  {said}", file=sys.stderr)
    return one | {"others": idle} | answer


def measure_all(cfg: Reading, folder: str, names: list[str]) -> Iterator[dict[str, Any]]:
    """First every reader checked, then all timed, the repetitions interleaved."""
    with ExitStack() as stack:
        place = {"local": folder}
        if "s3" in cfg.stores:
            place["s3"] = stack.enter_context(serve(folder, names))
        for repeat, store, name in itertools.product(range(cfg.repeats + 1), cfg.stores, names):
            for workers in cfg.workers if LIBRARIES[name].workers else (0,):
                one = {"repeat": repeat, "store": store, "name": name, "workers": workers}
                yield measure(cfg, folder, place[store], one | {"check": repeat == 0})


def compare(cfg: Reading, folder: str) -> None:
    """Everything; what is known by then is written after each measurement."""
    with scratch(folder) as cache:
        versions = run(cfg, {"do": "versions"}, cache, ours=False)
    if "error" in versions:
        sys.exit(f"error: {versions['error']}")
    absent = {name: "not installed" for name in cfg.names if not versions[name]}
    wrong = make(cfg, folder, [name for name in cfg.names if name not in absent])
    absent |= {
        name: f"could not write: {wrong[LIBRARIES[name].data]}"
        for name in cfg.names if name not in absent and LIBRARIES[name].data in wrong
    }  # fmt: skip
    names = [name for name in cfg.names if name not in absent]
    result: dict[str, Any] = {
        "config": asdict(cfg),
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "versions": {name: versions[name] for name in cfg.names},
        "absent": absent,
        "bytes": {
            data: sum(storage.find(f"{folder}/{data}").values())
            for data in {LIBRARIES[name].data for name in names}
        },
        "runs": [],
    }
    for one in measure_all(cfg, folder, names):
        result["runs"].append(one)
        if cfg.output:
            storage.write_json(storage.join(cfg.output, "reading.json"), result)
            storage.write_bytes(storage.join(cfg.output, "reading.md"), report(result).encode())
    print(report(result))


def main() -> None:
    cfg = config.parse(Reading, __doc__)
    if not cfg.names:
        sys.exit(f"error: no reader is called that; there are {', '.join(LIBRARIES)}")
    if cfg.data:
        os.makedirs(cfg.data, exist_ok=True)
        compare(cfg, os.path.abspath(cfg.data))
        return
    with tempfile.TemporaryDirectory(prefix="reading.") as folder:
        compare(cfg, folder)


if __name__ == "__main__":
    main()
