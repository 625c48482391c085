"""Encode a corpus of photos and masks into latent Parquet shards.

    python pipelines/encode.py camvid --corpus.root ../shared/data/camvid --output out/latents

reads pairs with Ray Data, encodes them in a pool of actors and writes shards and a manifest that
training reads. The first word is a preset; every flag overrides one of its values. Stopped at any
moment, the same command goes on where it was; finished, it does nothing.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import ray.data
import torch

from infra import storage, tracking
from pipelines import config, pixels, raydata, sharded
from pipelines.config import RayOptions
from pipelines.corpora import Corpus, list_pairs
from pipelines.latents import (
    FORMAT,
    MANIFEST,
    QUARANTINE,
    Manifest,
    Shard,
    Split,
    parquet_bytes,
    read_manifest,
    read_row_groups,
    to_table,
    write_manifest,
)
from semflow import ConfusionMatrix, Palette, Perturbation, load_autoencoder, make_palette
from semflow.palette import PaletteKind


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
    perturbation: Perturbation = field(default_factory=Perturbation)
    """Of the mask pixels, before the autoencoder."""
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
    """Views that an actor encodes at once."""
    actors: int = 1
    """Encoders that work side by side."""
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
        if len(self.corpus.classes) < 2:
            raise ValueError("name the classes: --corpus.classes sky road car ...")
        return make_palette(self.palette, self.corpus.classes)


def views_of(cfg: EncodeConfig, split: str) -> int:
    """Only training pairs have more than the whole view."""
    return cfg.views if split == "train" else 1


def recipe(cfg: EncodeConfig) -> dict[str, Any]:
    """All that decides the latents of a pair."""
    autoencoder = load_autoencoder(cfg.autoencoder)
    return {
        "format": FORMAT,
        "autoencoder": {
            "source": cfg.autoencoder,
            "stochastic": autoencoder.stochastic,
            **autoencoder.identity(),
        },
        "palette": cfg.make_palette().to_json(),
        "height": cfg.height,
        "width": cfg.width,
        "perturbation": config.to_dict(cfg.perturbation),
        "draws": cfg.draws,
        "views": cfg.views,
        "min_scale": cfg.min_scale,
        "seed": cfg.seed,
        "corpus": config.to_dict(cfg.corpus),
        "shard_rows": cfg.shard_rows,
        "row_group_rows": cfg.row_group_rows,
    }


class Decode:
    """``{number, id, image, mask}`` to one row a view with pixels, or with an error."""

    def __init__(self, cfg: EncodeConfig, views: int) -> None:
        self.cfg, self.views = cfg, views

    def __call__(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        cfg = self.cfg
        common = {"shard": row["shard"], "id": row["id"], "source": row["image"]}
        try:
            photo, ids = pixels.read_pair(
                storage.read_bytes(row["image"]),
                storage.read_bytes(row["mask"]),
                len(cfg.corpus.classes),
                cfg.corpus.ignore_ids,
            )
        except pixels.BadInput as bad:
            blank = np.zeros((cfg.height, cfg.width), np.uint8)
            empty = {"crop": np.zeros(4, np.int32), "flip": False, "ids": blank,
                     "pixels": np.stack([blank] * 3, -1), "error": str(bad)}  # fmt: skip
            return [common | empty | {"view": view} for view in range(self.views)]
        rows = []
        for number, view in enumerate(
            pixels.plan_views(
                photo.shape[1], photo.shape[0], count=self.views, min_scale=cfg.min_scale,
                aspect=cfg.width / cfg.height, seed=[cfg.seed, row["number"]],
            )
        ):  # fmt: skip
            image, mask = pixels.cut(photo, ids, view, cfg.width, cfg.height)
            crop = np.array([view.left, view.top, view.width, view.height], np.int32)
            rows.append(
                common
                | {"view": number, "crop": crop, "flip": view.flip, "pixels": image, "ids": mask,
                   "error": ""}
            )  # fmt: skip
        return rows


class Encoder:
    """An actor: pixels to latents, for images and for every draw of their masks."""

    def __init__(self, cfg: EncodeConfig) -> None:
        self.cfg = cfg
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.autoencoder = load_autoencoder(cfg.autoencoder).to(self.device)
        self.palette = cfg.make_palette()

    @torch.inference_mode()
    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        images = torch.from_numpy(np.stack(batch.pop("pixels"))).to(self.device)
        posterior = self.autoencoder.encode(images.movedim(-1, 1).float() / 127.5 - 1)
        batch["image_mean"] = posterior.mean.half().cpu().numpy()
        if posterior.std is not None:
            batch["image_std"] = posterior.std.half().cpu().numpy()
        ids = np.stack(batch.pop("ids"))
        pictures = self.palette.encode(torch.from_numpy(ids).to(self.device))
        draws = [self.autoencoder.encode(pictures).mean]
        for draw in range(1, self.cfg.draws):
            seeds = [
                draw_seed(self.cfg.seed, id_, int(view), draw)
                for id_, view in zip(batch["id"], batch["view"], strict=True)
            ]
            perturbed = self.cfg.perturbation.apply(pictures, seeds)
            draws.append(self.autoencoder.encode(perturbed).mean)
        batch["mask_draws"] = torch.stack(draws, 1).half().cpu().numpy()
        batch["mask"] = np.array([pixels.png(mask) for mask in ids], dtype=object)
        return batch


def draw_seed(seed: int, id_: str, view: int, draw: int) -> int:
    """The seed of one perturbation: a function of what it is for, not of when it is drawn."""
    return int(config.fingerprint([seed, id_, view, draw])[:15], 16)


class WriteShard:
    """Columns of a shard to a Parquet file; returns what the manifest says of it."""

    def __init__(self, cfg: EncodeConfig, fingerprint: str) -> None:
        self.cfg, self.fingerprint, self.recipe = cfg, fingerprint, recipe(cfg)

    def __call__(self, shard: str, columns: dict[str, Any]) -> dict[str, Any]:
        metadata = json.dumps({"fingerprint": self.fingerprint, "recipe": self.recipe})
        data, groups = parquet_bytes(to_table(columns, metadata), self.cfg.row_group_rows)
        path = f"{shard}.parquet"
        storage.write_bytes(storage.join(self.cfg.output, path), data)
        pixel_counts = np.zeros(256, np.int64)
        for mask in columns["mask"]:
            pixel_counts += np.bincount(np.asarray(pixels.open_image(mask)).ravel(), minlength=256)
        return {
            "path": path,
            "rows": len(columns["id"]),
            "bytes": len(data),
            "sha256": storage.digest(data),
            "row_groups": groups,
            "class_pixels": pixel_counts[: len(self.cfg.corpus.classes)].tolist(),
        }


def codec_ceiling(manifest: Manifest, autoencoder: str, limit: int = 64) -> dict[str, Any]:
    """mIoU of masks that only went encode -> decode -> nearest anchor, on the last split."""
    name, split = list(manifest.splits.items())[-1]
    model = load_autoencoder(autoencoder)
    confusion, seen = ConfusionMatrix(len(manifest.palette)), 0
    for shard in split.shards:
        for group in range(len(shard.row_groups)):
            if seen >= limit:
                break
            rows = read_row_groups(manifest.shard_uri(shard), [group], ["mask_draws", "mask"])
            clean = torch.tensor(rows["mask_draws"][: limit - seen, 0]).float()
            truth = [np.asarray(pixels.open_image(mask)) for mask in rows["mask"][: limit - seen]]
            with torch.inference_mode():
                decoded = manifest.palette.decode(model.decode(clean))
            confusion.update(decoded.ids, torch.from_numpy(np.stack(truth)))
            seen += len(clean)
    iou = zip(manifest.palette.names, confusion.iou.tolist(), strict=True)
    return {
        "split": name,
        "masks": seen,
        "miou": confusion.miou,
        "accuracy": confusion.accuracy,
        "iou": {name: None if value != value else value for name, value in iou},
    }


def _split_of(records: list[dict[str, Any]], classes: int) -> Split:
    written = [record for record in records if "path" in record]
    keys = ("path", "rows", "bytes", "sha256", "row_groups")
    pixels_of = np.array([record["class_pixels"] for record in written] or [[0] * classes])
    return Split(
        rows=sum(record["rows"] for record in written),
        shards=tuple(
            Shard(
                **{key: record[key] for key in keys} | {"row_groups": tuple(record["row_groups"])}
            )
            for record in written
        ),
        class_pixels=tuple(pixels_of.sum(0).tolist()),
    )


def encode(cfg: EncodeConfig) -> Manifest:
    """Run the job: list, encode and write every split, then the manifest.

    Raises:
        ValueError: when the output holds other work, or the perturbation could change a label.
        TooManyBad: when too many pairs cannot be used.
    """
    cfg.perturbation.check(cfg.make_palette())
    load_autoencoder(cfg.autoencoder).latent_size(cfg.height, cfg.width)
    listing = {split: list_pairs(cfg.corpus, split) for split in cfg.corpus.splits}
    how = recipe(cfg)
    print_ids = config.fingerprint([how, {s: [p.id for p in pairs] for s, (pairs, _) in
                                          listing.items()}])  # fmt: skip
    sharded.start(cfg.output, print_ids, overwrite=cfg.overwrite)
    if storage.exists(storage.join(cfg.output, MANIFEST)):
        print(f"{cfg.output} is already encoded: nothing to do")
        return read_manifest(cfg.output)
    splits, quarantine = {}, []
    with tracking.run("encode", cfg.output, config.flatten(config.to_dict(cfg))) as run:
        for split, (pairs, bad) in listing.items():
            views = views_of(cfg, split)

            def transform(ds: ray.data.Dataset, views: int = views) -> ray.data.Dataset:
                return ds.flat_map(Decode(cfg, views)).map_batches(
                    Encoder,
                    fn_constructor_args=(cfg,),
                    batch_size=cfg.batch_size,
                    compute=ray.data.ActorPoolStrategy(size=cfg.actors),
                    num_cpus=1,
                    num_gpus=cfg.ray.gpus_per_actor,
                )

            job = sharded.ShardedJob(
                verb="encode", output=cfg.output, fingerprint=print_ids, transform=transform,
                write=WriteShard(cfg, print_ids), inputs_per_shard=cfg.shard_rows // views,
                fanout=views, max_bad_share=cfg.max_bad_share,
            )  # fmt: skip
            inputs = [pair._asdict() | {"number": n} for n, pair in enumerate(pairs)]
            records = sharded.run(job, split, inputs, already_bad=len(bad))
            splits[split] = _split_of(records, len(cfg.corpus.classes))
            quarantine += sharded.quarantine_lines(records, bad)
        manifest = Manifest(
            uri=cfg.output, fingerprint=print_ids, recipe=how, palette=cfg.make_palette(),
            height=cfg.height, width=cfg.width, splits=splits, quarantined=len(quarantine),
            codec_ceiling={},
        )  # fmt: skip
        ceiling = codec_ceiling(manifest, cfg.autoencoder)
        lines = "".join(json.dumps(line) + "\n" for line in quarantine)
        storage.write_bytes(storage.join(cfg.output, QUARANTINE), lines.encode())
        write_manifest(Manifest(**manifest.__dict__ | {"codec_ceiling": ceiling}))
        run.metrics({"codec_ceiling_miou": ceiling["miou"], "quarantined": len(quarantine)}
                    | {f"rows_{name}": split.rows for name, split in splits.items()})  # fmt: skip
        run.artifact_json(MANIFEST, storage.read_json(storage.join(cfg.output, MANIFEST)))
    for line in quarantine[:10]:
        print(f"quarantined: {line['file']}: {line['reason']}", file=sys.stderr)
    return read_manifest(cfg.output)


def main() -> None:
    from pipelines.presets import ENCODE

    cfg = config.parse(EncodeConfig, __doc__, ENCODE)
    cfg = config.absolute_paths(cfg, "output", "corpus.root")
    if Path(cfg.autoencoder).is_dir():  # else a hub id, or the name of one of ours
        cfg = config.absolute_paths(cfg, "autoencoder")
    raydata.init(cfg.ray.address)
    manifest = encode(cfg)
    rows = ", ".join(f"{split.rows} {name}" for name, split in manifest.splits.items())
    print(
        f"{cfg.output}: {rows} rows, {manifest.quarantined} quarantined; codec ceiling "
        f"mIoU {manifest.codec_ceiling['miou']:.3f}\nnext: python pipelines/train.py PRESET --data "
        f"{cfg.output} --output out/run"
    )


if __name__ == "__main__":
    config.exit_on_error(main)
