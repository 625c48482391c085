r"""Evaluate a model on a split of a latent dataset: a report in JSON and as one HTML page.

    python pipelines/evaluate.py --model out/run/model --data out/latents --split val \
        --output out/report

Segmentation is scored against the masks (mIoU, IoU of each class, pixel accuracy). Synthesis is
checked by segmenting each synthesized image again: its agreement with the mask it was made from.
The round trip goes image -> mask latents -> image. Evaluations (NFE) and images a second are those
of this machine. Writes OUTPUT/report.json and OUTPUT/report.html.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import ray.data
import torch
from torch import Tensor

from infra import storage, tracking
from pipelines import config, pictures, raydata, report, sharded
from pipelines.config import RayOptions
from pipelines.latents import Manifest, read_manifest, read_row_groups
from pipelines.predictors import ModelOptions, PerturbationChoice, Predictor, SolverChoice
from pipelines.settings import read_defaults, read_model_index
from pipelines.synthesis.drafts import sample_seed
from semflow import ConfusionMatrix
from semflow.sampler import Defaults


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What to evaluate, and on what."""

    model: str
    """Folder or URI of a trained model."""
    data: str = "out/latents"
    """Latent dataset: folder or URI."""
    split: str = "val"
    """Its split to use."""
    output: str = "out/report"
    """Folder or URI of the report."""
    limit: int | None = None
    """Rows to use, from the first; None uses all."""
    pictures: int = 8
    """Rows shown in the report."""
    samples: int = 5
    """Images synthesized from one mask, in the picture of their diversity."""
    seed: int = 0
    """Of the perturbations."""
    settings: str | None = None
    """A file that tune/search_solver.py made: what it found goes before the model's own."""
    segment: SolverChoice = field(default_factory=SolverChoice)
    """For masks, instead of the model's own."""
    synthesize: SolverChoice = field(default_factory=SolverChoice)
    """For images, instead of the model's own."""
    perturbation: PerturbationChoice = field(default_factory=PerturbationChoice)
    """Of the masks, instead of the model's own."""
    actors: ModelOptions = field(default_factory=ModelOptions)
    """How the model runs."""
    ray: RayOptions = field(default_factory=RayOptions)


class Evaluator(Predictor):
    """An actor: ``{uri, group, rows, pictures}`` to sums, and pictures of the first rows."""

    def __init__(self, cfg: EvaluateConfig, defaults: Defaults) -> None:
        super().__init__(cfg.model, cfg.actors)
        self.cfg = cfg
        self.segment, self.synthesize = defaults.segment, defaults.synthesize
        self.model = self.model.with_defaults(perturbation=defaults.perturbation)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        unit = {key: values[0] for key, values in batch.items()}
        table = read_row_groups(unit["uri"], [int(unit["group"])], ["id", "image_mean", "mask"])
        count = int(unit["rows"])
        latents = torch.from_numpy(table["image_mean"][:count]).float()
        ids = torch.tensor(table["mask"][:count])
        seeds = [sample_seed(self.cfg.seed, id_, 0) for id_ in table["id"][:count]]
        sums: dict[str, Any] = {}
        step = self.cfg.actors.batch_size
        for start in range(0, count, step):
            part = slice(start, start + step)
            scores, tiles = self.score(latents[part], ids[part], seeds[part])
            if start == 0:
                sums["tiles"] = [tiles[: int(unit["pictures"])]]
                if unit["pictures"]:
                    sums["diversity"] = [self.diversity(ids[0], str(table["id"][0]))]
            for name, value in scores.items():
                sums[name] = sums.get(name, 0) + value
        wrap = {name: [v] if not isinstance(v, list) else v for name, v in sums.items()}
        return wrap | ({} if "diversity" in wrap else {"diversity": [np.zeros(0, np.uint8)]})

    @torch.inference_mode()
    def score(
        self, x_0: Tensor, ids: Tensor, seeds: list[int]
    ) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
        """Sums over a batch, and a row of tiles ``[B, 6, H, W, 3]`` uint8 for each."""
        model, classes = self.model, len(self.model.palette)
        x_0 = x_0.to(self.device)
        started = time.perf_counter()
        segmented = model.segment_latents(x_0, self.segment)
        segmented_at = time.perf_counter()
        made = model.synthesize(ids, seeds, solver=self.synthesize)
        made_at = time.perf_counter()
        again = model.segment(made.images, self.segment)
        there = model.flow(model.path.depart(x_0, 0.0), 0.0, 1.0, self.segment)
        twin = there.twin if self.segment == self.synthesize else None
        back = model.flow(there.x, 1.0, 0.0, self.synthesize, twin)
        images = model.autoencoder.decode(x_0)
        returned = model.autoencoder.decode(model.path.arrive(back.x, 0.0)).clamp(-1, 1)
        confusion, agreement = ConfusionMatrix(classes), ConfusionMatrix(classes)
        confusion.update(segmented.ids.cpu(), ids)
        agreement.update(again.ids.cpu(), ids)
        scores = {
            "confusion": confusion.counts.numpy(),
            "agreement": agreement.counts.numpy(),
            "images": len(ids),
            "segment_seconds": segmented_at - started,
            "synthesize_seconds": made_at - segmented_at,
            "segment_nfe": segmented.nfe * len(ids),
            "synthesize_nfe": made.nfe * len(ids),
            "margin": float(segmented.margin.mean((1, 2)).sum()),
            "return_mse": float((returned - images).square().mean((1, 2, 3)).sum()),
        }
        palette = model.palette
        tiles = [
            np.stack(
                [pictures.to_uint8(images[i]), pictures.colours(ids[i], palette),
                 pictures.colours(segmented.ids[i].cpu(), palette),
                 pictures.grey(segmented.margin[i].cpu()), pictures.to_uint8(made.images[i]),
                 pictures.colours(again.ids[i].cpu(), palette), pictures.to_uint8(returned[i])]
            )
            for i in range(len(ids))
        ]  # fmt: skip
        return scores, np.stack(tiles)

    def diversity(self, ids: Tensor, name: str) -> np.ndarray[Any, Any]:
        """Images of one mask under several seeds: tiles ``[N + 1, H, W, 3]``, the mask first."""
        seeds = [sample_seed(self.cfg.seed, name, n) for n in range(self.cfg.samples)]
        made = self.model.synthesize(ids[None].expand(len(seeds), -1, -1), seeds,
                                     solver=self.synthesize)  # fmt: skip
        mask = pictures.colours(ids, self.model.palette)
        return np.stack([mask, *(pictures.to_uint8(image) for image in made.images)])


