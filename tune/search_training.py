"""Search for how to train: real trainings, of which the hopeless end early.

    python tune/search_training.py digits --data out/latents --output out/search \
        --search lr=1e-4..1e-2:log path.at_image=0..0.7 objective.anchor_weight=0,0.5,1

Any key of train.py's configuration can be searched, dotted as on its command line: KEY=LOW..HIGH
(with :log where scales count) or KEY=A,B,C. The preset itself is the first trial; Optuna proposes
the others, and ASHA ends those that lag after a ninth and a third of the steps. With --scheduler
pbt a population trains side by side, and the last quarter goes on from the first one's weights,
with other values (population-based training). Every trial is a run of train.py below the search's
in MLflow, with its checkpoints and its model below OUTPUT/trials.

Writes OUTPUT/search.json, OUTPUT/report.html, and says what to add to train.py's command line.
Stopped at any moment, the same command goes on where it was.
"""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from typing import Any, cast

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, PopulationBasedTraining
from ray.tune.search.basic_variant import BasicVariantGenerator
from ray.tune.search.optuna import OptunaSearch

from infra import storage, tracking
from pipelines import config
from pipelines.config import UserError
from pipelines.dataset.latents import read_manifest
from pipelines.evaluation.scores import compare
from pipelines.pages.page import publish
from pipelines.presets import TRAIN
from pipelines.sharding import claim, driver, raydata
from pipelines.train import resources, train
from pipelines.training.config import TrainConfig
from pipelines.training.model import MODEL
from semflow.sampler import INDEX
from tune.fit import fit
from tune.nested import last_line, reason
from tune.training import report as trainreport
from tune.training import space
from tune.training.config import SearchTrainingConfig
from tune.training.space import Dimension
from tune.training.trial import WHOLE, score_model, train_trial, trial_output

TUNE, SUMMARY, SCORE = "tune", "search.json", "val_miou"
UNLIKE = ("batch_size", "shuffle_groups", "seed", "velocity", "init", "steps")
"""What a training cannot take over from another with: rows in another order, or other weights."""


