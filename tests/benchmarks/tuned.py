"""Labelling as a search tuned it, beside the way of the released code, on a model of your own.

    python -m tests.benchmarks.tuned --model out/demo/run/model --corpus out/demo/corpus \
        --output out/tuned

The released way is one process, Euler with 25 steps, batches of 8, float32: it labels the
validation photos, file to file. The tuned way is ``label.py`` with the model's own solver, over all
photos of the corpus; its rate is what it says itself, from the start of its actors to the last
file. Both are scored on the validation photos, at their own size.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image

from pipelines.inference.masks import mask_reader
from semflow import ConfusionMatrix, SemFlow, Solver
from semflow.masks.given import MasksAre
from tests.benchmarks.labelling import bare
from tests.benchmarks.study import ROOT, matching


@dataclass(frozen=True)
class Args:
    model: str
    corpus: Path
    """With images/{train,val} and masks/val; photos of the model's size."""
    output: Path = Path("out/tuned")
    options: str = "--actors.batch-size 32 --actors.precision bf16"
    """Of label.py."""


def score(model: SemFlow, pairs: list[tuple[Path, Path]]) -> float:
    """MIoU of predicted masks against true ones."""
    masks_are: MasksAre | None = "corpus" if model.defaults.class_map else None
    labels = mask_reader(model.palette, model.defaults, masks_are)
    confusion = ConfusionMatrix(len(model.palette))
    for predicted, truth in pairs:
        ids = torch.from_numpy(np.array(Image.open(predicted)))
        confusion.update(ids, torch.from_numpy(labels.read(truth.read_bytes())))
    return confusion.miou


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    model = SemFlow.load(args.model)
    images, masks = args.corpus / "images", args.corpus / "masks/val"
    photos = sorted(path for path in (images / "val").rglob("*") if path.is_file())
    released = model.with_defaults(segment=Solver(steps=25))
    started = time.perf_counter()
    bare(released, photos, args.output / "released", 8)
    slow = len(photos) / (time.perf_counter() - started)
    by_stem = {path.stem: path for path in masks.rglob("*.png")}
    own = [(args.output / f"released/val-{path.stem}.png", by_stem[path.stem]) for path in photos]
    command = [sys.executable, str(ROOT / "pipelines/label.py"), "--model", args.model, "--images",
               str(images), "--output", str(args.output / "labels"), "--overwrite",
               *shlex.split(args.options)]  # fmt: skip
    print("$", shlex.join(command), flush=True)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    found = re.search(r"([\d.]+) images/s; a million", done.stdout)
    assert found, done.stdout
    fast = float(found[1])
    tuned = matching(args.output / "labels/masks/val", masks)
    result = {
        "released": {"images_per_s": slow, "miou": score(model, own)},
        "tuned": {"images_per_s": fast, "miou": score(model, tuned),
                  "solver": str(model.defaults.segment)},
        "ratio": fast / slow,
    }  # fmt: skip
    text = json.dumps(result, indent=2)
    (args.output / "tuned.json").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
