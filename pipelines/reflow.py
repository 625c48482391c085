r"""Straighten a trained flow: couple rows by it, train again on these pairs, compare.

    python pipelines/reflow.py digits --model out/run/model --data out/latents \
        --output out/reflow --train.steps 500

follows the model's flow from masks to images (--direction synthesize), from photos to masks
(segment), or half of each (both), trains from the model on what it connected, as the preset
(the first word) trains, and says what that did: straightness, mIoU, agreement and Frechet distance
at few steps and at many, before and after. Writes OUTPUT/couplings (a latent dataset), OUTPUT/run
with the straightened model/, OUTPUT/reflow.json and OUTPUT/report.html. Stopped at any moment, the
same command goes on where it was. docs/reference/reflow.md has more.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any, NamedTuple

import numpy as np
import ray
import torch

from infra import storage, tracking
from pipelines import config
from pipelines.dataset.latents import Rows, read_manifest
from pipelines.evaluation.judging import Direction, followed, segmented, synthesized
from pipelines.evaluation.scores import Scored, compare, joined
from pipelines.inference.predictors import ModelOptions, load_model
from pipelines.inference.settings import model_fingerprint, read_model_index
from pipelines.pages import pictures
from pipelines.pages.page import publish
from pipelines.sharding import claim, driver, raydata
from pipelines.straightening import report as reflowreport
from pipelines.straightening.config import ReflowConfig
from pipelines.straightening.couplings import make_couplings
from pipelines.train import train
from semflow import Palette, Solver
from semflow.flow.curvature import Curvature

SUMMARY, COUPLINGS, RUN = "reflow.json", "couplings", "run"
DIRECTIONS: tuple[Direction, ...] = ("segment", "synthesize")
SHOWN = 4
"""Rows of the pictures."""


class Judged(NamedTuple):
    """What a model did on the rows, by direction and, within it, number of steps."""

    straightness: dict[Direction, float]
    scores: dict[Direction, dict[int, Scored]]
    tiles: dict[Direction, dict[int, Any]]  # uint8 [SHOWN, H, W, 3]: masks, images


@torch.inference_mode()
def judge(
    model: str, before: str, data: str, rows: int, steps: tuple[int, ...], options: ModelOptions
) -> Judged:
    """Judge ``model`` on the first rows that training validates on.

    Its images are segmented by ``before``, so that two models' images have one judge.
    """
    manifest = read_manifest(data)
    net, judge = load_model(model, options), load_model(before, options)
    found = Rows(manifest, manifest.judged, rows)
    parts = [slice(i, i + options.batch_size) for i in range(0, len(found), options.batch_size)]
    result = Judged({}, {way: {} for way in DIRECTIONS}, {way: {} for way in DIRECTIONS})
    for way in DIRECTIONS:
        measured = [
            Curvature.of(followed(net, found.names[p], found.x_0[p], found.ids[p], way))
            for p in parts
        ]
        result.straightness[way] = sum(measured[1:], measured[0]).straightness
    x_0, ids, seeds = found.x_0[:SHOWN], found.ids[:SHOWN], range(SHOWN)
    for count in steps:
        solver = Solver(steps=count)
        result.scores["segment"][count] = joined(
            [segmented(net, found.x_0[p], found.ids[p], solver) for p in parts]
        )
        result.scores["synthesize"][count] = joined(
            [
                synthesized(net, found.names[p], found.x_0[p], found.ids[p], solver, judge=judge)
                for p in parts
            ]
        )
        masks = net.segment_latents(x_0, solver).ids.cpu()
        images = net.synthesize(ids, seeds[: len(ids)], solver=solver).images
        result.tiles["segment"][count] = np.stack(
            [pictures.colours(mask, net.palette) for mask in masks]
        )
        result.tiles["synthesize"][count] = np.stack([pictures.to_uint8(one) for one in images])
    return result


def reflow(cfg: ReflowConfig) -> dict[str, Any]:
    """Run the job; returns the summary, which is also written.

    Raises:
        ValueError: when model and data do not fit, or the output holds other work.
        UserError: when the training diverged, was asked to stop, or failed too often.
    """
    params, where = config.to_dict(cfg), storage.join(cfg.output, SUMMARY)
    manifest, index = read_manifest(cfg.data), read_model_index(cfg.model)
    asked = {
        "config": params, "from": {"model": model_fingerprint(index), "data": manifest.fingerprint},
    }  # fmt: skip
    driver.refuse_two(cfg.output)
    if cfg.overwrite:
        claim.make_room(cfg.output, cfg)
    if storage.exists(where) and (done := storage.read_json(where)).items() >= asked.items():
        print(f"{cfg.output} is finished: nothing to do")
        return dict(done)
    couplings = storage.join(cfg.output, COUPLINGS)
    flat = config.flatten(params)
    with driver.at_work(cfg.output), tracking.run("reflow", cfg.output, flat) as run:
        run.dataset(cfg.data, manifest.fingerprint)
        coupled = make_couplings(cfg.model, cfg.data, couplings, cfg, gpus=cfg.ray.gpus_per_actor)
        claim.stands(cfg.output)
        again = replace(
            cfg.train, data=couplings, output=storage.join(cfg.output, RUN), init=cfg.model,
            online_masks=False,
        )  # fmt: skip
        straightened = train(again, parent=run.handle.run_id if run.handle else None)
        before, after = judged(cfg, [cfg.model, straightened])
        result = conclude(before, after) | {
            "fingerprint": coupled.fingerprint, "coupling": coupled.recipe["coupling"],
            "couplings": coupled.splits["train"].rows, "reflowed": straightened,
            "rows": len(before.scores["segment"][cfg.judge_steps[0]]), "split": manifest.judged,
            "provenance": index["provenance"], **asked,
        }  # fmt: skip
        palette = Palette.from_json(index["palette"])
        truth = Rows(manifest, manifest.judged, SHOWN)
        masks = np.stack([pictures.colours(mask, palette) for mask in truth.ids])
        page, images = reflowreport.render(result, masks, before.tiles, after.tiles)
        publish(run, cfg.output, page, images)
        storage.write_json(where, result)
        run.artifact_json(SUMMARY, result)
        run.metrics(reflowreport.headline(result))
    return result


def judged(cfg: ReflowConfig, models: list[str]) -> list[Judged]:
    """Both models judged side by side, each on a GPU of its own where there are any."""
    print("judging the flow before and after", flush=True)
    task = ray.remote(judge).options(num_cpus=1, num_gpus=min(1, cfg.ray.gpus_per_actor))
    return ray.get(
        [
            task.remote(model, cfg.model, cfg.data, cfg.judge_rows, cfg.judge_steps, cfg.actors)
            for model in models
        ]
    )


def conclude(before: Judged, after: Judged) -> dict[str, Any]:
    """Both models' figures, and how they differ sample by sample."""
    return {
        "straightness": {
            way: {"before": before.straightness[way], "after": after.straightness[way]}
            for way in DIRECTIONS
        },
        "scores": {
            way: {
                str(steps): {
                    "before": one.summary(),
                    "after": after.scores[way][steps].summary(),
                    "difference": {
                        name: asdict(gap)
                        for name, gap in compare(after.scores[way][steps], one).items()
                    },
                }
                for steps, one in before.scores[way].items()
            }
            for way in DIRECTIONS
        },
    }


def presets() -> dict[str, tuple[str, ReflowConfig]]:
    """A preset of training, on the couplings."""
    from pipelines.presets import TRAIN

    return {
        name: (about, ReflowConfig(train=train, ray=train.ray))
        for name, (about, train) in TRAIN.items()
    }


def main() -> None:
    cfg = config.parse(ReflowConfig, __doc__, presets())
    cfg = config.absolute_paths(cfg, "model", "data", "output")
    raydata.init(
        cfg.ray.address, training=True, gpus=cfg.ray.gpus_per_actor,
        number=cfg.train.min_workers or cfg.train.workers,
    )  # fmt: skip
    result = reflow(cfg)
    print("\n".join(reflowreport.sentences(result)))
    print(f"the report: {storage.join(cfg.output, 'report.html')}\nthe model: {result['reflowed']}")


if __name__ == "__main__":
    config.exit_on_error(main)
