"""What a reflow is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pipelines.config import RayOptions
from pipelines.inference.predictors import ModelOptions
from pipelines.training.config import TrainConfig
from semflow import Solver

CoupleDirection = Literal["synthesize", "segment", "both"]


@dataclass(frozen=True, kw_only=True)
class CouplingOptions:
    """Which couplings, and how they are made."""

    direction: CoupleDirection = "both"
    """From masks to images ('synthesize': labels stay exact), from photos to masks ('segment':
    photos stay real), or half of the rows each."""
    couplings: int | None = None
    """How many, of training rows that are drawn. None couples every row."""
    solver: Solver = field(default_factory=lambda: Solver(name="heun", steps=16))
    """How the flow is followed, nearly exactly: what is learned cannot be better."""
    seed: int = 0
    """Of the perturbations, and of which rows are coupled."""
    shard_rows: int = 512
    """Rows a file; a restart repeats at most so many an actor."""
    row_group_rows: int = 32
    """Rows a row group, the unit that training reads and shuffles."""
    actors: ModelOptions = field(default_factory=ModelOptions)
    """How the model runs."""

    def __post_init__(self) -> None:
        if min(self.shard_rows, self.row_group_rows, self.couplings or 1) < 1:
            raise ValueError("--couplings and the rows of a shard and a group are at least 1")


@dataclass(frozen=True, kw_only=True)
class ReflowConfig(CouplingOptions):
    """What to straighten, and how."""

    model: str = "out/run/model"
    """Folder or URI of the trained model."""
    data: str = "out/latents"
    """Latent dataset that it was trained on: folder or URI. For a second reflow, still this one,
    with the model of the first."""
    output: str = "out/reflow"
    """Folder or URI of all that comes of it."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """The training on the couplings, from the model's weights. Its data, output, init and online
    masks are this job's to say."""
    judge_rows: int = 256
    """Rows of the validation split on which both models are judged, from the first."""
    judge_steps: tuple[int, ...] = (1, 2, 4, 25)
    """Steps of Euler at which they are judged."""
    overwrite: bool = False
    """Remove what is at the output first."""
    ray: RayOptions = field(default_factory=RayOptions)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.judge_rows < 2 or not self.judge_steps or min(self.judge_steps) < 1:
            raise ValueError("--judge-rows is at least 2, --judge-steps name one or more steps")
