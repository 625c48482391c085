"""What frozen augmentation costs: K stored mask draws and V stored views against fresh ones.

Trains one small model after another on CamVid, alike in everything but where a step's crop, flip
and mask perturbation come from: from V fixed views and K stored encodings of each mask, as shards
hold them, or drawn anew at each step, as the released SemFlow does.
docs/measurements/augmentation.md has the question, the setup and the findings.

    python -m tests.benchmarks.augmentation            half an hour on two idle cores
    python -m tests.benchmarks.augmentation --quick    a smoke run, some minutes

Every finished run is a file in --output: the same command goes on where it stopped.
"""

from __future__ import annotations

import json
import multiprocessing as mp
import os
from dataclasses import replace

import torch
import tyro

from tests.benchmarks.augmentation.costs import costs
from tests.benchmarks.augmentation.plot import draw
from tests.benchmarks.augmentation.pool import fill_pool
from tests.benchmarks.augmentation.study import Study
from tests.benchmarks.augmentation.training import run


def main(study: Study) -> None:
    """Train what is left, then report what is there."""
    if study.quick:
        study = replace(study, every=24, steps=20, points=2, output=study.output / "quick")
    study.output.mkdir(parents=True, exist_ok=True)
    arms = study.arms()
    left = [arm for arm in arms if not (study.output / f"{arm.name}.json").is_file()]
    if study.train:
        lossy = [arm for arm in arms if arm.kind == "lossy"]
        if lossy and not study.pool.is_file():
            print("encoding the lossy pool", flush=True)
            fill_pool(study, lossy)
        os.environ["OMP_NUM_THREADS"] = "1"  # before the workers import torch
        with mp.get_context("spawn").Pool(study.workers) as pool:
            for line in pool.imap(run, [(study, arm) for arm in left], chunksize=1):
                print(line, flush=True)
        left = []
    runs = [
        json.loads((study.output / f"{arm.name}.json").read_text())
        for arm in arms if arm not in left
    ]  # fmt: skip
    torch.set_num_threads(1)
    price = {arm.kind: costs(study, arm.autoencoder) for arm in (arms[0], arms[-1])}
    (study.output / "summary.json").write_text(json.dumps({"runs": runs, "costs": price}, indent=1))
    draw(runs, study.output / "augmentation.png")
    print(f"{len(runs)} of {len(arms)} runs are in {study.output}: summary.json, augmentation.png")


if __name__ == "__main__":
    main(tyro.cli(Study, description=__doc__))
