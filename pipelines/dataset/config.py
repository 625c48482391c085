"""What an encode is told, and the recipe: the part of it that decides the latents."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from pipelines import config
from pipelines.config import RayOptions
from pipelines.corpora import Corpus
from pipelines.corpora.masks import LabelMap
from pipelines.corpora.pixels import FULL
from pipelines.corpora.truth import label_map
from pipelines.dataset.latents import FORMAT
from semflow import Palette, Perturbation, load_autoencoder, make_palette
from semflow.codecs.base import MaskCodecName
from semflow.codecs.blocks import Blocks
from semflow.masks.palette import PaletteKind

BLOCK_BYTES = 32 << 20
"""Of the pixels and ids that are decoded, and then encoded, as one."""


@dataclass(frozen=True, kw_only=True)
class EncodeConfig:
    """What to encode, and how."""

    corpus: Corpus
    """The photos and masks."""
    output: str = "out/latents"
    """Folder or URI of the latent dataset."""
    autoencoder: str = "space-to-depth"
    """'space-to-depth[:factor]' (lossless, no weights), a diffusers folder, or a hub id."""
    height: int = 512
    """Pictures are resized to this height in pixels."""
    width: int = 512
    """And to this width."""
    palette: PaletteKind = "spread"
    """Anchors: 'grid' is the paper's, 'spread' as far apart as possible, 'sphere' on a sphere."""
    mask_codec: MaskCodecName = "anchors"
    """How masks become latents: 'anchors' are colours through the photo's autoencoder, as in the
    paper; 'learned' is a code of their own, fitted to the corpus's masks in a minute or two, which
    gives better masks, and images that are noisy yet (docs/reference/masks.md); 'linear' is that
    without its networks. Of these two an amplitude of 1.7 is noise as wide as the code."""
    perturbation: Perturbation = field(default_factory=Perturbation)
    """Of the mask pixels, before the autoencoder; with a code of their own, of its channels for
    that."""
    draws: int = 4
    """Encodings of each mask: one clean and the others perturbed, of which training picks one at
    each step."""
    views: int = 1
    """Views of each training pair: the whole, then random crops, every second one mirrored."""
    min_scale: float = 0.5
    """Least side of a random crop, as a share of the largest that fits; 1 does not crop."""
    shard_rows: int = 512
    """Rows a file. About 256 MB is a good size: 512 rows of 512x512 through an 8x autoencoder with
    K = 4 are about 80 MB."""
    row_group_rows: int = 32
    """Rows a row group, the unit that training reads and shuffles."""
    batch_size: int = 16
    """Views that an actor encodes at once; part of what makes latents alike to the last bit."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of the autoencoder's arithmetic; latents are stored in half precision."""
    compile: bool = False
    """Compile the autoencoder: minutes at the start, faster after it; for long encodes on GPUs."""
    actors: int = 0
    """Encoders that work side by side. 0 takes one a GPU, or without GPUs one a core, at most 4 on
    a machine."""
    threads: int = 0
    """CPU threads of an encoder; 0 divides a machine's cores among its encoders."""
    max_bad_share: float = 0.05
    """The job stops when more than this share of the pairs cannot be used."""
    seed: int = 0
    """Of the views and the perturbations."""
    overwrite: bool = False
    """Remove what is at the output first."""
    ray: RayOptions = field(default_factory=RayOptions)

    def __post_init__(self) -> None:
        if min(self.draws, self.views, self.shard_rows, self.row_group_rows, self.batch_size) < 1:
            raise ValueError("draws, views, rows and batch size are at least 1")
        if self.shard_rows % self.views:
            raise ValueError(f"--shard-rows {self.shard_rows} must be a multiple of --views")
        if not 0 < self.min_scale <= 1:
            raise ValueError("--min-scale lies in (0, 1]")

    def make_palette(self) -> Palette:
        return make_palette(self.palette, self.corpus.classes)

    def views_of(self, split: str) -> int:
        """Views of each pair of a split: only training pairs have more than the whole one."""
        return self.views if split == self.corpus.splits[0] else 1

    def block_inputs(self, views: int) -> int:
        """Pairs of so many views that are handed to an encoder at a time: some megabytes.

        Their views are whole batches, so that what is encoded with what depends on the batch size
        alone. Ray Data takes about a tenth of a second a block, whatever is in it.
        """
        least = self.batch_size // math.gcd(self.batch_size, views)
        fitting = BLOCK_BYTES // (4 * self.height * self.width * views)  # pixels and ids
        return min(max(1, fitting // least) * least, self.shard_rows // views)

    def labels(self) -> LabelMap:
        """What the values of the corpus's masks mean."""
        return label_map(self.corpus)


C = TypeVar("C", bound=EncodeConfig)


def absolute(cfg: C, *more: str) -> C:
    """The configuration as every worker can read it, with ``more`` keys of paths."""
    # An autoencoder is a folder, a hub id, or the name of one of ours.
    folder = ["autoencoder"] if Path(cfg.autoencoder).is_dir() else []
    return config.absolute_paths(cfg, "output", "corpus.root", *folder, *more)


def recipe(cfg: EncodeConfig, palette: Palette, codec: Blocks | None = None) -> dict[str, Any]:
    """All that decides the latents of a pair, wherever the corpus lies.

    Nothing of the machine is in it: how many actors or threads worked changes nothing but the last
    bits of a lossy autoencoder's arithmetic.
    """
    autoencoder = load_autoencoder(cfg.autoencoder)
    # What is newer than the format is named where it is given: work of before goes on.
    newer = {"ignore_colours", "threshold"}
    labels = {k: v for k, v in config.to_dict(cfg.labels()).items() if v or k not in newer}
    share = cfg.corpus.val_share  # with another one, pairs would be in both splits
    return {
        **({"val_share": [share, cfg.corpus.groups]} if share else {}),
        "format": FORMAT,
        "autoencoder": {
            "source": cfg.autoencoder,
            "stochastic": autoencoder.stochastic,
            "precision": cfg.precision,
            **autoencoder.identity(),
        },
        "palette": palette.to_json(),
        **({"mask_codec": codec.identity()} if codec else {}),
        "labels": labels
        | {"resize_photos": cfg.corpus.resize_photos}
        | ({"white": cfg.corpus.white} if (cfg.corpus.white or FULL) != FULL else {})
        | ({"masks_drawn": "stored"} if cfg.corpus.masks_drawn == "stored" else {}),
        "height": cfg.height,
        "width": cfg.width,
        "perturbation": config.to_dict(cfg.perturbation),
        "draws": cfg.draws,
        "views": cfg.views,
        "min_scale": cfg.min_scale,
        "seed": cfg.seed,
        "shard_rows": cfg.shard_rows,
        "row_group_rows": cfg.row_group_rows,
        "batch_size": cfg.batch_size,
    }
