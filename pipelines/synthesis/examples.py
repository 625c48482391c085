"""quality.html: what quality control kept and what it did not, to look at.

Each shard writes a few examples beside its record; the page shows the first of them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from infra import storage
from pipelines.corpora import pixels
from pipelines.pages import pictures
from pipelines.pages.page import template
from pipelines.sharding.plan import PROGRESS
from pipelines.synthesis.tally import AHEAD
from semflow import Palette

SHOWN = 24
"""Examples of what was kept, and as many of what was not."""
WIDEST = 160
"""Pixels of an example's tile; wider ones are made smaller."""


def per_shard(shards: int) -> int:
    """Examples of each kind that a shard writes: enough for the page, if they are spread."""
    return max(2, -(-2 * SHOWN // shards))


def path(shard: str) -> str:
    """Where a shard's examples are, below the output."""
    return f"{PROGRESS}/examples/{shard.rpartition('/')[2]}.json"


def encode(rows: Sequence[dict[str, Any]], limit: int, palette: Palette) -> bytes:
    """The first ``limit`` kept and rejected ones of rows ``{name, agreement, kept, pixels, ids,
    seen}`` as JSON with pictures."""
    kept = [row for row in rows if row["kept"]][:limit]
    rejected = [row for row in rows if not row["kept"]][:limit]
    shown = [
        {"name": str(row["name"]), "agreement": float(row["agreement"]),
         "kept": bool(row["kept"]), "picture": base64.b64encode(strip(row, palette)).decode()}
        for row in kept + rejected
    ]  # fmt: skip
    return json.dumps(shown).encode()


def strip(row: dict[str, Any], palette: Palette) -> bytes:
    """Image, mask, and what was seen, side by side as PNG."""
    tiles = [Image.fromarray(row["pixels"])]
    tiles += [
        Image.fromarray(pictures.colours(torch.tensor(row[name]), palette))
        for name in ("ids", "seen")
    ]
    width, height = tiles[0].size
    if width > WIDEST:
        size = (WIDEST, max(1, round(height * WIDEST / width)))
        tiles = [tiles[0].resize(size, Image.Resampling.BICUBIC)] + [
            tile.resize(size, Image.Resampling.NEAREST) for tile in tiles[1:]
        ]
    gap = np.full((tiles[0].height, 2, 3), 255, np.uint8)
    first, second, third = (np.asarray(tile) for tile in tiles)
    return pixels.png(np.concatenate([first, gap, second, gap, third], axis=1))


def first(output: str, shards: Sequence[str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The first examples that were kept, and that were not, of all shards."""
    found: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    with ThreadPoolExecutor(16) as pool:
        for start in range(0, len(shards), AHEAD):
            for several in pool.map(
                lambda shard: storage.read_json(storage.join(output, path(shard))),
                shards[start : start + AHEAD],
            ):
                for one in several:
                    place = found[0 if one["kept"] else 1]
                    if len(place) < SHOWN:
                        place.append(one)
            if min(map(len, found)) == SHOWN:
                break
    return found


def page(card: dict[str, Any], output: str, shards: Sequence[str]) -> str:
    """The page, from the card of the dataset."""
    kept, rejected = first(output, shards)
    found = card["agreement"]
    most = max(found["histogram"]) or 1
    bars = [{"height": 100 * n / most, "count": n, "from": i / len(found["histogram"])}
            for i, n in enumerate(found["histogram"])]  # fmt: skip
    worst = sorted(
        (one for one in card["classes"] if one["iou"] is not None), key=lambda one: one["iou"]
    )
    return template("quality.html", Path(__file__).parent).render(
        card=card, found=found, bars=bars, worst=worst, kept=kept, rejected=rejected
    )
