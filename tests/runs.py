"""What a job's MLflow run holds, found from the job's output."""

from __future__ import annotations

import json
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric


def history(output: Path, name: str) -> list[Metric]:
    """All that was ever logged of a metric; a step that was done again is there again."""
    record = json.loads((output / "_progress/mlflow.json").read_text())
    return MlflowClient(record["uri"]).get_metric_history(record["run_id"], name)


def logged(output: Path, name: str) -> dict[int, float]:
    """The last that was logged for each step."""
    return {metric.step: metric.value for metric in history(output, name)}
