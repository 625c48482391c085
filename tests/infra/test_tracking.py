"""MLflow: one run a job, and never in the way."""

import pytest

from infra import tracking


@pytest.fixture
def local(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def client():
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=tracking.tracking_uri())


def test_a_resumed_job_continues_its_run(local):
    output = str(local / "out")
    with tracking.run("train", output, {"lr": 1, "steps": 10}) as run:
        run.metrics({"loss": 3.0, "nothing": float("nan")}, 1)
        run.picture("samples/1", b"\x89PNG")
        first = run.handle.run_id

    def killed() -> None:
        with tracking.run("train", output, {"lr": 1, "steps": 20}) as run:
            run.metrics({"loss": 2.0}, 2)
            assert run.handle.run_id == first
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        killed()
    entry = client().get_run(first)
    assert entry.info.status == "FAILED"
    assert entry.data.params == {"lr": "1", "steps": "10"}
    assert entry.data.tags["resumed.steps"] == "20"
    assert [m.value for m in client().get_metric_history(first, "loss")] == [3.0, 2.0]
    assert "nothing" not in entry.data.metrics
    experiment = client().get_experiment_by_name(tracking.EXPERIMENT)
    assert len(client().search_runs([experiment.experiment_id])) == 1


def test_mlflow_being_away_stops_nothing_and_is_said(local, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")  # discard: closed
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with tracking.run("train", str(local / "out"), {"lr": 1}) as run:
        for step in range(100):
            run.metrics({"loss": 1.0}, step)
    said = capsys.readouterr().err
    assert "is away" in said
    assert "never got" in said
    assert "secret" not in said


def test_metrics_wait_while_mlflow_is_away_and_arrive_when_it_is_back(local, monkeypatch):
    with tracking.run("train", str(local / "out"), {}) as run:
        real, calls = tracking._client, []

        def away(uri):
            calls.append(uri)
            raise ConnectionError("away")

        monkeypatch.setattr(tracking, "_client", away)
        for step in range(5):
            run.metrics({"loss": float(step)}, step)
        assert len(calls) == 1  # then it is left alone for a while
        monkeypatch.setattr(tracking, "_client", real)
    history = client().get_metric_history(run.handle.run_id, "loss")
    assert sorted(metric.step for metric in history) == [0, 1, 2, 3, 4]
