"""What the paper's three experiments have in common, as its released code has it.

SemFlow, arXiv 2405.20282; configs/*.yaml, scripts/semrf.py and module/data of its code. Stable
Diffusion 1.5 is where UNet, autoencoder and the empty sentence's embedding come from. Batch sizes
there are of one GPU, and on how many it ran is left open (``--num_processes [GPUS]``): 8 is our
choice. A batch size here is that of all GPUs, so that another ``--workers`` trains the same.

Where we differ on purpose from it is listed in docs/tutorials/reproduce.md.
"""

from __future__ import annotations

from typing import Any

from pipelines.config import RayOptions
from semflow import Perturbation, Solver

STABLE_DIFFUSION = "stable-diffusion-v1-5/stable-diffusion-v1-5"
GPUS = 8

ENCODE: dict[str, Any] = {
    "autoencoder": STABLE_DIFFUSION,
    "height": 512,
    "width": 512,
    "palette": "grid",
    "perturbation": Perturbation(kind="uniform", amplitude=0.05),
    "draws": 4,
    "ray": RayOptions(gpus_per_actor=1),
}

TRAIN: dict[str, Any] = {
    "velocity": "sd15",
    "init": STABLE_DIFFUSION,
    "betas": (0.9, 0.999),
    "eps": 1e-8,
    "weight_decay": 0.01,
    "clip": 1.0,
    "workers": GPUS,
    "segment": Solver(name="euler", steps=25),
    "synthesize": Solver(name="euler", steps=25),
    "ray": RayOptions(gpus_per_actor=1),
}
