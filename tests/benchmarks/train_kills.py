"""Kill a training again and again, and compare the weights with an undisturbed run's.

    python -m tests.benchmarks.train_kills --data out/demo/latents --output out/train-kills

Two workers on two cores, a checkpoint every ten steps. The real command is killed at random
moments and given again whenever it ended, until it was killed ``--kills`` times and has finished;
then the finished model must have the weights of an undisturbed run, bit for bit.

    driver    SIGKILL to the command's own process
    worker    SIGKILL to a training worker; Ray Train starts the workers again
    node      SIGKILL to the raylet, the control store and every worker, then to the driver

It takes half an hour.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from safetensors.torch import load_file

from tests.benchmarks.disturb import Job, torment
from tests.runs import history

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Args:
    data: str
    """A latent dataset."""
    kills: int = 10
    kinds: tuple[str, ...] = ("driver", "worker", "node")
    steps: int = 400
    length: float = 60.0
    """Most seconds from a start, or a kill that was survived, to the next kill."""
    output: str = "out/train-kills"
    seed: int = 0


def command(args: Args, output: Path) -> list[str]:
    return [
        sys.executable, str(ROOT / "pipelines/train.py"), "digits", "--data",
        str(Path(args.data).absolute()), "--output", str(output), "--velocity", "tiny",
        "--batch-size", "8", "--steps", str(args.steps), "--workers", "2", "--threads", "1",
        "--log-every", "5", "--checkpoint-every", "10", "--validate-every", "1000000",
        "--validate-rows", "8", "--max-failures", "-1", "--register-as", "None",
    ]  # fmt: skip


def weights(output: Path) -> dict[str, Any]:
    return load_file(output / "model/unet/diffusion_pytorch_model.safetensors")


def losses(output: Path) -> dict[int, set[float]]:
    """All that was ever logged for a step: a step that was done again must give the same."""
    found: dict[int, set[float]] = {}
    for metric in history(output, "loss"):
        found.setdefault(metric.step, set()).add(metric.value)
    return found


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    rng, home = random.Random(args.seed), Path(tempfile.mkdtemp(prefix="semflow-kills-"))
    environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db"}
    started = time.monotonic()
    whole = Job(command(args, home / "whole"), str(home / "whole"), environment, home / "whole.log")
    whole.start()
    if whole.wait(1200):
        sys.exit(f"the undisturbed training failed: see {whole.log}")
    print(f"undisturbed in {time.monotonic() - started:.0f} s", flush=True)
    expected, rows = weights(home / "whole"), []
    for kind in args.kinds:
        output = home / kind
        job = Job(command(args, output), str(output), environment, home / f"{kind}.log",
                  worker="ray::RayTrainWorker")  # fmt: skip
        before = time.monotonic()
        result = torment(kind, job, args.kills, args.length, rng)
        found = weights(output)
        rows.append({
            "kind": kind, **result, "seconds": round(time.monotonic() - before),
            "tensors": len(found),
            "other_tensors": sum(not bool((found[k] == expected[k]).all()) for k in expected),
            "steps_logged": len(losses(output)),
            "steps_of_another_loss": sum(
                values != losses(home / "whole")[step] for step, values in losses(output).items()
            ),
        })  # fmt: skip
        print(json.dumps(rows[-1]), flush=True)
    folder = Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train_kills.json").write_text(json.dumps(rows, indent=2))
    sys.exit(any(row["other_tensors"] for row in rows))


if __name__ == "__main__":
    main()
