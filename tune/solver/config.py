"""What a search for a solver is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pipelines.config import RayOptions
from semflow.flow.solvers import SolverName


@dataclass(frozen=True, kw_only=True)
class SearchSolverConfig:
    """What to search for, and how far."""

    model: str
    """Folder or URI of a trained model."""
    data: str = "out/latents"
    """Latent dataset: folder or URI."""
    split: str = "val"
    """Its split to score on."""
    output: str = "out/search"
    """Folder or URI of the results."""
    direction: Literal["both", "segment", "synthesize"] = "both"
    """'segment' searches for masks, 'synthesize' for images and for their perturbation."""
    solvers: tuple[SolverName, ...] = ("euler", "midpoint", "reversible-heun", "dopri5")
    """Those to try."""
    max_nfe: int = 12
    """Most evaluations of the velocity; the paper's 25 are tried in any case."""
    amplitudes: tuple[float, ...] = (0.0, 0.1, 0.25, 0.5, 0.75, 0.95)
    """Perturbations to try, as shares of what the palette bears before a label could change."""
    samples: int = 256
    """Rows that a trial sees at most, from the split's first."""
    rungs: int = 3
    """Looks at a trial: after all samples, a half, a quarter and so on."""
    curvature_samples: int = 8
    """Rows from which curvature is measured and grids are learned."""
    tolerance: float = 0.01
    """mIoU that the choice may lie below the paper's setting, at the end of its 95 % interval."""
    frechet_tolerance: float = 0.1
    """Share by which its Frechet distance may lie above, likewise."""
    trials: int | None = None
    """Try only so many, the cheapest first."""
    hours: float | None = None
    """Stop after so long."""
    nfe: float | None = None
    """Stop after so many evaluations of the velocity over all trials and samples."""
    batch_size: int = 32
    """Rows at once."""
    cpus_per_trial: int = 1
    """Cores, and threads, of a trial; as many trials run at once as there is room for."""
    write_defaults: bool = False
    """Make what was found the defaults that the model's folder carries."""
    overwrite: bool = False
    """Remove what is at the output first."""
    ray: RayOptions = field(default_factory=RayOptions)

    def __post_init__(self) -> None:
        if self.samples < 2 or self.rungs < 1 or self.batch_size < 1 or self.max_nfe < 1:
            raise ValueError("--samples is at least 2; --rungs, --batch-size, --max-nfe at least 1")
