"""The command that users give: `ray job submit` to a cluster that was started with `ray start`."""

import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from infra.cluster.local import LocalCluster
from pipelines.dataset.latents import read_manifest
from pipelines.train import last_note
from tests.pictures import CLASSES, write_good

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    home = tmp_path_factory.mktemp("cluster")
    with LocalCluster({"MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db"}) as started:
        started.add(3)
        yield started


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """What a user's --working-dir holds, and no .venv."""
    folder = tmp_path_factory.mktemp("source")
    for room in ("pipelines", "semflow", "infra", "tune"):
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


SAID = re.compile(
    r"""$
    |encode\ (train|val):          # progress
    |\S+:\ \d+\ train,\ \d+\ val\ rows,\ \d+\ quarantined;\ codec\ ceiling\ mIoU
    |next:\ python\ pipelines/
    |first\ step\ .*\ after\ this\ worker\ began
    |step\ \d+/\d+\ \ loss\ .*\ images/s\ .*\ min\ left$
    |step\ \d+\ \ validation\ mIoU
    |stopping\ at\ the\ next\ log\ line
    |error:\ stopped\ on\ request;\ checkpoint:\ step\ \d+\.\ The\ same\ command\ goes\ on
    |Running\ entrypoint|.*(cli\.py:\d+\ --|Runtime\ env\ is\ setting\ up)  # of `ray job`
    """,
    re.VERBOSE,
)
"""All lines that a job prints on a machine where nothing goes wrong."""


def strange(log):
    """Lines of a job's log that nobody should have to read."""
    return [line for line in re.split(r"[\r\n]+", log) if not SAID.match(line.strip())]


def job(cluster, *words, timeout=300):
    """`ray job WORDS`, again while the agent that takes jobs is not up."""
    command = [cluster.ray, "job", words[0], "--address", cluster.jobs, *map(str, words[1:])]
    for _ in range(30):
        result = subprocess.run(
            command, env=cluster.environment, capture_output=True, text=True, timeout=timeout
        )
        if "No available agent" not in result.stderr and "Failed to connect" not in result.stderr:
            break
        time.sleep(2)
    return result


@pytest.fixture(scope="module")
def encoded(cluster, source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("job")
    write_good(folder / "corpus", "train", 6)
    write_good(folder / "corpus", "val", 2, start=100)
    result = job(
        cluster, "submit", "--submission-id", "encoding", "--working-dir", source, "--",
        "python", "pipelines/encode.py", "folder", "--corpus.root", folder / "corpus",
        "--corpus.classes", *CLASSES, "--height", 32, "--width", 48,
        "--autoencoder", "space-to-depth", "--output", folder / "latents",
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert "succeeded" in result.stdout
    return folder / "latents"


def test_encode_as_a_submitted_job(cluster, encoded):
    assert read_manifest(str(encoded)).splits["train"].rows == 6
    assert strange(job(cluster, "logs", "encoding").stdout) == []


def test_a_training_job_streams_its_log_and_stopped_leaves_a_checkpoint(
    cluster, source, encoded, tmp_path
):
    started = job(
        cluster, "submit", "--no-wait", "--submission-id", "training", "--working-dir", source,
        "--", "python", "pipelines/train.py", "digits", "--data", encoded, "--output",
        tmp_path / "run", "--velocity", "tiny", "--batch-size", 4, "--steps", 100000,
        "--log-every", 5, "--checkpoint-every", 20, "--validate-every", 1000000,
    )  # fmt: skip
    assert started.returncode == 0, started.stderr[-3000:]
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and not last_note(str(tmp_path / "run")):
        time.sleep(1)
    assert job(cluster, "stop", "training").returncode == 0
    log = job(cluster, "logs", "training").stdout
    assert "first step" in log, log[-3000:]
    assert "images/s" in log
    assert strange(log) == []
    note = last_note(str(tmp_path / "run"))
    assert note["step"] >= 20
