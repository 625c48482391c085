"""Rate of an encode ÷ rate of a bare loop that does the same work on the same cores.

    python -m tests.benchmarks.encoding --corpus ../shared/data/camvid --output out/encoding

The bare loop is one process: read, decode, cut, encode image and draws, next batch; with all cores
for the autoencoder's arithmetic, nothing written. The job is ``pipelines/encode.py`` as a user
starts it: its whole time, and its rate while it runs (over the middle half of its shards: at the
first one others are under way, and at the end none is). Both run in turn, ``--rounds`` times;
ratios are of medians. Without a corpus, one of synthetic scenes is made.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro

from infra import storage
from pipelines.corpora import list_pairs
from pipelines.corpora.classes import with_classes
from pipelines.dataset.encoder import Decode, Encoder
from pipelines.presets import ENCODE
from tests.pictures import CLASSES, encoded, scene, write_pair

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Args:
    corpus: str = ""
    """CamVid's folder; empty makes synthetic scenes of 480x360."""
    pairs: int = 2000
    """Synthetic pairs."""
    autoencoder: str = "space-to-depth"
    height: int = 96
    width: int = 128
    views: int = 8
    draws: int = 4
    rounds: int = 3
    output: str = "out/encoding"


def bare(cfg, rows) -> float:
    """Views a second of the loop."""
    torch.set_num_threads(os.cpu_count() or 1)
    decode, encoder = Decode(cfg, cfg.views), Encoder(cfg, cfg.make_palette())
    started, waiting, done = time.perf_counter(), [], 0
    for row in rows:
        waiting += decode(row)
        while len(waiting) >= cfg.batch_size:
            batch, waiting = waiting[: cfg.batch_size], waiting[cfg.batch_size :]
            encoder({key: [view[key] for view in batch] for key in batch[0]})
            done += cfg.batch_size
    return done / (time.perf_counter() - started)


def job(command: list[str], output: str, views: int) -> tuple[float, float]:
    """Views a second of the command: in all, and over the middle half of its records."""
    storage.remove(output)
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    whole = time.perf_counter() - started
    records = sorted(
        Path(output, "_progress/train").glob("*.json"), key=lambda p: p.stat().st_mtime
    )
    times = [path.stat().st_mtime for path in records]
    rows = [json.loads(path.read_text())["inputs"] * views for path in records]
    low, high = len(rows) // 4, len(rows) - 1 - len(rows) // 4
    return sum(rows) / whole, sum(rows[low + 1 : high + 1]) / (times[high] - times[low])


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    home = Path(tempfile.mkdtemp(prefix="semflow-encoding-"))
    corpus, preset, classes = args.corpus, "camvid", []
    if not corpus:
        corpus, preset, classes = str(home / "corpus"), "folder", ["--corpus.classes", *CLASSES]
        for number in range(args.pairs):
            image, ids = scene(number, 360, 480)
            write_pair(Path(corpus), "train", f"{number:06d}", encoded(image, "JPEG"),
                       encoded(ids), "jpg")  # fmt: skip
    output = str(home / "latents")
    options = {"--autoencoder": args.autoencoder, "--height": args.height, "--width": args.width,
               "--views": args.views, "--draws": args.draws, "--shard-rows": 64}  # fmt: skip
    command = [sys.executable, str(ROOT / "pipelines/encode.py"), preset, "--corpus.root", corpus,
               "--corpus.splits", "train", "--output", output, *classes,
               *(str(part) for option in options.items() for part in option)]  # fmt: skip
    base = ENCODE[preset][1]
    named = replace(base.corpus, root=corpus, splits=("train",), classes=tuple(classes[1:]))
    cfg = replace(
        base, corpus=with_classes(named), autoencoder=args.autoencoder, height=args.height,
        width=args.width, views=args.views, draws=args.draws, shard_rows=64,
    )  # fmt: skip
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{home}/mlflow.db"
    rows = [row | {"shard": ""} for row in list_pairs(cfg.corpus, "train").pairs.to_pylist()]
    rates: dict[str, list[float]] = {
        "bare loop": [],
        "encode.py, whole": [],
        "encode.py, running": [],
    }
    for _ in range(args.rounds):
        rates["bare loop"].append(bare(cfg, rows))
        whole, running = job(command, output, args.views)
        rates["encode.py, whole"].append(whole)
        rates["encode.py, running"].append(running)
        print({name: round(values[-1], 1) for name, values in rates.items()}, flush=True)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    result = vars(args) | {"pairs": len(rows), "rates": rates, "medians": medians}
    Path(args.output).mkdir(parents=True, exist_ok=True)
    Path(args.output, "encoding.json").write_text(json.dumps(result, indent=2))
    for name, rate in medians.items():
        print(f"{name:20} {rate:9.1f} views/s   ÷ bare {rate / medians['bare loop']:.2f}")


if __name__ == "__main__":
    main()
