"""The demo's scenes of handwritten digits at 64x64, lossless: minutes on two cores.

    python pipelines/demo.py

composes the scenes and runs every job on them; it prints each command before it runs it. No
setting of the paper's, as little as the preset 'camvid'.
"""

from __future__ import annotations

from pipelines.corpora import Corpus, digits
from pipelines.dataset.config import EncodeConfig
from pipelines.training.config import TrainConfig
from semflow import Objective, Perturbation, RectifiedFlow, Solver

ENCODE = EncodeConfig(
    corpus=Corpus(classes=digits.CLASSES),
    height=64,
    width=64,
    palette="sphere",
    perturbation=Perturbation(amplitude=0.25, exponent=2.0),
    draws=2,
)

TRAIN = TrainConfig(
    velocity="small",
    path=RectifiedFlow(at_image=0.5, shift=4.0),
    objective=Objective(anchor_weight=1.0),
    online_masks=True,
    steps=2000,
    batch_size=16,
    lr=1e-3,
    schedule="cosine",
    warmup_steps=100,
    validate_every=500,
    checkpoint_every=500,
    segment=Solver(steps=1),
    window=3,
    synthesize=Solver(steps=5),
)
