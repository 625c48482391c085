"""The arms, and how they are trained."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from semflow import Objective, Perturbation, RectifiedFlow

FRESH = 0  # as a number of views or draws: drawn anew at each step
POOL = 17  # stored draws that stand for fresh ones where encoding at each step is too slow


@dataclass(frozen=True)
class Arm:
    """Where the augmentation comes from; all else is alike."""

    autoencoder: str
    views: int
    draws: int
    seed: int = 0

    @property
    def name(self) -> str:
        return f"{self.kind}-v{self.views}-k{self.draws}-seed{self.seed}"

    @property
    def kind(self) -> str:
        return "lossless" if self.autoencoder.startswith("space") else "lossy"


@dataclass(frozen=True, kw_only=True)
class Study:
    """How the arms are trained, and where the results go."""

    data: Path = Path(__file__).parents[4] / "shared/data/camvid"
    """CamVid: images/{train,val} and masks/{train,val}."""
    taef2: Path = Path(__file__).parents[4] / "shared/weights/taef2"
    """Weights of the lossy autoencoder; its arms are left out where they are not."""
    output: Path = Path("out/augmentation")
    """Results: a JSON file an arm, summary.json and augmentation.png."""
    every: int = 4
    """Train on every n-th training image, so that few steps are many passes."""
    width: int = 96
    height: int = 64
    channels: tuple[int, ...] = (24, 48, 72)
    """Of the UNet."""
    steps: int = 1000
    batch: int = 16
    lr: float = 1e-3
    """Peak of AdamW's learning rate, with a cosine to 0."""
    points: int = 4
    """How often an arm is measured."""
    flow: RectifiedFlow = field(default_factory=RectifiedFlow)
    objective: Objective = field(default_factory=Objective)
    perturbation: Perturbation = field(default_factory=Perturbation)
    workers: int = 2
    """Arms trained side by side, each on one thread."""
    seeds: int = 2
    """Seeds of the key arms; the others get one."""
    train: bool = True
    """Train what is left; --no-train only reports the runs that are there."""
    quick: bool = False
    """A smoke run: few arms, few steps, numbers that mean nothing."""

    @property
    def pool(self) -> Path:
        """File of the latents that the lossy arms share."""
        return self.output / "pool.safetensors"

    def arms(self) -> list[Arm]:
        """All runs, the most telling first."""
        lossless, lossy = "space-to-depth:8", str(self.taef2)
        key = [Arm(lossless, *vk) for vk in ((1, 0), (8, 0), (0, 0), (1, 4), (8, 4))]
        once = [Arm(lossless, *vk) for vk in ((8, 1), (32, 0), (2, 0), (8, 2), (8, 8))]
        if self.taef2.is_dir():
            key += [Arm(lossy, 2, k) for k in (4, POOL)]
            once += [Arm(lossy, 2, k) for k in (1, 2, 8)]
        if self.quick:
            return [key[0], key[3], key[-1]]
        return (
            key + once + [replace(arm, seed=seed) for seed in range(1, self.seeds) for arm in key]
        )
