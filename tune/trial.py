"""One trial of a solver search: a candidate, scored on more and more samples.

It only looks at a finished model, so that its actor can take the next candidate with the model
still in memory.
"""

from __future__ import annotations

import time
import zipfile
from typing import Any

import numpy as np
import torch
from ray import tune
from torch import Tensor

from infra import storage
from pipelines import config
from pipelines.latents import Rows, read_manifest
from pipelines.predictors import load_model
from pipelines.synthesis.drafts import sample_seed
from semflow import ConfusionMatrix, SemFlow, Solver
from semflow.frechet import pyramid_features
from tune.candidates import Candidate
from tune.scores import Scored

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
        made = []
        started = time.perf_counter()
        for draw in (0, 1):
            seeds = [sample_seed(0, name, draw) for name in self.rows.names[batch]]
            made.append(
                model.synthesize(
                    ids, seeds, solver=candidate.solver, perturbation=candidate.perturbation
                )
            )
        seconds = (time.perf_counter() - started) / 2
        counts = np.add(
            *(confusions(model.segment(one.images).ids, ids, len(model.palette)) for one in made)
        )
        one, other = (result.images.float().cpu() for result in made)
        photos = model.autoencoder.decode(self.rows.x_0[batch].to(model.device)).clamp(-1, 1)
        return Scored(
            counts, float(made[0].nfe), seconds / len(ids),
            features=pyramid_features(one).numpy(),
            real=pyramid_features(photos.float().cpu()).numpy(),
            diversity=(one - other).square().mean((1, 2, 3)).sqrt().numpy(),
        )  # fmt: skip


def segmented(model: SemFlow, x_0: Tensor, ids: Tensor, solver: Solver | None) -> Scored:
    """Photos' latents ``[B, C, h, w]`` against their masks ``[B, H, W]``."""
    started = time.perf_counter()
    result = model.segment_latents(x_0, solver)
    seconds = time.perf_counter() - started
    counts = confusions(result.ids, ids, len(model.palette))
    return Scored(counts, float(result.nfe), seconds / len(ids))


def joined(parts: list[Scored]) -> Scored:
    """Batches as one; evaluations and seconds are means over samples."""
    sizes = np.array([len(part) for part in parts])

    def mean(name: str) -> float:
        return float(np.average([getattr(part, name) for part in parts], weights=sizes))

    stacked = {name: np.concatenate([getattr(part, name) for part in parts])
               for name in ("confusion", "features", "real", "diversity")}  # fmt: skip
    return Scored(nfe=mean("nfe"), seconds=mean("seconds"), **stacked)


def confusions(predicted: Tensor, truth: Tensor, classes: int) -> np.ndarray[Any, Any]:
    """A confusion matrix for each sample: ``[N, K, K + 1]``."""
    found = []
    for one, other in zip(predicted.cpu(), truth, strict=True):
        matrix = ConfusionMatrix(classes)
        matrix.update(one, other)
        found.append(matrix.counts.numpy())
    return np.stack(found)
