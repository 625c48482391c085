"""Validation during training: each worker its share of the rows, one score for all."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipelines.latents import Manifest, read_row_groups
from semflow import ConfusionMatrix, SemFlow

BATCH = 16


class Samples(NamedTuple):
    """A few rows to look at; pixels in [-1, 1] ``[B, 3, H, W]``, ids ``[B, H, W]``."""

    images: Tensor
    truth: Tensor
    predicted: Tensor
    margin: Tensor
    synthesized: Tensor


def read_rows(manifest: Manifest, split: str, limit: int) -> tuple[Tensor, Tensor]:
    """The first ``limit`` rows of a split: image latents ``[N, C, h, w]``, ids ``[N, H, W]``."""
    latents, ids, seen = [], [], 0
    for shard in manifest.split(split).shards:
        for group, rows in enumerate(shard.row_groups):
            if seen >= limit:
                break
            table = read_row_groups(manifest.shard_uri(shard), [group], ["image_mean", "mask"])
            latents.append(table["image_mean"])
            ids.append(table["mask"])
            seen += rows
    return (
        torch.from_numpy(np.concatenate(latents)[:limit]).float(),
        torch.from_numpy(np.concatenate(ids)[:limit]),
    )


def validate(
    model: SemFlow, manifest: Manifest, rank: int, world: int, limit: int, *, bf16: bool
) -> tuple[dict[str, float], Samples]:
    """Score the first ``limit`` rows of the last split; all ranks call it and get the score."""
    split = "val" if "val" in manifest.splits else list(manifest.splits)[-1]
    latents, ids = read_rows(manifest, split, limit)
    confusion = ConfusionMatrix(len(manifest.palette))
    with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
        latents_here, ids_here = latents[rank::world], ids[rank::world]
        for start in range(0, len(ids_here), BATCH):
            part = slice(start, start + BATCH)
            confusion.update(model.segment_latents(latents_here[part]).ids.cpu(), ids_here[part])
        counts = confusion.counts.to(model.device)
        torch.distributed.all_reduce(counts)
        confusion = ConfusionMatrix(len(manifest.palette), counts.cpu())
        shown = torch.linspace(0, len(ids) - 1, min(4, len(ids))).long()  # neighbours look alike
        samples = _samples(model, latents[shown], ids[shown])
    return {"val_miou": confusion.miou, "val_accuracy": confusion.accuracy}, samples


def _samples(model: SemFlow, x_0: Tensor, ids: Tensor) -> Samples:
    with torch.inference_mode():
        images = model.autoencoder.decode(x_0.to(model.device))
    segmentation = model.segment_latents(x_0)
    synthesized = model.synthesize(ids, seeds=range(len(ids))).images
    return Samples(
        images.cpu(), ids, segmentation.ids.cpu(), segmentation.margin.cpu(), synthesized.cpu()
    )
