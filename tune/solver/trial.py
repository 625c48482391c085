"""One trial of a solver search: a candidate, scored on more and more samples.

It only looks at a finished model, so that its actor can take the next candidate with the model
still in memory.
"""

from __future__ import annotations

import zipfile
from typing import Any

import torch
from ray import tune

from infra import storage
from pipelines import config
from pipelines.dataset.latents import Rows, read_manifest
from pipelines.evaluation.judging import segmented, synthesized
from pipelines.evaluation.scores import Scored, joined
from pipelines.inference.predictors import load_model
from tune.solver.candidates import Candidate

TRIALS = "trials"
"""Below a search's output: what each candidate found, sample by sample."""


def trial_file(output: str, name: str) -> str:
    return storage.join(output, TRIALS, name.replace(" ", "-") + ".npz")


def recall(output: str, name: str) -> Scored | None:
    """What an earlier or interrupted search had found of a candidate, if anything.

    Raises:
        ValueError: when its file cannot be read.
    """
    where = trial_file(output, name)
    if not storage.exists(where):
        return None
    try:
        return Scored.load(where)
    except (ValueError, OSError, zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{where} cannot be read; remove it to try this again") from error


class SolverTrial(tune.Trainable):
    """A Tune trainable whose every step scores the next samples."""

    def setup(self, config: dict[str, Any]) -> None:
        """Load the model and the rows, once an actor."""
        common = config["common"]
        if common["threads"]:
            torch.set_num_threads(common["threads"])
        self.model = load_model(common["model"])
        self.rows = Rows(read_manifest(common["data"]), common["split"], common["rungs"][-1])
        self.common = common
        self._start(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take another candidate; Tune calls it on an actor that has finished one."""
        self._start(new_config)
        return True

    def _start(self, config_: dict[str, Any]) -> None:
        self.candidate = config.from_dict(Candidate, config_["candidate"])
        self.candidate.perturbation.check(self.model.palette)
        before = recall(self.common["output"], self.candidate.name)
        self.parts = [before] if before else []
        self.done = len(before) if before else 0

    def step(self) -> dict[str, Any]:
        """Score up to the next rung."""
        rungs = self.common["rungs"]
        until = next((rung for rung in rungs if rung > self.done), rungs[-1])
        fresh = self.done < until
        while self.done < until:
            batch = slice(self.done, min(self.done + self.common["batch_size"], until))
            self.parts.append(self.score(batch))
            self.done = batch.stop
        found = joined(self.parts)
        last = until == rungs[-1]
        if fresh:
            found.save(trial_file(self.common["output"], self.candidate.name))
        return {"name": self.candidate.name, **found.summary(), "whole": last, "done": last,
                "spent_nfe": found.nfe * len(found)}  # fmt: skip

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Nothing: the trial's file has it all."""
        return {}

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Likewise."""

    @torch.inference_mode()
    def score(self, batch: slice) -> Scored:
        """One batch of rows."""
        candidate, model = self.candidate, self.model
        ids = self.rows.ids[batch]
        if candidate.direction == "segment":
            return segmented(model, self.rows.x_0[batch], ids, candidate.solver)
        return synthesized(
            model, self.rows.names[batch], self.rows.x_0[batch], ids, candidate.solver,
            candidate.perturbation,
        )  # fmt: skip
