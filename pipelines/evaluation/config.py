"""What an evaluation, and a scoring of labels, are told."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipelines.config import RayOptions
from pipelines.corpora import Corpus
from pipelines.evaluation.metricoptions import MetricOptions
from pipelines.inference.predictors import ModelOptions, PerturbationChoice, SolverChoice
from semflow.masks.given import MasksAre


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What to evaluate, and on what."""

    model: str
    """Folder or URI of a trained model."""
    data: str = "out/latents"
    """Latent dataset: folder or URI."""
    split: str = "val"
    """Its split to use."""
    output: str = "out/report"
    """Folder or URI of the report."""
    limit: int | None = None
    """Rows to use, from the first; None uses all."""
    pictures: int = 8
    """Rows shown in the report."""
    samples: int = 5
    """Images synthesized from one mask, to see and measure how they differ."""
    seed: int = 0
    """Of the perturbations."""
    settings: str | None = None
    """A file that tune/search_solver.py made: what it found goes before the model's own."""
    segment: SolverChoice = field(default_factory=SolverChoice)
    """For masks, instead of the model's own."""
    window: int | None = None
    """Pixels a side over which class probabilities are averaged, instead of the model's own number;
    1 takes the nearest anchor."""
    synthesize: SolverChoice = field(default_factory=SolverChoice)
    """For images, instead of the model's own."""
    perturbation: PerturbationChoice = field(default_factory=PerturbationChoice)
    """Of the masks, instead of the model's own."""
    metrics: MetricOptions = field(default_factory=MetricOptions)
    """Scores of synthesized images."""
    actors: ModelOptions = field(default_factory=lambda: ModelOptions(actors=1))
    """How the model runs."""
    ray: RayOptions = field(default_factory=RayOptions)

    def __post_init__(self) -> None:
        if self.samples < 2 or self.pictures < 1 or (self.limit or 1) < 1:
            raise ValueError("--samples is at least 2, --pictures and --limit at least 1")


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """What to compare with what."""

    corpus: Corpus
    """The corpus with the true masks."""
    labels: str = "out/labels"
    """Folder or URI of predicted index PNGs named as the photos are, or label.py's output."""
    output: str = "out/scores"
    """Folder or URI of the scores."""
    split: str | None = None
    """Its split to score; None takes the corpus's last one."""
    masks_are: MasksAre = "classes"
    """What the values of predictions are. 'classes': class numbers, from 0 in the corpus's order,
    as label.py writes them. 'corpus': the values of the corpus's own mask files."""
    ignore_classes: tuple[str, ...] = ()
    """Classes that are left out of the mean IoU; their pixels still count for the others."""
    ignore_pixels: bool = False
    """Leave out, too, the pixels that are truly of these classes (torchmetrics' ignore_index)."""
    allow_missing: bool = False
    """Score what has a prediction; else the job ends when one is missing or cannot be read."""
    ray: RayOptions = field(default_factory=RayOptions)
