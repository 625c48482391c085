"""CamVid's 11 classes at 128x96, lossless: a study of street scenes, 15 minutes on two cores.

    python pipelines/encode.py camvid --corpus.root DIR --output out/latents
    python pipelines/train.py camvid --data out/latents --output out/run
    python pipelines/evaluate.py --model out/run/model --data out/latents --output out/report

DIR holds images/{train,val} and masks/{train,val}, ids 0 to 10, 11 for what is not labelled.
What it gave, and on what machine, is in README.md. This is no setting of the paper's: lossless
latents, anchors on a sphere, a smooth perturbation, the anchor loss and half of the times at the
photo's end.
"""

from __future__ import annotations

from pipelines.corpora.known import KNOWN
from pipelines.dataset.config import EncodeConfig
from pipelines.training.config import TrainConfig
from semflow import Objective, Perturbation, RectifiedFlow, Solver

ENCODE = EncodeConfig(
    corpus=KNOWN["camvid"][1],
    height=96,
    width=128,
    views=8,
    palette="sphere",
    perturbation=Perturbation(amplitude=0.25, exponent=2.0),
)

TRAIN = TrainConfig(
    velocity="small",
    path=RectifiedFlow(at_image=0.5, shift=4.0),
    objective=Objective(anchor_weight=0.5, class_balance=0.5),
    online_masks=True,
    steps=3000,
    batch_size=8,
    lr=5e-4,
    schedule="cosine",
    warmup_steps=100,
    validate_every=500,
    checkpoint_every=500,
    segment=Solver(steps=1),
    window=5,
    synthesize=Solver(steps=5),
)
