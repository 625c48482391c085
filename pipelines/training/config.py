"""The configuration of training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pipelines.config import RayOptions
from semflow import FLOWS, Objective, RectifiedFlow, Solver
from semflow.flow.path import FlowName
from semflow.masks.decoding import check_window
from semflow.networks.velocity import VelocityPreset


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
    flow: FlowName = "semflow"
    """'semflow': straight from image to mask and back. 'symmflow': noise to image beside mask to
    noise, in one network (Symmetrical Flow Matching, arXiv 2506.10634)."""
    path: RectifiedFlow = field(default_factory=RectifiedFlow)
    """Where on its path training spends its time."""
    precondition: bool | None = None
    """Let the straight part of the velocity go around the network, as EDM does
    (docs/reference/symmflow.md). None does it with symmflow, unless --init gives weights that were
    trained without."""
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
    """Rows that a worker takes at once at most; the rest of its share is accumulated. None takes
    its whole share."""
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
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of the model in training; optimizer state and averages are float32 whatever it is."""
    zero_stage: Literal[0, 1, 2, 3] = 0
    """DeepSpeed's ZeRO: 1 splits the optimizer's state over the workers, 2 the gradients too, 3
    the weights too. With bf16 or fp16, 0 is 1: their float32 weights are split anyway."""
    offload: Literal["none", "optimizer", "weights"] = "none"
    """What is kept in the memory of the CPU: the optimizer's state (ZeRO 1 to 3), or the weights
    too (ZeRO-3)."""
    activation_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: a third more work
    for a fraction of the memory."""
    compile: bool = False
    """torch.compile the UNet: minutes at the start, faster after it."""
    channels_last: bool = False
    """Feed the UNet channels-last tensors. Measure before you keep it: on an H200 in bf16 it was
    slower (docs/reference/training.md)."""

    workers: int = 1
    """Training workers; each takes --ray.gpus-per-actor GPUs."""
    min_workers: int | None = None
    """Go on with as few as these when machines are lost, and with more when they come back. The
    rows of every step stay the same. None waits for all of --workers."""
    resize_interval_s: float = 60.0
    """With --min-workers: how often to look whether there is room for more workers. Each change of
    their number goes back to the last checkpoint."""
    cpus_per_worker: float | None = None
    """Cores that Ray counts for a worker. None is 1 beside a GPU, and half a one without: a small
    machine may have more workers than cores."""
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
    validate_beside: bool = False
    """Validate checkpoints on other resources while training goes on: a GPU where training has
    them, else a core. Otherwise the workers do it, between two steps."""
    checkpoint_every: int = 1000
    """Steps between checkpoints; a restart repeats at most so many."""
    keep_checkpoints: int = 2
    """Checkpoints that are kept."""
    keep_best: bool = False
    """Keep those of the best validation mIoU, and the latest; otherwise the latest ones."""
    max_failures: int = 3
    """How often Ray Train starts failed workers again, from the last checkpoint."""
    register_as: str | None = "semflow"
    """Name in MLflow's registry, of which the finished model becomes a version; None registers
    nothing."""
    segment: Solver = field(default_factory=Solver)
    """Solver for masks, in validation and as the model's default."""
    window: int = 1
    """Pixels a side over which the finished model averages class probabilities when it reads masks
    (semflow/masks/decoding.py); 1 takes the nearest anchor, as the paper does."""
    refine_steps: int = 0
    """Steps at the end in which a small network learns to read masks better on the finished flow,
    looking at the photo as well (docs/reference/masks.md). What is synthesized does not change. 0
    is none, as in the paper."""
    synthesize: Solver = field(default_factory=Solver)
    """Solver for images, as above."""
    ray: RayOptions = field(default_factory=RayOptions)

    def __post_init__(self) -> None:
        check_window(self.window)
        for name in ("steps", "batch_size", "workers", "log_every", "validate_every",
                     "checkpoint_every", "keep_checkpoints", "shuffle_groups"):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} is at least 1")
        if self.refine_steps < 0:
            raise ValueError("--refine-steps is at least 0")
        if self.batch_size < self.workers:
            raise ValueError(f"{self.workers} workers have no share in {self.batch_size} rows")
        if not 1 <= (self.min_workers or 1) <= self.workers:
            raise ValueError("--min-workers lies between 1 and --workers")
        if self.precision == "fp16" and not self.ray.gpus_per_actor:
            raise ValueError("--precision fp16 needs --ray.gpus-per-actor; CPUs train in bf16")
        if self.precondition and self.init:
            raise ValueError("--precondition is for a new network: one of --init keeps its own way")
        if self.offload != "none" and not self.effective_zero_stage:
            raise ValueError(f"--offload {self.offload} needs --zero-stage 1 or more")
        if self.offload == "weights" and self.zero_stage != 3:
            raise ValueError("--offload weights needs --zero-stage 3")

    @property
    def flow_path(self) -> RectifiedFlow:
        """The path of the flow that was chosen."""
        return FLOWS[self.flow](**self.path.__dict__)

    @property
    def preconditioned(self) -> bool:
        """Whether a new network is to be."""
        return self.flow == "symmflow" if self.precondition is None else self.precondition

    @property
    def effective_zero_stage(self) -> int:
        return max(self.zero_stage, int(self.precision != "fp32"))

    def lanes(self, rank: int, workers: int) -> range:
        """Which rows of each batch are a worker's: shares differ by one row at most."""
        return range(rank * self.batch_size // workers, (rank + 1) * self.batch_size // workers)

    def micro_batches(self, workers: int) -> int:
        """Parts into which every worker's share is cut."""
        share = -(-self.batch_size // workers)
        return -(-share // (self.micro_batch_size or share))
