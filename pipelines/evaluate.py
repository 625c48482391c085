r"""Evaluate a model on a split of a latent dataset: a report in JSON and as one HTML page.

    python pipelines/evaluate.py --model out/run/model --data out/latents --split val \
        --output out/report

Segmentation is scored against the masks: mIoU, IoU of each class, pixel accuracy, borders, and how
far its confidence can be believed. Synthesis is checked by segmenting each synthesized image again:
its agreement with the mask it was made from; and by the scores of images: FID, KID, LPIPS and what
needs no weights (docs/reference/metrics.md). The round trip goes image -> mask latents -> image.
Evaluations (NFE) and images a second are those of this machine. Writes OUTPUT/report.json and
OUTPUT/report.html.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import ray.data
import torch
from numpy.typing import NDArray

from infra import storage, tracking
from pipelines import config
from pipelines.dataset import findings
from pipelines.dataset.latents import Manifest, read_manifest
from pipelines.evaluation import confidence, imagemetrics, report
from pipelines.evaluation.config import EvaluateConfig
from pipelines.evaluation.evaluator import Evaluator, accumulate
from pipelines.evaluation.imagemetrics import Collected, Networks, find_networks
from pipelines.evaluation.realphotos import photo_features
from pipelines.inference.settings import read_defaults, read_model_index
from pipelines.pages.page import publish
from pipelines.sharding import raydata, runner
from pipelines.training.model import check_fit
from semflow import ConfusionMatrix


def units(manifest: Manifest, cfg: EvaluateConfig) -> list[dict[str, Any]]:
    """The row groups to score; the first one also draws the pictures.

    ``{number, uri, group, rows}``, the rows to show, and the masks to make several images of.
    """
    found: list[dict[str, Any]] = []
    diverse = cfg.metrics.diversity_masks if "diversity" in cfg.metrics.compute else 1
    left = cfg.limit if cfg.limit is not None else manifest.split(cfg.split).rows
    for shard in manifest.split(cfg.split).shards:
        for group, rows in enumerate(shard.row_groups):
            if left > 0:
                found.append(
                    {"number": len(found), "uri": manifest.shard_uri(shard), "group": group,
                     "rows": min(rows, left), "pictures": 0, "diverse": max(0, diverse)}
                )  # fmt: skip
                left -= rows
                diverse -= rows
    if found:
        found[0]["pictures"] = cfg.pictures
    return found


def evaluate(cfg: EvaluateConfig, networks: Networks | None = None) -> dict[str, Any]:
    """Run the job; returns the report, which is also written.

    Args:
        cfg: what to evaluate.
        networks: of the image metrics, instead of those that ``cfg.metrics`` names.

    Raises:
        ValueError: when the model is of other classes or latents than the data, or there is nothing
            to score.
    """
    manifest, index = read_manifest(cfg.data), read_model_index(cfg.model)
    defaults = read_defaults(index, cfg.settings)
    defaults = replace(
        defaults,
        segment=cfg.segment.over(defaults.segment),
        synthesize=cfg.synthesize.over(defaults.synthesize),
        perturbation=cfg.perturbation.over(defaults.perturbation),
        window=cfg.window or defaults.window,
    )
    defaults.perturbation.check(manifest.palette)
    check_fit(cfg.model, index, manifest)
    todo = units(manifest, cfg)
    if not todo:
        raise ValueError(f"there is nothing in {cfg.split!r} of {cfg.data}")
    for sentence in findings.said(manifest, [cfg.split]):
        print(f"warning: {sentence}", file=sys.stderr)
    # Found here, once: actors need neither the files nor the network.
    networks = find_networks(cfg.metrics) if networks is None else networks
    with tracking.run("evaluate", cfg.output, config.flatten(config.to_dict(cfg))) as run:
        run.dataset(cfg.data, manifest.fingerprint)
        blocks = ray.data.from_items(todo, override_num_blocks=len(todo))
        options = raydata.staffed(cfg.actors, cfg.ray.gpus_per_actor)
        arguments = (replace(cfg, actors=options), defaults, networks)
        dataset = raydata.actor_stage(
            blocks, raydata.Actors.of(options, cfg.ray.gpus_per_actor, Evaluator, *arguments)
        )
        sums: dict[str, Any] = {}
        shown: dict[str, Any] = {}
        collected = Collected()
        for row in runner.progress(dataset.iter_rows(), "evaluate", len(todo)):
            for key in ("tiles", "diversity"):
                value = row.pop(key)
                if len(value):
                    shown[key] = np.asarray(value)
            collected.take(row.pop("number"), row)
            accumulate(sums, {key: np.asarray(value) for key, value in row.items()})
        if cfg.metrics.real:
            real = photo_features(
                cfg.metrics.real, networks, cfg.metrics, height=manifest.height,
                width=manifest.width, actors=cfg.actors, gpus=cfg.ray.gpus_per_actor,
            )  # fmt: skip
            for row in real:
                collected.take(row.pop("number"), row)
        images = imagemetrics.summarize(collected, sums, networks, cfg.metrics)
        photos = torch.cat(collected.parts("photos", "review")).numpy()
        result = summarize(sums, photos, list(manifest.palette.names)) | {
            "image_metrics": images | {"real": real_side(cfg, manifest)},
            "model": cfg.model, "data": cfg.data, "split": cfg.split,
            "codec_ceiling": manifest.codec_ceiling, "provenance": index["provenance"],
            "defaults": asdict(defaults), "config": config.to_dict(cfg),
        }  # fmt: skip
        storage.write_json(storage.join(cfg.output, "report.json"), result)
        page, images = report.render(result, shown, manifest.palette)
        publish(run, cfg.output, page, images)
        run.artifact_json("report.json", result)
        run.metrics(report.headline(result))
    return result


def real_side(cfg: EvaluateConfig, manifest: Manifest) -> str:
    """What synthesized images are compared with, in words."""
    size = f"{manifest.width}x{manifest.height}"
    if cfg.metrics.real:
        return f"photos of {cfg.metrics.real}, resized to {size}"
    return f"image latents of {cfg.split!r}, decoded, {size}"


def summarize(sums: dict[str, Any], photos: NDArray[Any], names: list[str]) -> dict[str, Any]:
    """Scores from sums over all rows, and from what there is of each photo."""
    confusion = ConfusionMatrix(len(names), torch.from_numpy(sums["confusion"]))
    agreement = ConfusionMatrix(len(names), torch.from_numpy(sums["agreement"]))
    images = int(sums["images"])
    mse = float(sums["return_mse"]) / images
    return {
        "images": images,
        "segmentation": {
            **confusion.scores(names),
            "mean_margin": float(sums["margin"]) / images,
            **confidence.summarize(sums, photos, names),
            "nfe": float(sums["segment_nfe"]) / images,
            "images_per_s": images / float(sums["segment_seconds"]),
            "confusion": confusion.counts.tolist(),
        },
        "synthesis": {
            "agreement": agreement.scores(names),
            "nfe": float(sums["synthesize_nfe"]) / images,
            "images_per_s": images / float(sums["synthesize_seconds"]),
        },
        # The peak of pixels in [-1, 1] is 2 above their least.
        "round_trip": {"mse": mse, "psnr_db": float(10 * np.log10(4 / max(mse, 1e-12)))},
    }


def main() -> None:
    cfg = config.parse(EvaluateConfig, __doc__)
    files = ("real", "inception", "lpips_backbone", "lpips_heads")
    keys = ("model", "data", "output", "settings", *(f"metrics.{name}" for name in files))
    cfg = config.absolute_paths(cfg, *keys)
    raydata.init(cfg.ray.address, gpus=cfg.ray.gpus_per_actor)
    result = evaluate(cfg)
    print("\n".join(f"{name:28} {value:.4f}" for name, value in report.headline(result).items()))
    if left_out := result["image_metrics"]["unavailable"]:
        fetch = any("--metrics.download" in reason for reason in left_out.values())
        print(f"left out: {', '.join(left_out)}; the report says why"
              + fetch * ", and --metrics.download fetches what they need, once")  # fmt: skip
    print(f"the report: {storage.join(cfg.output, 'report.html')}")


if __name__ == "__main__":
    config.exit_on_error(main)
