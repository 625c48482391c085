"""The command that users give: `ray job submit` to a cluster that was started with `ray start`."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from pipelines.latents import read_manifest
from tests.pictures import CLASSES, write_good

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.fixture
def cluster():
    """A head node of its own, with a dashboard, on loopback; stopped by its process group."""
    ray = shutil.which("ray", path=str(Path(sys.executable).parent))
    assert ray
    gcs, dashboard, agent = free_port(), free_port(), free_port()
    # A short path, for Unix sockets; not /tmp/ray, where other Rays look for a running one.
    temp = tempfile.mkdtemp(prefix="semflow-ray-")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    # A job's `python` is the first on the node's PATH: the one that has Ray, activated or not.
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    head = subprocess.Popen(
        [ray, "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={gcs}",
         "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", "--num-cpus=3",
         # The agent takes jobs; its usual port belongs to the Ray of the other tests.
         f"--dashboard-agent-listen-port={agent}", f"--temp-dir={temp}", "--disable-usage-stats"],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    yield ray, f"http://127.0.0.1:{dashboard}", environment
    os.killpg(head.pid, 15)
    try:
        head.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(head.pid, 9)
    shutil.rmtree(temp, ignore_errors=True)


def test_encode_as_a_submitted_job(cluster, tmp_path):
    ray, address, environment = cluster
    write_good(tmp_path / "corpus", "train", 6)
    write_good(tmp_path / "corpus", "val", 2)
    source = tmp_path / "source"  # what a user's --working-dir holds, and no .venv
    for room in ("pipelines", "semflow", "infra", "tune"):
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        ray, "job", "submit", "--address", address, "--working-dir", str(source), "--",
        "python", "pipelines/encode.py", "folder", "--corpus.root", str(tmp_path / "corpus"),
        "--corpus.classes", *CLASSES, "--height", "32", "--width", "48",
        "--autoencoder", "space-to-depth", "--output", str(tmp_path / "latents"),
    ]  # fmt: skip
    environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path}/mlflow.db"
    for _ in range(30):  # the dashboard and its agent come up some seconds after the head
        result = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=300
        )
        if "No available agent" not in result.stderr and "Failed to connect" not in result.stderr:
            break
        time.sleep(2)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert "succeeded" in result.stdout
    assert read_manifest(str(tmp_path / "latents")).splits["train"].rows == 6
