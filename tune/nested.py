"""Trials in MLflow: a run each, below the search's own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import tune

from infra import tracking
from pipelines import config

# Tune would write each result as CSV and TensorBoard events too; MLflow has them.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")

Children = dict[str, tracking.Run]


class Nested(tune.Callback):
    """Gives every trial's parameters, results and end to MLflow.

    Tune stores its callbacks beside its results, so this holds a run's id and no address, which
    may carry a password.
    """

    def __init__(self, run: tracking.Run, step: str) -> None:
        """Of a search's run; ``step`` names the result that counts a trial's progress."""
        self.run_id = run.handle.run_id if run.handle else None
        self.job, self.step = run.job, step
        self.children: Children = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"children": {}}

    def child(self, trial: Any) -> tracking.Run:
        if trial.trial_id not in self.children:
            handle = tracking.Handle(tracking.tracking_uri(), self.run_id) if self.run_id else None
            child = tracking.Run(handle, self.job).child(trial.config["candidate"]["name"])
            child.params(config.flatten({k: v for k, v in trial.config.items() if k != "common"}))
            self.children[trial.trial_id] = child
        return self.children[trial.trial_id]

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self.child(trial)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: Mapping[str, Any], **_: Any
    ) -> None:
        values = {k: v for k, v in result.items() if isinstance(v, float)}
        self.child(trial).metrics(values, int(result.get(self.step, 0)))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self.child(trial).end("FINISHED")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        child = self.child(trial)
        child.tag("error", reason(trial))
        child.end("FAILED")


def reason(trial: Any) -> str:
    """Why a trial failed, in its last line."""
    where = trial.error_file
    return last_line(Path(where).read_text() if where else "")


def last_line(text: str) -> str:
    """Of a traceback: what happened."""
    lines = text.strip().splitlines()
    return lines[-1] if lines else "unknown"
