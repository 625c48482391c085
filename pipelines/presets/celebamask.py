r"""CelebAMask-HQ as in the paper: faces of 19 classes at 512x512, 80k steps, bf16, ZeRO-2; on GPUs.

    python pipelines/encode.py celebamask --corpus.root DIR --output out/latents
    python pipelines/train.py celebamask --data out/latents --output out/run
    python pipelines/evaluate.py --model out/run/model --data out/latents --output out/report \
        --ray.gpus-per-actor 1 --metrics.real DIR/CelebA-512-img --metrics.download
    python pipelines/label.py --model out/run/model --images DIR/CelebA-512-img \
        --output out/labels --ray.gpus-per-actor 1
    python pipelines/score.py celebamask --corpus.root DIR --labels out/labels \
        --output out/scores --ignore-classes background --ignore-pixels
    python pipelines/synthesize.py --model out/run/model --masks DIR/CelebAMask-HQ-mergemask \
        --output out/images --samples 4 --ray.gpus-per-actor 1

DIR holds CelebA-512-img, CelebAMask-HQ-mergemask and metas/{train,val}.txt; with the masks as they
are handed out, a file a part, the first preset is 'celebamask-parts'. 8 GPUs, unless --workers and
--actors say otherwise; label and synthesize take all there are, evaluate one.
docs/tutorials/reproduce.md has hours, disk and where we differ from the paper.

The paper (SemFlow, arXiv 2405.20282; second-hand, from transcriptions): FID 32.6 and LPIPS 0.393 of
images from masks, 25 steps of Euler. A Frechet distance of other features than FID's does not
compare. Nothing of this size has been trained by this project.

Faces are square, so that the paper's random crop of the whole short side is all of the photo: two
views, as it is and mirrored, are its augmentation. Masks are perturbed and encoded at every step,
as in the released code; --no-online-masks trains on the stored draws alone, and is faster.
"""

from __future__ import annotations

from pipelines.corpora.known import KNOWN
from pipelines.dataset.config import EncodeConfig
from pipelines.presets import paper
from pipelines.training.config import TrainConfig

ENCODE = EncodeConfig(
    corpus=KNOWN["celebamask"][1],
    views=2,
    min_scale=1.0,
    **paper.ENCODE,
)

TRAIN = TrainConfig(
    steps=80_000,
    batch_size=32 * paper.GPUS,
    micro_batch_size=32,
    lr=2e-5,
    schedule="linear",
    warmup_steps=500,
    precision="bf16",
    zero_stage=2,
    online_masks=True,
    validate_every=5000,
    checkpoint_every=2000,
    **paper.TRAIN,
)
