"""A search for how to train: real trainings, below one run, compared at the end."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from semflow import Solver
from tests.integration.test_train import train_config
from tune.search_training import search
from tune.training.config import SearchTrainingConfig


def config(latents, output, **options) -> SearchTrainingConfig:
    defaults = {
        "data": str(latents), "output": str(output), "trials": 2, "rungs": 2, "reduction": 2,
        "search": ("lr=1e-4..1e-2:log", "clip=0.5,1.0"),
        "train": train_config(latents, output, workers=1, steps=4, segment=Solver(steps=1)),
    }  # fmt: skip
    return SearchTrainingConfig(**defaults | options)


def test_trainings_are_searched_compared_and_not_repeated(ray_session, latents, tmp_path):
    cfg = config(latents, tmp_path)
    result = search(cfg)
    assert len(result["trials"]) == 2
    assert {"lr": 1e-3, "clip": 1.0} in [trial["values"] for trial in result["trials"]]
    assert all(trial["error"] is None for trial in result["trials"])
    assert result["best"]["step"] == 4
    assert [step for step, _ in result["best"]["curve"]] == [2, 4]
    gap = result["difference"]
    assert gap["low"] <= gap["value"] <= gap["high"]
    assert gap["value"] == pytest.approx(result["best"]["miou"] - result["preset"]["miou"])
    assert "--clip" in result["flags"]
    record = json.loads((tmp_path / "_progress/mlflow.json").read_text())
    client = MlflowClient(record["uri"])
    experiment = client.get_run(record["run_id"]).info.experiment_id
    below = f"tags.`mlflow.parentRunId` = '{record['run_id']}'"
    children = client.search_runs([experiment], below)
    assert len(children) == 2
    assert all("val_miou" in child.data.metrics for child in children)
    assert "mIoU" in (tmp_path / "report.html").read_text()
    checkpoints = sorted(Path(tmp_path).glob("trials/*/checkpoints/checkpoint_*"))
    before = [path.stat().st_mtime_ns for path in checkpoints]
    again = search(cfg)
    assert again["trials"] == result["trials"]
    assert [path.stat().st_mtime_ns for path in checkpoints] == before
    assert len(client.search_runs([experiment], below)) == 2


def test_population_based_training_refuses_what_weights_cannot_be_taken_over_with(
    ray_session, latents, tmp_path
):
    with pytest.raises(ValueError, match="pbt cannot search batch_size"):
        search(config(latents, tmp_path, scheduler="pbt", search=("batch_size=4,8",)))
