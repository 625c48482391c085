"""The codec ceiling: what no flow over an autoencoder's latents can beat."""

from __future__ import annotations

from typing import Any

import torch

from pipelines.dataset.latents import Manifest, draw_column, read_row_groups
from semflow import ConfusionMatrix
from semflow.codecs.base import MaskCodec


def codec_ceiling(manifest: Manifest, codec: MaskCodec, limit: int = 64) -> dict[str, Any]:
    """mIoU of masks that only went through their codec and back, on the last split."""
    name, split = list(manifest.splits.items())[-1]
    confusion, seen = ConfusionMatrix(len(manifest.palette)), 0
    for shard in split.shards:
        for group in range(len(shard.row_groups)):
            if seen >= limit:
                break
            rows = read_row_groups(manifest.shard_uri(shard), [group], [draw_column(0), "mask"])
            clean = torch.tensor(rows[draw_column(0)][: limit - seen]).float()
            truth = torch.tensor(rows["mask"][: limit - seen])
            with torch.inference_mode():
                confusion.update(codec.read(clean).ids, truth)
            seen += len(clean)
    return {"split": name, "masks": seen, **confusion.scores(manifest.palette.names)}
