"""Train while a node is lost and another one comes, and lay the loss beside an undisturbed run's.

    python -m tests.benchmarks.elastic --data out/demo/latents --output out/elastic

Three Ray nodes on this machine: a head, and two with room for one training worker each. One is
killed, training goes on with one worker; a node comes, and it goes on with two. The undisturbed run
has two workers from the first step to the last. It prints the largest difference between the losses
of a step and draws both.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from infra.cluster.local import LocalCluster
from tests.runs import logged

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Args:
    data: str
    """A latent dataset."""
    steps: int = 200
    output: str = "out/elastic"


@dataclass(frozen=True)
class Found:
    elastic: dict[int, float]
    undisturbed: dict[int, float]
    resumed: list[tuple[int, int]]
    """Step, and the number of workers from there on."""

    @property
    def apart(self) -> float:
        """The largest relative difference of a step's losses."""
        return max(abs(self.elastic[k] / v - 1) for k, v in self.undisturbed.items())


def command(data: str, output: Path, steps: int, *more: str) -> list[str]:
    return [
        sys.executable, str(ROOT / "pipelines/train.py"), "digits", "--data", data,
        "--output", str(output), "--velocity", "tiny", "--steps", str(steps), "--batch-size", "8",
        "--lr", "1e-3", "--warmup-steps", "0", "--workers", "2", "--threads", "1",
        "--log-every", "1", "--checkpoint-every", "20", "--validate-every", "1000000",
        "--validate-rows", "6", "--register-as", "None", *more,
    ]  # fmt: skip


def disturbed_and_not(data: str, home: Path, steps: int) -> Found:
    """Both runs.

    Raises:
        RuntimeError: with the end of the log, when one fails or hangs.
    """
    environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db"}
    log = home / "log"

    def wait(text: str) -> None:
        deadline = time.monotonic() + 240
        while text not in log.read_text():
            if time.monotonic() > deadline or job.poll() is not None:
                raise RuntimeError(f"no {text!r} in {log.read_text()[-3000:]}")
            time.sleep(0.5)

    with LocalCluster(environment) as cluster, log.open("w") as file:
        cluster.add(1)  # a worker takes a whole core: one fits on a node
        other = cluster.add(1)
        job = subprocess.Popen(
            command(data, home / "elastic", steps, "--cpus-per-worker", "1", "--min-workers", "1",
                    "--resize-interval-s", "5"),
            env=os.environ | environment | cluster.client, stdout=file, stderr=file,
        )  # fmt: skip
        wait("step 28/")
        cluster.kill(other)
        wait(", 1 worker\n")
        cluster.add(1)
        wait(", 2 workers\n")
        if job.wait(600):
            raise RuntimeError(log.read_text()[-3000:])
    subprocess.run(
        command(data, home / "undisturbed", steps), check=True, env=os.environ | environment,
        capture_output=True,
    )  # fmt: skip
    resumed = re.findall(r"resumed at step (\d+), (\d+) workers?", log.read_text())
    return Found(
        logged(home / "elastic", "loss"), logged(home / "undisturbed", "loss"),
        list(dict.fromkeys((int(step), int(workers)) for step, workers in resumed)),
    )  # fmt: skip


def draw(found: Found, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (curves, apart) = plt.subplots(2, sharex=True, figsize=(8, 5), height_ratios=(3, 1))
    steps = sorted(found.undisturbed)
    curves.plot(steps, [found.undisturbed[s] for s in steps], label="two workers, undisturbed")
    curves.plot(steps, [found.elastic[s] for s in steps], "--", label="elastic")
    for step, workers in found.resumed:
        curves.axvline(step, color="grey", lw=0.8)
        curves.text(step + 1, curves.get_ylim()[1] * 0.9, f"on with {workers}")
    curves.set(ylabel="loss", yscale="log")
    curves.legend()
    apart.plot(steps, [abs(found.elastic[s] / found.undisturbed[s] - 1) for s in steps])
    apart.set(yscale="log", ylabel="relative difference", xlabel="step")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    home = Path(tempfile.mkdtemp(prefix="semflow-elastic-"))
    found = disturbed_and_not(str(Path(args.data).absolute()), home, args.steps)
    folder = Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    draw(found, folder / "elastic.png")
    (folder / "elastic.json").write_text(json.dumps(vars(found), indent=2))
    print(f"resumed {found.resumed}; losses at most {found.apart:.1e} apart (relative)")


if __name__ == "__main__":
    main()
