"""Presets: named configurations, chosen by the first word of the command line."""

from __future__ import annotations

from pipelines import digits
from pipelines.config import RayOptions
from pipelines.corpora import Corpus
from pipelines.corpora.known import KNOWN
from pipelines.encodeconfig import EncodeConfig
from pipelines.trainconfig import TrainConfig
from semflow import Objective, RectifiedFlow, Solver

ENCODE = {
    "camvid": (
        "CamVid's 11 classes at 128x96, lossless: a study of street scenes for two cores.",
        EncodeConfig(
            corpus=KNOWN["camvid"][1],
            height=96,
            width=128,
            views=8,
            palette="sphere",
        ),
    ),
    "digits": (
        "The demo's scenes of handwritten digits at 64x64, lossless.",
        EncodeConfig(
            corpus=Corpus(classes=digits.CLASSES), height=64, width=64, palette="sphere", draws=2
        ),
    ),
} | {
    name: (about, EncodeConfig(corpus=corpus))
    for name, (about, corpus) in KNOWN.items()
    if name != "camvid"
}

TRAIN = {
    "camvid": (
        "15 minutes on two cores, on what encode.py camvid makes.",
        TrainConfig(
            velocity="small",
            path=RectifiedFlow(at_image=0.5, at_mask=0.1),
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
            synthesize=Solver(steps=10),
        ),
    ),
    "digits": (
        "The demo's: minutes on two cores, on what encode.py digits makes.",
        TrainConfig(
            velocity="small",
            path=RectifiedFlow(at_image=0.6, at_mask=0.15),
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
            synthesize=Solver(steps=1),
        ),
    ),
    "paper": (
        "CelebAMask-HQ as in the paper: SD-1.5, 80k steps, bf16, ZeRO-2; on GPUs.",
        TrainConfig(
            velocity="sd15",
            init="stable-diffusion-v1-5/stable-diffusion-v1-5",
            steps=80_000,
            batch_size=256,
            micro_batch_size=32,
            workers=8,
            lr=2e-5,
            schedule="linear",
            precision="bf16",
            zero_stage=2,
            online_masks=True,
            ray=RayOptions(gpus_per_actor=1),
        ),
    ),
}
