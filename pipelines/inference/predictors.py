"""The model inside Ray Data actors: one class for labelling, one for synthesis.

Batches are dictionaries of numpy columns; rows with an ``error`` pass through untouched.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infra import storage
from semflow import Perturbation, SemFlow, Solver
from semflow.flow.solvers import SolverName
from semflow.hub.images import to_bytes
from semflow.masks.perturb import PerturbationKind


@dataclass(frozen=True, kw_only=True)
class SolverChoice:
    """What to change of the model's own solver; nothing by default."""

    name: SolverName | None = None
    """'euler', 'midpoint', 'heun', 'rk4', 'reversible-heun' or 'dopri5'."""
    steps: int | None = None
    """Steps of all solvers but dopri5."""
    grid: tuple[float, ...] | None = None
    """Times of the steps, from 0 to 1, instead of equal ones."""
    rtol: float | None = None
    """Relative tolerance of dopri5."""
    atol: float | None = None
    """Absolute tolerance of dopri5."""

    def over(self, default: Solver) -> Solver:
        """The solver to use, given the model's own."""
        chosen = {key: value for key, value in self.__dict__.items() if value is not None}
        if chosen.get("grid"):
            chosen.setdefault("steps", len(chosen["grid"]) - 1)
        elif "steps" in chosen or "name" in chosen:
            chosen["grid"] = ()  # the default's was for its own steps
        return replace(default, **chosen)


@dataclass(frozen=True, kw_only=True)
class PerturbationChoice:
    """What to change of the model's own perturbation; nothing by default."""

    kind: PerturbationKind | None = None
    """'uniform' or 'gaussian'."""
    amplitude: float | None = None
    """Largest change of a channel, on pixels in [-1, 1]; below half the anchor distance."""
    exponent: float | None = None
    """Spectral exponent: 0 is white, more is smoother. A model knows what it was trained with."""

    def over(self, default: Perturbation) -> Perturbation:
        """The perturbation to use, given the model's own."""
        chosen = {key: value for key, value in self.__dict__.items() if value is not None}
        return replace(default, **chosen)


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """How actors run a model."""

    batch_size: int = 16
    """Pictures at once."""
    actors: int = 0
    """Actors that work side by side, each with the model in memory. 0 takes one a GPU, or without
    GPUs one a core, at most 4 on a machine."""
    max_actors: int | None = None
    """Let their number grow to this while work waits and there is room. None keeps it."""
    threads: int = 0
    """CPU threads of an actor; 0 divides a machine's cores among its actors."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the networks; latents between them, the solver and the palette stay float32."""
    compile: bool = False
    """torch.compile the networks: minutes at the start of each actor, faster after it."""
    channels_last: bool = False
    """Keep the networks' weights channels-last."""
    price_per_hour: float | None = None
    """What all the machines cost an hour, to say what a million images cost."""

    @property
    def arithmetic(self) -> dict[str, Any]:
        """What decides the bits of a result."""
        return {key: getattr(self, key) for key in ("precision", "compile", "channels_last")}

    def __post_init__(self) -> None:
        if self.batch_size < 1 or min(self.actors, self.threads) < 0:
            raise ValueError("--actors.batch-size is at least 1; actors and threads, 0")
        if self.max_actors is not None and self.max_actors < max(1, self.actors):
            raise ValueError("--actors.max-actors is at least --actors.actors")


def load_model(model: str, options: ModelOptions | None = None) -> SemFlow:
    """The SemFlow folder at URI ``model``, on this process's GPU, or on the CPU."""
    with storage.local_folder(model) as folder:
        loaded = SemFlow.load(folder)
    loaded = loaded.to("cuda" if torch.cuda.is_available() else "cpu")
    return prepared(loaded, options) if options else loaded


def prepared(model: SemFlow, options: ModelOptions) -> SemFlow:
    """The same model, in place, as ``options`` want it to run."""
    if options.precision == "bf16":
        model.to(torch.bfloat16)
    if options.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if options.compile:
        model.velocity.unet.compile()
        for name, part in model.autoencoder.named_modules():
            if name.split(".")[-1] in ("encoder", "decoder"):
                part.compile()
    return model


def clock(device: torch.device) -> float:
    """Seconds, once ``device`` has done what it was given: a GPU is told, and not waited for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class Predictor:
    """A model in an actor, loaded once."""

    def __init__(
        self, model: str | SemFlow, options: ModelOptions, window: int | None = None
    ) -> None:
        """Load the SemFlow folder at URI ``model`` on the actor's GPU, or on the CPU.

        A model that was loaded as ``options`` want it may be shared between predictors. ``window``
        is for reading masks, instead of the model's own.
        """
        if options.threads:
            torch.set_num_threads(options.threads)
        self.model = load_model(model, options) if isinstance(model, str) else model
        if window:
            self.model = self.model.with_defaults(window=window)
        self.device = self.model.device


def good_rows(batch: dict[str, Any]) -> NDArray[np.int64]:
    """Indices of the rows that carry no error."""
    return np.flatnonzero([not error for error in batch["error"]])


def to_tensor(images: NDArray[np.uint8]) -> Tensor:
    """Pictures ``[B, H, W, 3]`` as the model takes them: ``[B, 3, H, W]`` in [-1, 1]."""
    return torch.from_numpy(images).movedim(-1, 1).float() / 127.5 - 1


class Segmenter(Predictor):
    """``pixels [H, W, 3] uint8`` to ``ids``, ``confidence [H, W] uint8`` and the mean ``margin``.

    Confidence is the margin of each pixel, times 255.
    """

    def __init__(
        self,
        model: str | SemFlow,
        options: ModelOptions,
        solver: Solver,
        window: int | None = None,
    ) -> None:
        super().__init__(model, options, window)
        self.solver = solver

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        images = np.stack(batch.pop("pixels"))
        ids = np.zeros(images.shape[:3], np.uint8)
        confidence = np.zeros_like(ids)
        margin = np.full(len(ids), np.nan, np.float32)
        good = good_rows(batch)
        if len(good):
            result = self.model.segment(to_tensor(images[good]), self.solver)
            ids[good] = result.ids.byte().cpu().numpy()
            margin[good] = result.margin.mean((1, 2)).cpu().numpy()
            confidence[good] = (255 * result.margin).round().byte().cpu().numpy()
        return batch | {"ids": ids, "confidence": confidence, "margin": margin}


class Synthesizer(Predictor):
    """``ids [H, W] uint8`` and ``seed`` to ``pixels [H, W, 3] uint8``."""

    def __init__(
        self,
        model: str | SemFlow,
        options: ModelOptions,
        solver: Solver,
        perturbation: Perturbation,
        window: int | None = None,
    ) -> None:
        super().__init__(model, options, window)
        self.solver, self.perturbation = solver, perturbation

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        ids = np.stack(batch["ids"])
        pixels = np.zeros((*ids.shape, 3), np.uint8)
        good = good_rows(batch)
        if len(good):
            seeds = [int(batch["seed"][i]) for i in good]
            result = self.model.synthesize(
                torch.from_numpy(ids[good]), seeds, solver=self.solver,
                perturbation=self.perturbation,
            )  # fmt: skip
            pixels[good] = to_bytes(result.images).movedim(1, -1).cpu().numpy()
        return batch | {"pixels": pixels}
