"""What the pause in Ray Data's scheduler is worth: a job with and without it, in turn.

    python -m tests.benchmarks.doors --photos 8000 --rounds 3 --output out/doors

labels small photos by a tiny model, the hardest case for a pipeline, without GPUs and as with one
(a number to Ray: the model runs on the CPU, decoding and writing are tasks beside it). Each run is
a process of its own; it says the rate from the start of the actors to the last file, and the CPU
seconds of all its processes.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True)
class Args:
    photos: int = 8_000
    rounds: int = 3
    output: str = "out/doors"


def run(home: str, pause: bool, gpus: int) -> None:
    """One job, in this process."""
    import ray

    from pipelines.config import RayOptions
    from pipelines.inference.predictors import ModelOptions
    from pipelines.label import label
    from pipelines.labelling.config import LabelConfig
    from pipelines.sharding import doors, raydata
    from tests.benchmarks.measure import cpu_seconds

    if not pause:
        doors.pause = lambda _: None
    ray.init(address="local", num_cpus=2, num_gpus=gpus, include_dashboard=False,
             log_to_driver=False)  # fmt: skip
    raydata.init(None)
    before, output = cpu_seconds(), Path(home, "labels")
    started = time.perf_counter()
    label(
        LabelConfig(
            model=f"{home}/model", images=f"{home}/photos", output=str(output),
            photos_per_shard=1000, actors=ModelOptions(batch_size=64), review=0,
            ray=RayOptions(gpus_per_actor=gpus),
        )
    )  # fmt: skip
    seconds = time.perf_counter() - started
    print(json.dumps({"wall": seconds, "cpu": cpu_seconds() - before}))
    shutil.rmtree(output)


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    from tests.benchmarks.labelling import write_model, write_photos

    home = Path(tempfile.mkdtemp(prefix="semflow-doors-"))
    write_photos(home / "photos", args.photos)
    write_model(home / "model")
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(args.rounds):
        for gpus in (0, 1):
            for pause in (True, False):
                job = [sys.executable, "-m", __spec__.name, "--run", str(home)]
                command = [*job, str(int(pause)), str(gpus)]
                environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db"}
                done = subprocess.run(command, capture_output=True, text=True,
                                      env=os.environ | environment)  # fmt: skip
                lines = done.stdout.splitlines()
                if done.returncode:
                    sys.exit(done.stderr[-3000:])
                rate = next(float(x.split(",")[1].split()[0]) for x in lines if "images/s; a" in x)
                cpu = json.loads(lines[-1])["cpu"]
                name = f"{'GPU' if gpus else 'CPU'}, {'with' if pause else 'without'} the pause"
                found.setdefault(name, []).append((rate, cpu))
                print(f"{name:24} {rate:8.1f} images/s  {cpu:7.1f} s of CPU", flush=True)
    for gpus in ("CPU", "GPU"):
        base = statistics.median(rate for rate, _ in found[f"{gpus}, with the pause"])
        for name, runs in found.items():
            if name.startswith(gpus):
                rate = statistics.median(rate for rate, _ in runs)
                cpu = statistics.median(cpu for _, cpu in runs)
                print(f"{name:24} median {rate:8.1f} images/s, {rate / base:.3f}, {cpu:.1f} s CPU")
    Path(args.output).mkdir(parents=True, exist_ok=True)
    Path(args.output, "doors.json").write_text(json.dumps(found, indent=2))
    shutil.rmtree(home)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        run(sys.argv[2], bool(int(sys.argv[3])), int(sys.argv[4]))
    else:
        main()