def units(manifest: Manifest, cfg: EvaluateConfig) -> list[dict[str, Any]]:
    """The row groups to score; the first one also draws the pictures."""
    found: list[dict[str, Any]] = []
    left = cfg.limit if cfg.limit is not None else manifest.split(cfg.split).rows
    for shard in manifest.split(cfg.split).shards:
        for group, rows in enumerate(shard.row_groups):
            if left > 0:
                found.append({"uri": manifest.shard_uri(shard), "group": group,
                              "rows": min(rows, left), "pictures": 0})  # fmt: skip
                left -= rows
    if found:
        found[0]["pictures"] = cfg.pictures
    return found


def evaluate(cfg: EvaluateConfig) -> dict[str, Any]:
    """Run the job; returns the report, which is also written.

    Raises:
        ValueError: when the model is of other classes than the data, or there is nothing to score.
    """
    manifest, index = read_manifest(cfg.data), read_model_index(cfg.model)
    defaults = read_defaults(index, cfg.settings)
    defaults = replace(
        defaults,
        segment=cfg.segment.over(defaults.segment),
        synthesize=cfg.synthesize.over(defaults.synthesize),
        perturbation=cfg.perturbation.over(defaults.perturbation),
    )
    defaults.perturbation.check(manifest.palette)
    names = list(manifest.palette.names)
    if index["palette"]["names"] != names:
        raise ValueError(
            f"the model knows the classes {index['palette']['names']}, the data has {names}"
        )
    todo = units(manifest, cfg)
    if not todo:
        raise ValueError(f"there is nothing in {cfg.split!r} of {cfg.data}")
    with tracking.run("evaluate", cfg.output, config.flatten(config.to_dict(cfg))) as run:
        run.dataset(cfg.data, manifest.fingerprint)
        blocks = ray.data.from_items(todo, override_num_blocks=len(todo))
        dataset = raydata.actor_stage(
            blocks,
            Evaluator,
            (cfg, defaults),
            actors=cfg.actors.actors,
            most=cfg.actors.max_actors,
            gpus=cfg.ray.gpus_per_actor,
        )
        sums: dict[str, Any] = {}
        shown: dict[str, Any] = {}
        for row in sharded.progress(dataset.iter_rows(), "evaluate", len(todo)):
            for key in ("tiles", "diversity"):
                value = row.pop(key)
                if len(value):
                    shown[key] = np.asarray(value)
            for key, value in row.items():
                sums[key] = sums.get(key, 0) + np.asarray(value)
        result = summarize(sums, names) | {
            "model": cfg.model, "data": cfg.data, "split": cfg.split,
            "codec_ceiling": manifest.codec_ceiling, "provenance": index["provenance"],
            "defaults": asdict(defaults), "config": config.to_dict(cfg),
        }  # fmt: skip
        storage.write_json(storage.join(cfg.output, "report.json"), result)
        page, images = report.render(result, shown, manifest.palette)
        report.publish(run, cfg.output, page, images)
        run.artifact_json("report.json", result)
        run.metrics(report.headline(result))
    return result


def summarize(sums: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Scores from sums over all rows."""
    confusion = ConfusionMatrix(len(names), torch.from_numpy(sums["confusion"]))
    agreement = ConfusionMatrix(len(names), torch.from_numpy(sums["agreement"]))
    images = int(sums["images"])
    mse = float(sums["return_mse"]) / images
    return {
        "images": images,
        "segmentation": {
            **scores_of(confusion, names),
            "mean_margin": float(sums["margin"]) / images,
            "nfe": float(sums["segment_nfe"]) / images,
            "images_per_s": images / float(sums["segment_seconds"]),
            "confusion": confusion.counts.tolist(),
        },
        "synthesis": {
            "agreement": scores_of(agreement, names),
            "nfe": float(sums["synthesize_nfe"]) / images,
            "images_per_s": images / float(sums["synthesize_seconds"]),
        },
        # The peak of pixels in [-1, 1] is 2 above their least.
        "round_trip": {"mse": mse, "psnr_db": float(10 * np.log10(4 / max(mse, 1e-12)))},
    }


def scores_of(confusion: ConfusionMatrix, names: list[str]) -> dict[str, Any]:
    iou = (None if value != value else value for value in confusion.iou.tolist())
    return {
        "miou": confusion.miou,
        "accuracy": confusion.accuracy,
        "iou": dict(zip(names, iou, strict=True)),
    }


def main() -> None:
    cfg = config.parse(EvaluateConfig, __doc__)
    cfg = config.absolute_paths(cfg, "model", "data", "output", "settings")
    raydata.init(cfg.ray.address)
    result = evaluate(cfg)
    print("\n".join(f"{name:28} {value:.4f}" for name, value in report.headline(result).items()))
    print(f"the report: {storage.join(cfg.output, 'report.html')}")


if __name__ == "__main__":
    config.exit_on_error(main)
