"""What can be set of the service."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from pipelines import config
from pipelines.config import RayOptions
from pipelines.corpora.pixels import MAX_PIXELS
from pipelines.inference.masks import MaskReader, mask_reader
from pipelines.inference.predictors import ModelOptions, PerturbationChoice, SolverChoice
from semflow import Palette
from semflow.masks.decoding import check_window
from semflow.masks.given import MasksAre
from semflow.sampler import Defaults


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """The model as a service: what `serve run` and a Serve config file may give too."""

    model: str
    """Folder or URI of a trained model."""
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
    masks_are: MasksAre | None = None
    """What the values of masks are whose request does not say it. 'classes': class numbers, as in
    all masks that we write, and 255 for no class. 'corpus': the values of the corpus's own files.
    None takes class numbers, and refuses a mask that could be both and is not in the model's
    colours."""
    corpus: str | None = None
    """With 'corpus': a preset of encode.py whose values they are, instead of those that the model
    knows."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the networks; latents between them, the solver and the palette stay float32."""
    replicas: int = 1
    """Processes that answer side by side, each with the model in memory."""
    threads: int = 0
    """Of a replica's arithmetic on CPUs; 0 divides the machine's cores among the replicas."""
    max_batch: int = 16
    """Most pictures computed at once: requests that wait are computed together. 1: no batching."""
    batch_wait_s: float = 0.002
    """How long the first of a batch waits for others, at most. While a batch is computed the next
    one gathers anyway, so that this matters only at low load."""
    max_samples: int = 16
    """Most images that one request may ask of a mask."""
    max_bytes: int = 20_000_000
    """Longest body; reading a longer one ends there."""
    max_pixels: int = 50_000_000
    """Most pixels of a photo or mask, by its header, before it is decoded."""
    max_requests: int = 256
    """Requests that a replica holds at once, with their files in memory; one more is told to come
    again (503)."""
    body_timeout_s: float = 30.0
    """How long a body may take to arrive."""
    allow_host: tuple[str, ...] = ()
    """Names under which the service is asked, beside its addresses and localhost: others may be a
    web page's, made to mean this machine. *.example.org are all below it, * is any."""
    access_log: bool = False
    """A line in the log for each request."""
    ray: RayOptions = field(default_factory=RayOptions)

    def __post_init__(self) -> None:
        check_window(self.window or 1)
        for key in ("replicas", "max_batch", "max_samples", "max_bytes", "max_pixels",
                    "max_requests"):  # fmt: skip
            if getattr(self, key) < 1:
                raise ValueError(f"{key} is at least 1, not {getattr(self, key)}")
        if self.batch_wait_s < 0 or self.body_timeout_s <= 0:
            raise ValueError("batch_wait_s is at least 0, body_timeout_s more than 0")
        if self.max_pixels > MAX_PIXELS:
            raise ValueError(f"max_pixels is at most {MAX_PIXELS}, for half a GiB")

    @property
    def options(self) -> ModelOptions:
        """How the predictors run, as the batch jobs say it."""
        return ModelOptions(
            batch_size=self.max_batch, actors=self.replicas, precision=self.precision
        )


@dataclass(frozen=True, kw_only=True)
class ServeConfig(ServiceConfig):
    """The service, and where it listens."""

    host: str = "127.0.0.1"
    """Address to listen at: this machine only. 0.0.0.0 is all of its networks; there are no
    passwords, so put a gateway with them in front."""
    port: int = 8000
    """Port to listen at."""


def service_reader(cfg: ServiceConfig, palette: Palette, defaults: Defaults) -> MaskReader:
    """What reads the masks of requests that do not say what they are.

    Raises:
        ValueError: when what was chosen does not fit the model.
    """
    return mask_reader(palette, defaults, cfg.masks_are, cfg.corpus, option="masks_are={}")


def of_arguments(args: dict[str, Any]) -> ServiceConfig:
    """A configuration from Serve's application arguments, whose keys may be dotted.

    Raises:
        ValueError: naming the key that is unknown or has a wrong value.
    """
    nested: dict[str, Any] = {}
    for key, value in args.items():
        *above, last = key.replace("-", "_").split(".")
        place = nested
        for name in above:
            place = place.setdefault(name, {})
        place[last] = value
    return config.from_dict(ServiceConfig, nested)
