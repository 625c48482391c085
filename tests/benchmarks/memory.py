"""Peak memory of a worker under each ZeRO stage: the same model, two workers.

    python -m tests.benchmarks.memory --data out/demo/latents --output out/memory

A few real steps of ``pipelines/train.py`` each; what it logs as ``peak_memory_gib`` is the resident
memory of the hungriest worker (with --ray.gpus-per-actor, its GPU's): until the end of the first
step, when every worker builds the whole model before it gives parts of it away, and after it. The
parameters are in fp32: weights and gradients take 4 bytes each of them, the two moments 8, the
average 4.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro

from semflow import make_velocity
from semflow.networks.velocity import VelocityPreset
from tests.runs import history

ROOT = Path(__file__).parents[2]
STAGES = (0, 1, 2, 3)


@dataclass(frozen=True)
class Args:
    data: str
    """A latent dataset."""
    velocity: VelocityPreset = "base"
    batch: int = 2
    steps: int = 3
    output: str = "out/memory"


def peaks(args: Args, home: Path, stage: int) -> tuple[float, float]:
    """Until the end of the first step, and after it."""
    output = home / f"run-{stage}"
    environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db"}
    result = subprocess.run(
        [sys.executable, str(ROOT / "pipelines/train.py"), "digits",
         "--data", str(Path(args.data).absolute()), "--output", str(output),
         "--velocity", args.velocity, "--batch-size", str(args.batch),
         "--workers", "2", "--threads", "1", "--log-every", "1", "--checkpoint-every", "1000",
         "--validate-every", "1000", "--register-as", "None", "--zero-stage", str(stage),
         "--steps", str(args.steps), "--validate-rows", "1"],
        env=os.environ | environment, capture_output=True, text=True,
    )  # fmt: skip
    if result.returncode:
        sys.exit(result.stdout[-3000:] + result.stderr[-3000:])
    found = {metric.step: metric.value for metric in history(output, "peak_memory_gib")}
    return found.pop(1), max(found.values())


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    parameters = sum(p.numel() for p in make_velocity(args.velocity, 48).parameters())
    print(f"{args.velocity}: {parameters / 1e6:.0f} M parameters, 4 bytes of each are "
          f"{parameters * 4 / 2**30:.2f} GiB")  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="semflow-memory-") as home:
        gib = {}
        for stage in STAGES:
            gib[stage] = peaks(args, Path(home), stage)
            first, later = gib[stage]
            print(f"ZeRO {stage}   {later:.2f} GiB, at the start {first:.2f}", flush=True)
    folder = Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.json").write_text(
        json.dumps(vars(args) | {"parameters": parameters, "gib": gib}, indent=2)
    )


if __name__ == "__main__":
    main()
