"""Training with everything elsewhere: data and checkpoints on S3, MLflow a server of its own."""

import os
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient

from infra import storage
from infra.cluster.local import free_port
from pipelines.train import last_note, train
from semflow import SemFlow
from tests.integration.test_train import train_config

AWAY = 10.0
"""Seconds."""


@pytest.fixture
def mlflow_server(ray_session, s3, tmp_path, monkeypatch):
    """`mlflow server`: runs in SQLite, artifacts on S3, which clients reach through it."""
    url = f"http://127.0.0.1:{free_port()}"
    before = mlflow.get_tracking_uri()
    with (tmp_path / "mlflow.log").open("w") as log:
        server = subprocess.Popen(
            [Path(sys.executable).parent / "mlflow", "server", "--host", "127.0.0.1",
             "--port", url.rpartition(":")[2], "--workers", "1",
             "--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db",
             "--artifacts-destination", "s3://semflow/mlflow"],
            env=os.environ | s3.environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    deadline = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=2)
            break
        except OSError:
            assert time.monotonic() < deadline, (tmp_path / "mlflow.log").read_text()[-3000:]
            time.sleep(0.5)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    yield url
    mlflow.set_tracking_uri(before)
    os.killpg(server.pid, 15)
    server.wait(30)


def test_s3_goes_away_while_it_trains_and_a_restart_continues_the_servers_run(
    mlflow_server, s3, latents
):
    data, output = "s3://semflow/train/latents", "s3://semflow/train/run"
    storage.upload_folder(latents, data)
    config = train_config(data, output, steps=120, checkpoint_every=20, validate_every=1000,
                          log_every=5, register_as="from-s3")  # fmt: skip
    steps = []

    def outage():
        while not (note := last_note(output)):
            time.sleep(0.2)
        steps.append(note["step"])
        s3.stop()
        time.sleep(AWAY)
        s3.start()

    thread = threading.Thread(target=outage)
    thread.start()
    train(config)
    thread.join()
    assert steps[0] < 120  # it was away while there was work left
    train(train_config(data, output, steps=124, checkpoint_every=20, validate_every=1000,
                       log_every=1, register_as="from-s3"))  # fmt: skip
    with storage.local_folder(storage.join(output, "model")) as folder:
        ours = SemFlow.load(folder)
    assert ours.provenance["step"] == 124

    client = MlflowClient(mlflow_server)
    (run,) = client.search_runs([client.get_experiment_by_name("semflow").experiment_id])
    assert run.info.status == "FINISHED"
    history = [metric.step for metric in client.get_metric_history(run.info.run_id, "loss")]
    assert set(history) == {*range(5, 121, 5), *range(121, 125)}
    assert storage.exists("s3://semflow/mlflow")
    assert "samples" in {file.path for file in client.list_artifacts(run.info.run_id)}
    versions = client.search_model_versions("name = 'from-s3'")
    assert {version.run_id for version in versions} == {run.info.run_id}
    mlflow.set_tracking_uri(mlflow_server)
    newest = max(int(version.version) for version in versions)
    model = mlflow.pyfunc.load_model(f"models:/from-s3/{newest}")
    photos = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), dtype=np.uint8)
    assert model.predict(photos).shape == (2, 32, 48)
