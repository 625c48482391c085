"""The stages of an encode: decode a pair's views, encode them, write a shard."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from infra import storage
from pipelines import config
from pipelines.corpora import parts, pixels
from pipelines.corpora.truth import read_noting
from pipelines.dataset.config import EncodeConfig
from pipelines.dataset.latents import draw_column, parquet_bytes, to_table
from semflow import IGNORE, Palette, load_autoencoder
from semflow.codecs.anchors import Anchors
from semflow.codecs.base import MaskCodec
from semflow.codecs.blocks import Blocks
from semflow.networks.base import Posterior

VALUES = 32
"""Ignored values that a shard remembers, those of most pixels."""


class Decode:
    """A row of a listing to one row a view with pixels, or with an error."""

    def __init__(self, cfg: EncodeConfig, views: int) -> None:
        self.cfg, self.views = cfg, views

    def __call__(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """The views of one pair."""
        cfg = self.cfg
        common = {"shard": row["shard"], "id": row["id"], "source": source_of(row), "error": "",
                  "ignored": "{}", "picture": ""}  # fmt: skip
        try:
            photo, ids, ignored = self.read(row)
        except pixels.BadInput as bad:
            blank = np.zeros((cfg.height, cfg.width), np.uint8)
            common["error"] = str(bad)
            empty = {"crop": np.zeros(4, np.int32), "flip": False, "ids": blank,
                     "pixels": np.stack([blank] * 3, -1)}  # fmt: skip
            return [common | empty | {"view": view} for view in range(self.views)]
        planned = pixels.plan_views(
            photo.shape[1], photo.shape[0], count=self.views, min_scale=cfg.min_scale,
            aspect=cfg.width / cfg.height, seed=[seed_of(cfg.seed, row["id"], "views")],
        )  # fmt: skip
        rows = []
        for number, view in enumerate(planned):
            image, mask = pixels.cut(photo, ids, view, cfg.width, cfg.height)
            crop = np.array([view.left, view.top, view.width, view.height], np.int32)
            rows.append(
                common
                | {"view": number, "crop": crop, "flip": view.flip, "pixels": image, "ids": mask}
            )
        shown = np.asarray(rows[0]["pixels"]).tobytes()
        rows[0] |= {"ignored": json.dumps(ignored), "picture": storage.digest(shown)[:16]}
        return rows

    def read(self, row: dict[str, Any]) -> tuple[pixels.Pixels, pixels.Pixels, dict[str, int]]:
        """A pair's photo and ids, of one size, and the pixels of each value that is ignored.

        Raises:
            BadInput: when one cannot be used, or went away after it was listed.
        """
        ids, ignored = read_noting(self.cfg.corpus, row["mask"], row["mask_part"])
        data = parts.read(row["image"], row["image_part"], "photo")
        corpus = self.cfg.corpus
        stored = corpus.masks_drawn == "stored"
        photo = pixels.fit_photo(
            data, ids, resize=corpus.resize_photos, stored=stored,
            white=corpus.white or pixels.FULL,
        )  # fmt: skip
        return photo, ids, ignored


def source_of(row: dict[str, Any]) -> str:
    """The photo of a row of a listing as a person finds it: its file, and the sample in that."""
    place, _, rest = row["image_part"].partition(":")
    if place == "row":
        group, number, _ = rest.split(":", 2)
        return f"{row['image']}: row {number} of group {group} ({row['id']})"
    return f"{row['image']}: {row['id']}" if place else str(row["image"])


class Encoder:
    """An actor: pixels to latents, for images and for every draw of their masks."""

    def __init__(self, cfg: EncodeConfig, palette: Palette, codec: Blocks | None = None) -> None:
        self.cfg, self.palette = cfg, palette
        torch.set_num_threads(cfg.threads or os.cpu_count() or 1)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.autoencoder = load_autoencoder(cfg.autoencoder).to(self.device)
        # Compiled, and in the precision of the photos.
        anchors = Anchors(palette, self.autoencoder, self.encode)
        self.codec: MaskCodec = codec.to(self.device) if codec else anchors
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        self.autocast = torch.autocast(
            self.device.type, dtype[cfg.precision], enabled=cfg.precision != "fp32"
        )
        self.moments: Callable[[torch.Tensor], Posterior] = self.autoencoder.encode
        if cfg.compile:
            self.moments = torch.compile(self.moments, dynamic=False)
            with torch.inference_mode():
                self.encode(torch.zeros(1, 3, cfg.height, cfg.width, device=self.device))

    def encode(self, pixels: torch.Tensor) -> Posterior:
        """Posterior of pixels ``[B, 3, H, W]`` in [-1, 1]."""
        rows = len(pixels)
        if self.cfg.compile:  # of one shape only: a shard's last batch would compile it again
            more = self.cfg.batch_size - rows
            pixels = torch.cat([pixels, pixels[-1:].expand(more, -1, -1, -1)])
        with self.autocast:
            mean, std = self.moments(pixels)
        return Posterior(mean[:rows], None if std is None else std[:rows])

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A block of views; it is encoded ``batch_size`` at a time."""
        rows, size = len(batch["id"]), self.cfg.batch_size
        columns: dict[str, Any] = {}
        for start in range(0, rows, size):
            part = slice(start, start + size)
            piece = self.latents({key: values[part] for key, values in batch.items()})
            for key, values in piece.items():
                if start == 0:  # once as large as the block: several pieces would be copied again
                    columns[key] = np.empty((rows, *values.shape[1:]), values.dtype)
                columns[key][part] = values
        del batch["pixels"]
        batch["mask"] = batch.pop("ids")
        return batch | columns

    @torch.inference_mode()
    def latents(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The latent columns of a batch."""
        images = torch.from_numpy(np.stack(batch["pixels"])).to(self.device)
        posterior = self.encode(images.movedim(-1, 1).float() / 127.5 - 1)
        columns = {"image_mean": posterior.mean.half().cpu().numpy()}
        if posterior.std is not None:
            columns["image_std"] = posterior.std.half().cpu().numpy()
        ids = torch.from_numpy(np.stack(batch["ids"])).to(self.device)
        painted = self.codec.paint(ids)
        columns[draw_column(0)] = self.codec.latents(painted, None, []).half().cpu().numpy()
        for draw in range(1, self.cfg.draws):
            seeds = [
                seed_of(self.cfg.seed, id_, int(view), draw)
                for id_, view in zip(batch["id"], batch["view"], strict=True)
            ]
            drawn = self.codec.latents(painted, self.cfg.perturbation, seeds)
            columns[draw_column(draw)] = drawn.half().cpu().numpy()
        return columns


def seed_of(*what: Any) -> int:
    """A seed from what it is for, not from when or where it is drawn."""
    return int(config.fingerprint(list(what))[:15], 16)


class WriteShard:
    """Columns of a shard to a Parquet file; returns what the manifest says of it."""

    def __init__(
        self, output: str, row_group_rows: int, classes: int, fingerprint: str,
        recipe: dict[str, Any],
    ) -> None:  # fmt: skip
        """Args: the dataset's folder, how it is cut, how many classes, and what each file says."""
        self.output, self.row_group_rows, self.classes = output, row_group_rows, classes
        self.metadata = json.dumps({"fingerprint": fingerprint, "recipe": recipe})

    def __call__(self, shard: str, columns: dict[str, Any]) -> dict[str, Any]:
        ignored: Counter[str] = Counter()
        for noted in columns.pop("ignored", ()):  # couplings have neither
            ignored.update(json.loads(noted))
        pictures = dict(zip(columns.pop("picture", ()), columns["id"], strict=False))
        data, groups = parquet_bytes(to_table(columns, self.metadata), self.row_group_rows)
        path = f"{shard}.parquet"
        storage.write_bytes(storage.join(self.output, path), data)
        pixel_counts = np.zeros(256, np.int64)
        for mask in columns["mask"]:
            pixel_counts += np.bincount(mask.ravel(), minlength=256)
        return {
            "path": path,
            "rows": len(columns["id"]),
            "bytes": len(data),
            "sha256": storage.digest(data),
            "row_groups": groups,
            "class_pixels": pixel_counts[: self.classes].tolist(),
            "ignored_pixels": int(pixel_counts[IGNORE]),
            "ignored_values": dict(ignored.most_common(VALUES)),
            "pictures": {str(key): str(name) for key, name in pictures.items() if key},
        }
