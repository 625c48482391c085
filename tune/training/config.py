"""What a search for a training is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pipelines.config import RayOptions
from pipelines.training.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class SearchTrainingConfig:
    """What to search for, and how far."""

    data: str = "out/latents"
    """Latent dataset: folder or URI."""
    output: str = "out/search-training"
    """Folder or URI of the results."""
    search: tuple[str, ...] = ("lr=1e-4..1e-2:log",)
    """Dimensions: KEY=LOW..HIGH, KEY=LOW..HIGH:log or KEY=A,B,C."""
    scheduler: Literal["asha", "pbt"] = "asha"
    """'asha' ends the worse of the trials early; 'pbt' lets them go on from the better ones'."""
    trials: int = 20
    """Trainings, the preset's own among them; of pbt, the population."""
    rungs: int = 3
    """Looks at a training, the last at its end; of pbt, the times between exchanges."""
    reduction: int = 3
    """Of asha: one in so many goes on to the next rung."""
    concurrent: int = 1
    """Trials at once; the machine's cores are shared among them."""
    hours: float | None = None
    """Stop after so long."""
    seed: int = 0
    """Of the proposals."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """What is not searched, as for train.py; --data and --output are the search's."""
    overwrite: bool = False
    """Remove what is at the output first."""
    ray: RayOptions = field(default_factory=RayOptions)

    def __post_init__(self) -> None:
        if min(self.trials, self.rungs, self.concurrent) < 1 or self.reduction < 2:
            raise ValueError("--trials, --rungs, --concurrent are at least 1, --reduction 2")
        if not self.search:
            raise ValueError("--search names at least one dimension")
