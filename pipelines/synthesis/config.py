"""What a synthesis is told."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipelines.config import RayOptions
from pipelines.inference.predictors import ModelOptions, PerturbationChoice, SolverChoice
from pipelines.synthesis.edits import Edits
from pipelines.synthesis.formats import Format
from pipelines.synthesis.quality import Quality
from semflow.masks.given import MasksAre

SUMMARY = "images.json"


@dataclass(frozen=True, kw_only=True)
class SynthesizeConfig:
    """What to synthesize, and how."""

    model: str
    """Folder or URI of a trained model."""
    masks: str
    """Folder or URI of masks, searched through."""
    masks_are: MasksAre | None = None
    """What the values of masks are. 'classes': class numbers, as in all masks that we write, and
    255 for no class. 'corpus': the values of the corpus's own files. None takes class numbers, and
    quarantines a mask that could be both and is not in the model's colours."""
    corpus: str | None = None
    """With 'corpus': a preset of encode.py whose values they are, instead of those that the model
    knows."""
    output: str = "out/images"
    """Folder or URI of the results."""
    samples: int = 1
    """Images of each mask."""
    seed: int = 0
    """All seeds follow from it and the masks' names."""
    edits: Edits = field(default_factory=Edits)
    """Edited masks beside the originals."""
    quality: Quality = field(default_factory=Quality)
    """Which images are good enough."""
    format: tuple[Format, ...] = ("folder",)
    """What is written: 'folder', 'webdataset', 'parquet', or several."""
    val_share: float = 0.0
    """Share of the masks whose images are for validation, chosen by the masks' names."""
    settings: str | None = None
    """A file that tune/search_solver.py made: what it found goes before the model's own."""
    solver: SolverChoice = field(default_factory=SolverChoice)
    """Instead of the model's own."""
    perturbation: PerturbationChoice = field(default_factory=PerturbationChoice)
    """Instead of the model's own."""
    actors: ModelOptions = field(default_factory=ModelOptions)
    """How the model runs."""
    images_per_shard: int = 256
    """Images a file of the table; a restart repeats at most two files' images an actor."""
    max_bad_share: float = 0.05
    """The job stops when more than this share of the masks cannot be used."""
    overwrite: bool = False
    """Remove what is at the output first."""
    ray: RayOptions = field(default_factory=RayOptions)

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError("--samples is at least 1")
        if not 0 <= self.val_share < 1:
            raise ValueError("--val-share lies in [0, 1)")
        if not self.format or len(set(self.format)) != len(self.format):
            raise ValueError("--format takes folder, webdataset, parquet, each once")
