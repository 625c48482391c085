"""The configuration of training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pipelines.config import RayOptions
from semflow import Objective, RectifiedFlow, Solver
from semflow.velocity import VelocityPreset


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What to train, and how. The defaults are the paper's; presets differ."""

    data: str = "out/latents"
    """Latent dataset that encode.py made: folder or URI."""
    output: str = "out/run"
    """Folder or URI for checkpoints, samples and, at the end, model/."""

    velocity: VelocityPreset = "small"
    """The UNet: 'tiny' (3 M parameters), 'small' (7 M), 'base' (88 M) or 'sd15' (Stable Diffusion
    1.5's own, for 4-channel latents)."""
    init: str | None = None
    """Start from these weights: a SemFlow model, or a Stable Diffusion pipeline by folder or hub
    id. None starts at random."""
    flow: RectifiedFlow = field(default_factory=RectifiedFlow)
    """The path and where on it training spends its time."""
    objective: Objective = field(default_factory=Objective)
    """The loss."""
    online_masks: bool = False
    """Perturb and encode the masks afresh at every step, as the released code does, instead of
    picking one of the K stored draws. Exact, but costs an encoder's pass a step (next to nothing
    with a lossless autoencoder)."""

    steps: int = 10_000
    """Optimizer steps in all."""
    batch_size: int = 32
    """Rows a step over all workers, whatever their number."""
    micro_batch_size: int | None = None
    """Rows that a worker takes at once; the rest of its share is accumulated. None takes its whole
    share."""
    lr: float = 2e-5
    """Peak learning rate of AdamW."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How it decays after the warm-up, to 0 at the last step."""
    warmup_steps: int = 0
    """Steps over which it rises from 0."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's."""
    eps: float = 1e-8
    """AdamW's."""
    weight_decay: float = 0.01
    """AdamW's."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    ema_decay: float = 0.999
    """Of the averaged weights, which are what is validated and saved; it ramps up from 0.1."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the model in training; optimizer state and averages are float32 either way."""
    zero_stage: Literal[0, 1, 2, 3] = 0
    """DeepSpeed's ZeRO: 1 splits the optimizer's state over the workers, 2 the gradients too, 3
    the weights too."""

    workers: int = 1
    """Training workers; each takes --ray.gpus-per-actor GPUs."""
    threads: int | None = None
    """Threads of a worker without a GPU. None shares the machine's cores."""
    seed: int = 0
    """Of the weights, the data order and all that is drawn."""
    shuffle_groups: int = 16
    """Row groups, from all over the split, whose rows are mixed to batches; at most an epoch's."""

    log_every: int = 25
    """Steps between log lines."""
    validate_every: int = 1000
    """Steps between validations: mIoU and a picture of samples."""
    validate_rows: int = 256
    """Rows of the validation split to use, from the first."""
    checkpoint_every: int = 1000
    """Steps between checkpoints; a restart repeats at most so many."""
    keep_checkpoints: int = 2
    """Checkpoints that are kept, the latest."""
    max_failures: int = 3
    """How often Ray Train starts failed workers again, from the last checkpoint."""
    segment: Solver = field(default_factory=Solver)
    """Solver for masks, in validation and as the model's default."""
    synthesize: Solver = field(default_factory=Solver)
    """Solver for images, as above."""
    ray: RayOptions = field(default_factory=RayOptions)

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "workers", "log_every", "validate_every",
                     "checkpoint_every", "keep_checkpoints", "shuffle_groups"):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} is at least 1")
        self.micro_batch(self.workers)

    def micro_batch(self, workers: int) -> int:
        """Rows of a worker's micro-batch.

        Raises:
            ValueError: when the batch does not divide into whole micro-batches.
        """
        share, rest = divmod(self.batch_size, workers)
        micro = self.micro_batch_size or share
        if rest or not micro or share % micro:
            raise ValueError(
                f"a batch of {self.batch_size} does not divide into micro-batches of "
                f"{self.micro_batch_size or 'equal size'} on {workers} workers"
            )
        return micro
