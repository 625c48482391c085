"""Training over several nodes, of which one is killed and another one comes."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infra.cluster.local import LocalCluster
from tests.integration.test_train import logged

ROOT = Path(__file__).parents[2]
STEPS = 200


def command(latents, output, *more):
    return [
        sys.executable, str(ROOT / "pipelines/train.py"), "digits", "--data", str(latents),
        "--output", str(output), "--velocity", "tiny", "--steps", str(STEPS), "--batch-size", "8",
        "--lr", "1e-3", "--warmup-steps", "0", "--workers", "2", "--threads", "1",
        "--log-every", "1", "--checkpoint-every", "20", "--validate-every", "1000000",
        "--validate-rows", "6", "--register-as", "None", *more,
    ]  # fmt: skip


def test_a_lost_node_shrinks_the_training_and_a_new_one_lets_it_grow(latents, tmp_path):
    environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    with LocalCluster(environment) as cluster:
        cluster.add(1)  # a worker takes a whole core: one fits on a node
        other = cluster.add(1)
        log = tmp_path / "log"
        with log.open("w") as file:
            job = subprocess.Popen(
                command(latents, tmp_path / "elastic", "--cpus-per-worker", "1",
                        "--min-workers", "1", "--resize-interval-s", "5"),
                env=os.environ | environment | cluster.client, stdout=file, stderr=file,
            )  # fmt: skip

        def wait(for_):
            deadline = time.monotonic() + 240
            while for_ not in log.read_text():
                assert time.monotonic() < deadline, log.read_text()[-3000:]
                assert job.poll() is None, log.read_text()[-3000:]
                time.sleep(0.5)

        wait("step 28/")
        cluster.kill(other)
        wait(", 1 workers")
        cluster.add(1)
        wait(", 2 workers")
        assert job.wait(240) == 0, log.read_text()[-3000:]
    undisturbed = tmp_path / "undisturbed"
    subprocess.run(
        command(latents, undisturbed), check=True, env=os.environ | environment,
        capture_output=True,
    )  # fmt: skip
    elastic = logged(tmp_path / "elastic", "loss")
    assert elastic.keys() == set(range(1, STEPS + 1))
    assert elastic == pytest.approx(logged(undisturbed, "loss"), rel=1e-2)
