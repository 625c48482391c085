r"""Cityscapes as in the paper's code: 19 classes at 1024x512, 8k steps, bf16, ZeRO-2; on GPUs.

    python pipelines/encode.py cityscapes --corpus.root DIR --output out/latents
    python pipelines/train.py cityscapes --data out/latents --output out/run
    python pipelines/label.py --model out/run/model --images DIR/leftImg8bit/val \
        --output out/labels --ray.gpus-per-actor 1
    python pipelines/score.py cityscapes --corpus.root DIR --labels out/labels --output out/scores
    python pipelines/evaluate.py --model out/run/model --data out/latents --output out/report \
        --ray.gpus-per-actor 1
    python pipelines/synthesize.py --model out/run/model --masks MASKS --output out/images \
        --ray.gpus-per-actor 1

DIR holds leftImg8bit and gtFine as they unpack, whose raw ids become the 19 scored classes; where
the benchmark's scripts have made *_labelTrainIds.png, the preset 'cityscapes-train-ids' reads
those, with the same result. MASKS is a folder of masks such as out/labels/masks; for one of
*_labelIds.png alone add --masks-are corpus. 8 GPUs, unless --workers and --actors say otherwise;
label and synthesize take all there are, evaluate one.
docs/tutorials/reproduce.md has hours, disk and where we differ.

No figure of the paper's for Cityscapes is known to us. Later work (Semantic Prism; second-hand)
reports mIoU 60.7 for a direct decode of palette colours there. Nothing of this size has been
trained by this project.

Photos are resized whole, without a crop: two views, as it is and mirrored, are all of the paper's
augmentation. The released configuration saves every 10k steps and trains 8k, so that it never
saves; this one does every 1k.
"""

from __future__ import annotations

from dataclasses import replace

from pipelines.corpora.known import KNOWN
from pipelines.dataset.config import EncodeConfig
from pipelines.presets import paper
from pipelines.training.config import TrainConfig

ENCODE = replace(
    EncodeConfig(corpus=KNOWN["cityscapes"][1], views=2, min_scale=1.0, **paper.ENCODE),
    width=1024,
)

TRAIN = TrainConfig(
    steps=8000,
    batch_size=32 * paper.GPUS,
    micro_batch_size=32,
    lr=5e-5,
    schedule="linear",
    warmup_steps=500,
    precision="bf16",
    zero_stage=2,
    online_masks=True,
    validate_every=1000,
    checkpoint_every=1000,
    **paper.TRAIN,
)