def base(cfg: SearchTrainingConfig) -> TrainConfig:
    """What every trial trains with, but for the values that are searched."""
    steps = cfg.train.steps
    share = (os.cpu_count() or 1) // (cfg.concurrent * cfg.train.workers)
    parts = cfg.rungs if cfg.scheduler == "pbt" else cfg.reduction ** (cfg.rungs - 1)
    every = max(1, steps // parts)
    return replace(
        cfg.train, data=cfg.data, validate_every=every, checkpoint_every=every,
        register_as=None, validate_beside=False, ray=cfg.ray,
        threads=cfg.train.threads or max(1, share),
    )  # fmt: skip


def search(cfg: SearchTrainingConfig) -> dict[str, Any]:
    """Run the search; returns the summary, which is also written.

    Raises:
        ValueError: when a dimension cannot be, or the output holds other work.
        UserError: when no trial succeeded.
    """
    common = base(cfg)
    dimensions = space.parse(cfg.search, common)
    unlike = [one.key for one in dimensions if one.key in UNLIKE and cfg.scheduler == "pbt"]
    if unlike:
        raise ValueError(f"pbt cannot search {', '.join(unlike)}: trials take over from another")
    manifest = read_manifest(cfg.data)
    what = {k: v for k, v in config.to_dict(cfg).items()
            if k not in ("hours", "overwrite", "output", "data", "concurrent")}  # fmt: skip
    fingerprint = config.fingerprint(["search-training", manifest.fingerprint, what])
    claim.start(cfg.output, fingerprint, cfg)
    takes = resources(common)
    print(
        f"{cfg.trials} trials, {cfg.concurrent} at once, each of {common.workers} workers with "
        + " and ".join(f"{amount:g} {name}" for name, amount in takes.items())
    )
    params = config.flatten(config.to_dict(cfg))
    with driver.at_work(cfg.output), tracking.run("search-training", cfg.output, params) as run:
        run.dataset(cfg.data, manifest.fingerprint)
        trials = run_trials(cfg, common, dimensions, run)
        claim.stands(cfg.output)
        own = space.current(common, dimensions)
        result = conclude(cfg, common, trials, own) | {
            "fingerprint": fingerprint, "log": [one.key for one in dimensions if one.log],
        }  # fmt: skip
        storage.write_json(storage.join(cfg.output, SUMMARY), result)
        page, pictures = trainreport.render(result)
        publish(run, cfg.output, page, pictures)
        run.metrics({"best_miou": result["best"]["miou"], "preset_miou": result["preset"]["miou"]})
    return result


class Progress(tune.Callback):
    """A line for every look at a trial; and the end of its MLflow run when Tune ends it."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        values = space.flags(result["values"])
        score = f"mIoU {result[SCORE]:.3f}" if SCORE in result else ""
        print(f"{trial.trial_id}  step {result['step']}/{self.steps}  {score}  {values}",
              flush=True)  # fmt: skip

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        last = trial.last_result or {}
        if last.get("step", self.steps) < self.steps and last.get("output"):
            print(f"{trial.trial_id}  ended early at step {last['step']}", flush=True)
            uri, mine = tracking.tracking_uri(), tracking.remembered(last["output"])
            if mine:
                child = tracking.Run(tracking.Handle(uri, mine), "trial")
                child.tag("ended early", f"at step {last['step']}")
                child.end("FINISHED")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        print(f"{trial.trial_id}  failed: {reason(trial)}", flush=True)


def run_trials(
    cfg: SearchTrainingConfig,
    common: TrainConfig,
    dimensions: list[Dimension],
    run: tracking.Run,
) -> list[dict[str, Any]]:
    """Let Ray Tune train, or go on where it was; what came of each trial."""
    trainable = tune.with_resources(
        tune.with_parameters(
            train_trial,
            common={
                "train": config.to_dict(common), "output": cfg.output,
                "parent": run.handle.run_id if run.handle else None,
            },
        ),
        slot(cfg, common),
    )  # fmt: skip
    domains = {one.key: one.domain for one in dimensions}
    first = [space.current(common, dimensions)]
    ended = fit(
        trainable, domains, cfg.output, TUNE,
        tune.TuneConfig(
            metric=SCORE, mode="max", num_samples=cfg.trials,
            max_concurrent_trials=cfg.concurrent, time_budget_s=cfg.hours and cfg.hours * 3600,
            **strategy(cfg, common, domains, first),
        ),
        stop={WHOLE: True},
        callbacks=[Progress(common.steps)],
    )  # fmt: skip
    found = []
    for trial, result in ended:
        last = result.metrics or {}
        frame = result.metrics_dataframe
        curve = (
            [] if frame is None or SCORE not in frame else frame[["step", SCORE]].values.tolist()
        )
        found.append({
            "trial": trial.trial_id, "step": last.get("step", 0),
            "values": last.get("values") or trial.config,
            "miou": last.get(SCORE), "curve": curve, "output": last.get("output"),
            "error": last_line(str(result.error)) if result.error else None,
        })  # fmt: skip
    return sorted(found, key=lambda one: str(one["trial"]))  # a restored search has another order


def slot(cfg: SearchTrainingConfig, common: TrainConfig) -> tune.PlacementGroupFactory:
    """What a trial takes besides its training's workers, which have resources of their own.

    It only waits for them. But Tune's limit of trials at once does not hold for a population, in
    which those that wait for the others count as well: there it takes what the others would need.
    """
    spare = 0.01
    if cfg.scheduler == "pbt":
        cores = cast(Any, ray).cluster_resources()["CPU"]
        taken = common.workers * resources(common)["CPU"]
        spare = max(spare, cores / cfg.concurrent - taken)
    whole, rest = divmod(spare, 1)
    bundles = [{"CPU": 1.0}] * int(whole) + ([{"CPU": rest}] if rest else [])
    return tune.PlacementGroupFactory(bundles)


def strategy(
    cfg: SearchTrainingConfig,
    common: TrainConfig,
    domains: dict[str, Any],
    first: list[dict[str, Any]],
) -> dict[str, Any]:
    """Who proposes values, and who ends or changes trials."""
    if cfg.scheduler == "asha":
        return {
            "search_alg": OptunaSearch(points_to_evaluate=first, seed=cfg.seed),
            "scheduler": ASHAScheduler(
                time_attr="step", max_t=common.steps, grace_period=common.validate_every,
                reduction_factor=cfg.reduction,
            ),
        }  # fmt: skip
    return {
        "search_alg": BasicVariantGenerator(points_to_evaluate=first, random_state=cfg.seed),
        # In step: on few machines most of a population waits while others train.
        "scheduler": PopulationBasedTraining(
            time_attr="step", perturbation_interval=common.validate_every, synch=True,
            hyperparam_mutations=domains,
        ),
    }  # fmt: skip


def conclude(
    cfg: SearchTrainingConfig,
    common: TrainConfig,
    trials: list[dict[str, Any]],
    own: dict[str, Any],
) -> dict[str, Any]:
    """The best training against the preset's own, on the same samples.

    Raises:
        UserError: when no training came to its end.
    """
    whole = [one for one in trials if one["step"] >= common.steps and one["miou"] is not None]
    if not whole:
        why = {one["error"] for one in trials if one["error"]} or "none came to its end"
        raise UserError(f"no training succeeded: {why}")
    best = max(whole, key=lambda one: one["miou"])
    preset = next((one for one in trials if one["values"] == own and one["output"]), None)
    where = preset["output"] if preset else trial_output(cfg.output, "preset", own)
    score = ray.remote(score_model).options(num_cpus=1)
    scored, base_scored = ray.get([
        score.remote(model_of(common, values, at), cfg.data, common.validate_rows)
        for values, at in ((best["values"], best["output"]), (own, where))
    ])  # fmt: skip
    return {
        "data": cfg.data, "scheduler": cfg.scheduler, "steps": common.steps, "trials": trials,
        "rows": len(scored), "best": best | {"miou": scored.summary()["miou"]},
        "preset": {"values": own, "output": where, "miou": base_scored.summary()["miou"]},
        "difference": asdict(compare(scored, base_scored)["miou"]),
        "flags": space.flags(best["values"]),
    }  # fmt: skip


def model_of(common: TrainConfig, values: dict[str, Any], output: str) -> str:
    """The finished model of a trial; if it was ended early, it is trained to its end first."""
    model = storage.join(output, MODEL)
    if not storage.exists(storage.join(model, INDEX)):
        print(f"training to the end, to compare: {space.flags(values)}", flush=True)
        train(replace(space.changed(common, values), output=output))
    return model


def main() -> None:
    presets = {
        name: (about, SearchTrainingConfig(train=train)) for name, (about, train) in TRAIN.items()
    }
    cfg = config.parse(SearchTrainingConfig, __doc__, presets)
    cfg = config.absolute_paths(cfg, "data", "output")
    raydata.init(
        cfg.ray.address, training=True, quiet=True, gpus=cfg.ray.gpus_per_actor,
        number=cfg.train.min_workers or cfg.train.workers,
    )  # fmt: skip
    result = search(cfg)
    print(trainreport.sentence(result))
    print(
        f"the report: {storage.join(cfg.output, 'report.html')}\n"
        f"next: python pipelines/train.py PRESET {result['flags']} --data {cfg.data}"
    )


if __name__ == "__main__":
    config.exit_on_error(main)
