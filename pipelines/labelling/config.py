"""What a labelling is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pipelines.config import RayOptions
from pipelines.corpora import pixels
from pipelines.inference.predictors import ModelOptions, SolverChoice
from pipelines.labelling.forms import FORMS, FormName
from pipelines.labelling.tiled import TileOptions
from semflow.masks.decoding import check_window

SUMMARY = "labels.json"


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """What to label, and how."""

    model: str
    """Folder or URI of a trained model."""
    images: str
    """Folder or URI of photos, searched through."""
    output: str = "out/labels"
    """Folder or URI of the results."""
    resolution: Literal["photo", "model"] = "photo"
    """Size of the masks: each photo's own (nearest), or what the model saw."""
    tiles: TileOptions = field(default_factory=TileOptions)
    """Photos in tiles of the model's size, instead of resized to it."""
    formats: tuple[FormName, ...] = ("png",)
    """What masks are written as; several may be given."""
    confidence: bool = False
    """Write confidence/NAME.png: each pixel's margin, 8-bit grey, at the size the model saw."""
    review: int = 50
    """List so many photos with most pixels of low margin, review.csv and .html; 0 for no list."""
    settings: str | None = None
    """A file that tune/search_solver.py made: what it found goes before the model's own."""
    solver: SolverChoice = field(default_factory=SolverChoice)
    """Instead of the model's own."""
    window: int | None = None
    """Pixels a side over which class probabilities are averaged, instead of the model's own number;
    1 takes the nearest anchor."""
    actors: ModelOptions = field(default_factory=ModelOptions)
    """How the model runs."""
    photos_per_shard: int | None = None
    """Photos a file of the table; a restart repeats at most two files' photos an actor. If not
    given, 256, or 32 with --tiles, which is for large photos."""
    max_bad_share: float = 0.05
    """The job stops when more than this share of the photos cannot be used."""
    overwrite: bool = False
    """Remove what is at the output first."""
    max_pixels: int = pixels.MAX_PIXELS
    """Photos with more are quarantined. While one is read, it takes an actor ten bytes a pixel."""
    ray: RayOptions = field(default_factory=RayOptions)

    def __post_init__(self) -> None:
        check_window(self.window or 1)
        if not self.formats:
            raise ValueError(f"--formats takes one or more of {', '.join(FORMS)}")
        if self.review < 0 or (self.photos_per_shard or 1) < 1:
            raise ValueError("--review is at least 0 and --photos-per-shard at least 1")

    @property
    def shard(self) -> int:
        """Photos a shard."""
        return self.photos_per_shard or (32 if self.tiles.on else 256)
