"""The codec of a dataset's masks, where they have one of their own: fitted, kept, and found again.

It is fitted once, to masks of the training split, before the first latent is made, and lies in
``OUTPUT/mask_codec``. What goes on with that output takes it from there, also where files were
added to the corpus since.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, replace

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from infra import storage
from pipelines.config import UserError
from pipelines.corpora import pixels
from pipelines.corpora.truth import read_mask
from pipelines.dataset.config import EncodeConfig
from pipelines.dataset.latents import Manifest
from pipelines.sharding import claim, runner
from pipelines.sharding.threads import side_by_side
from semflow import Autoencoder, Palette
from semflow.codecs.blocks import Blocks, Shape
from semflow.codecs.fit import fit
from semflow.sampler import MASK_CODEC

SAMPLE = 512
"""Masks that a codec is fitted to, at most, spread over the split."""
STEPS = 600
"""Of its training: a minute or two on two cores."""
WIDTH = 128


def shape_of(cfg: EncodeConfig, photo: Autoencoder) -> Shape | None:
    """Sizes of the codec that an encode asks for, beside the photo's; None for anchors."""
    if cfg.mask_codec == "anchors":
        return None
    return Shape(
        classes=len(cfg.corpus.classes), channels=photo.channels, factor=photo.factor,
        width=WIDTH * (cfg.mask_codec == "learned"),
    )  # fmt: skip


def with_style(palette: Palette, shape: Shape | None) -> Palette:
    """The palette, which knows whether a perturbation has channels of its own."""
    return replace(palette, style=shape.style if shape else None)


def make(
    cfg: EncodeConfig, palette: Palette, shape: Shape | None, listing: pa.Table
) -> Blocks | None:
    """The codec of these sizes: that at the output, else one fitted to masks of a listing.

    Raises:
        UserError: when no mask can be read.
    """
    if shape is None:
        return None
    before = claim.noted(cfg.output).get("mask_codec")
    if before == asdict(shape) and not cfg.overwrite and _kept(cfg.output):
        return load(cfg.output, palette)
    ids = _masks(cfg, listing)
    steps = STEPS if shape.width else 0
    with runner.progress(None, "fit the mask codec", steps) as bar:
        return fit(ids, palette, shape, steps=steps, seed=cfg.seed, told=lambda _: bar.update())


def _masks(cfg: EncodeConfig, listing: pa.Table) -> Tensor:
    """Class ids ``[N, H, W]`` at the dataset's size."""
    chosen = np.linspace(0, listing.num_rows - 1, min(SAMPLE, listing.num_rows)).astype(int)
    rows = listing.take(chosen).to_pylist()

    def read(row: dict[str, str]) -> pixels.Pixels | None:
        try:
            ids = read_mask(cfg.corpus, row["mask"], row["mask_part"])
        except pixels.BadInput:  # the encode says of each what is wrong with it
            return None
        return pixels.resize_ids(ids, cfg.width, cfg.height)

    found = runner.progress(side_by_side(read, rows), "masks for the codec", len(rows))
    masks = [ids for ids in found if ids is not None]
    if not masks:
        raise UserError(
            f"not one of {len(rows)} masks of {cfg.corpus.root} can be read: "
            "'python pipelines/encode.py preview' with the same flags says why"
        )
    return torch.from_numpy(np.stack(masks))


def _kept(output: str) -> bool:
    return storage.exists(storage.join(output, MASK_CODEC, "config.json"))


def keep(output: str, codec: Blocks | None) -> None:
    """Write it to ``OUTPUT/mask_codec``, unless it is there."""
    if codec is None or _kept(output):
        return
    with tempfile.TemporaryDirectory() as folder:
        codec.save(folder)
        storage.upload_folder(folder, storage.join(output, MASK_CODEC), last="config.json")


def load(output: str, palette: Palette) -> Blocks:
    """The codec of the dataset at ``output``.

    Raises:
        ValueError: when it is damaged.
    """
    with storage.local_folder(storage.join(output, MASK_CODEC)) as folder:
        return Blocks.load(folder, palette)


def of(manifest: Manifest) -> Blocks | None:
    """The codec of a finished dataset, frozen, or None for anchors.

    Raises:
        ValueError: when it is not the one that made its latents.
    """
    said = manifest.recipe.get("mask_codec")
    if said is None:
        return None
    codec = load(manifest.uri, manifest.palette)
    if codec.identity() != said:
        raise ValueError(
            f"{manifest.uri}/{MASK_CODEC} is not the codec that made its masks' latents: it is "
            "damaged, or another dataset's; copy the dataset again"
        )
    return codec
