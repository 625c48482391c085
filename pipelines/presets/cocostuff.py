r"""COCO-Stuff as in the paper: 171 classes at 512x512, 320k steps, fp32; on GPUs, for days.

    python pipelines/encode.py cocostuff --corpus.root DIR --output out/latents
    python pipelines/train.py cocostuff --data out/latents --output out/run
    python pipelines/label.py --model out/run/model --images DIR/val2017 --output out/labels \
        --ray.gpus-per-actor 1
    python pipelines/score.py cocostuff --corpus.root DIR --labels out/labels --output out/scores
    python pipelines/evaluate.py --model out/run/model --data out/latents --output out/report \
        --ray.gpus-per-actor 1 --metrics.real DIR/val2017 --metrics.download
    python pipelines/synthesize.py --model out/run/model --masks MASKS --output out/images \
        --ray.gpus-per-actor 1

DIR holds train2017, val2017 and annotations/{train2017,val2017}, pixel maps with COCO's raw ids, of
which 171 are classes. MASKS is a folder of masks such as out/labels/masks; for annotations/val2017
add --masks-are corpus. 8 GPUs, unless --workers and --actors say otherwise; label and synthesize
take all there are, evaluate one.
docs/tutorials/reproduce.md has hours, disk and where we differ from the paper.

The paper (SemFlow, arXiv 2405.20282; second-hand, from transcriptions): mIoU 38.6 with 25 steps of
Euler (1: 28.3, 2: 31.0, 5: 36.9, 10: 38.4, 100: 38.3); a rerun by SymmFlow's authors (arXiv
2506.10634) has 35.7. Nothing of this size has been trained by this project.

The paper crops a square of the whole short side at a random place at each step. Here a pair has
eight views: all of it, and seven such crops (the side within 1 % of the short one), every second
one mirrored. In 320k steps a view is seen 43 times, and each of its three perturbed draws 14 times:
masks are not encoded again at every step, as the released code does (--online-masks would).
"""

from __future__ import annotations

from pipelines.corpora.known import KNOWN
from pipelines.dataset.config import EncodeConfig
from pipelines.presets import paper
from pipelines.training.config import TrainConfig

ENCODE = EncodeConfig(
    corpus=KNOWN["cocostuff"][1],
    views=8,
    min_scale=0.99,
    **paper.ENCODE,
)

TRAIN = TrainConfig(
    steps=320_000,
    batch_size=16 * paper.GPUS,
    micro_batch_size=16,
    lr=1e-5,
    schedule="constant",
    warmup_steps=10_000,
    validate_every=5000,
    checkpoint_every=2000,
    **paper.TRAIN,
)
