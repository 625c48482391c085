"""The whole path on this machine: compose scenes, then the five jobs, one after another.

    python pipelines/demo.py

Needs no network, no account and no GPU: scenes of real handwritten digits that scikit-learn ships
(see digits.py). Each job is the command that is printed, as anyone would run it; they share one
local Ray. Started again, it goes on where it was.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import ray

from pipelines import config
from pipelines.corpora import digits
from pipelines.sharding import raydata


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """How much of a demo."""

    output: str = "out/demo"
    """Local folder for everything."""
    train_scenes: int = 8000
    """Scenes to train on."""
    val_scenes: int = 100
    """Scenes to validate, label and synthesize from."""
    steps: int | None = None
    """Training steps, instead of the preset's."""


def commands(cfg: DemoConfig) -> list[list[str]]:
    """The five jobs as command lines."""
    corpus, latents, run = (f"{cfg.output}/{name}" for name in ("corpus", "latents", "run"))
    steps = [] if cfg.steps is None else ["--steps", str(cfg.steps)]
    return [
        ["encode.py", "digits", "--corpus.root", corpus, "--output", latents],
        ["train.py", "digits", "--data", latents, "--output", run, *steps],
        ["label.py", "--model", f"{run}/model", "--images", f"{corpus}/images/val",
         "--output", f"{cfg.output}/labels"],
        ["synthesize.py", "--model", f"{run}/model", "--masks", f"{corpus}/masks/val",
         "--output", f"{cfg.output}/images", "--samples", "4"],
        ["evaluate.py", "--model", f"{run}/model", "--data", latents, "--split", "val",
         "--output", f"{cfg.output}/report"],
    ]  # fmt: skip


def main() -> None:
    cfg = config.parse(DemoConfig, __doc__)
    started = time.monotonic()
    corpus = Path(cfg.output) / "corpus"
    if not (corpus / "whole").exists():
        digits.write_corpus(corpus, train=cfg.train_scenes, val=cfg.val_scenes)
        (corpus / "whole").touch()
    raydata.init(None, training=True)
    environment = os.environ | {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    for command in commands(cfg):
        shown = shlex.join(["python", f"pipelines/{command[0]}", *command[1:]])
        print(f"\n$ {shown}", flush=True)
        script = Path(__file__).with_name(command[0])
        before = time.monotonic()
        status = subprocess.run(
            [sys.executable, str(script), *command[1:]], env=environment
        ).returncode
        if status:
            sys.exit(f"error: {shown} ended with status {status}; the demo goes on from here when "
                     "it is started again")  # fmt: skip
        print(f"({time.monotonic() - before:.0f} s)", flush=True)
    page = Path(cfg.output).absolute() / "report" / "report.html"
    print(
        f"\nDone in {(time.monotonic() - started) / 60:.1f} minutes.\n"
        f"The report, in a browser:  {page}\n"
        f"Synthesized scenes:        {Path(cfg.output).absolute() / 'images' / 'images'}\n"
        f"The MLflow runs:           {Path(sys.executable).parent}/mlflow ui --backend-store-uri "
        f"sqlite:///{Path.cwd()}/mlflow.db   (then http://127.0.0.1:5000)"
    )


if __name__ == "__main__":
    config.exit_on_error(main)
