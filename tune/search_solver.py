"""Search for the best way to solve and to perturb with a trained model.

    python tune/search_solver.py --model out/run/model --data out/latents --output out/search

Every trial looks at the finished model only: it segments photos of a latent dataset, or makes two
images of each of its masks and segments those again, with one solver on one time grid, or with one
perturbation. Grids are equal, or learned from the flow's measured curvature. Trials see more and
more samples, and end early when another is better by more than chance. All are held against the
paper's setting (Euler, 25 equal steps, amplitude 0.05), sample by sample.

Writes OUTPUT/settings.json, which label.py, synthesize.py and evaluate.py take with --settings;
OUTPUT/report.html with the fronts as pictures; OUTPUT/search.json with all figures; and what every
trial found below OUTPUT/trials. Stopped at any moment, the same command goes on where it was.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import ray
from ray import tune

from infra import storage, tracking
from pipelines import config
from pipelines.config import UserError
from pipelines.dataset.latents import read_manifest
from pipelines.evaluation import judging
from pipelines.evaluation.scores import Scored
from pipelines.inference import settings
from pipelines.inference.settings import Settings
from pipelines.pages.page import publish
from pipelines.sharding import claim, driver, raydata
from pipelines.training.model import check_fit
from semflow import Palette, Solver
from semflow.sampler import Defaults
from tune.fit import fit
from tune.nested import Nested, last_line, reason
from tune.solver import report
from tune.solver.candidates import Candidate, Direction, Grids, learnable, perturbations, solvers
from tune.solver.config import SearchSolverConfig
from tune.solver.front import Choice, choose
from tune.solver.hopeless import Hopeless, settled
from tune.solver.measure import measure
from tune.solver.trial import SolverTrial, recall

TUNE, SETTINGS, SUMMARY, CURVATURE = "tune", "settings.json", "search.json", "curvature.json"


class Progress(tune.Callback):
    """A line for every trial that ends."""

    def __init__(self, total: int) -> None:
        self.total, self.ended = total, 0

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        last = trial.last_result
        self.ended += 1
        more = f"  Frechet {last['frechet']:.3f}" if "frechet" in last else ""
        early = "" if last["whole"] else f"  ended after {last['samples']:.0f} samples: hopeless"
        print(
            f"{self.ended}/{self.total}  {last['name']:34} mIoU {last['miou']:.3f} ± "
            f"{2 * last['miou_se']:.3f}  NFE {last['nfe']:.1f}{more}{early}",
            flush=True,
        )

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self.ended += 1
        print(f"{self.ended}/{self.total}  {trial.config['candidate']['name']:34} failed: "
              f"{reason(trial)}", flush=True)  # fmt: skip


def rungs(cfg: SearchSolverConfig, rows: int) -> list[int]:
    """Numbers of samples after which a trial is looked at."""
    most = min(cfg.samples, rows)
    return sorted({max(2, math.ceil(most / 2**n)) for n in range(cfg.rungs)})


def candidates(
    cfg: SearchSolverConfig, palette: Palette, defaults: Defaults, grids: Grids
) -> list[Candidate]:
    """All that is tried: the paper's settings, then from few evaluations to many."""
    own = defaults.perturbation
    found: list[Candidate] = []
    if cfg.direction != "synthesize":
        found += solvers("segment", cfg.solvers, cfg.max_nfe, grids, own)
    if cfg.direction != "segment":
        found += solvers("synthesize", cfg.solvers, cfg.max_nfe, grids, own)
        found += perturbations(palette, defaults.synthesize, cfg.amplitudes, own)
    found.sort(key=lambda one: (not one.paper, one.solver.nfe or cfg.max_nfe))
    return found[: cfg.trials]


def search(cfg: SearchSolverConfig) -> dict[str, Any]:
    """Run the search; returns the summary, which is also written.

    Raises:
        ValueError: when there is no model, it is of other classes than the data, an amplitude lies
            past the bound, or the output holds other work.
        UserError: when no trial succeeded.
    """
    manifest, index = read_manifest(cfg.data), settings.read_model_index(cfg.model)
    palette = Palette.from_json(index["palette"])
    check_fit(cfg.model, index, manifest)
    steps = rungs(cfg, manifest.split(cfg.split).rows)
    fingerprint = config.fingerprint(
        ["search", settings.model_fingerprint(index), manifest.fingerprint, decisive(cfg)]
    )
    claim.start(cfg.output, fingerprint, cfg, note={"defaults": index["defaults"]})
    # As they were when the search began: it may end by changing them.
    defaults = Defaults.from_json(claim.noted(cfg.output)["defaults"])
    params = config.flatten(config.to_dict(cfg))
    with driver.at_work(cfg.output), tracking.run("search", cfg.output, params) as run:
        run.dataset(cfg.data, manifest.fingerprint)
        curvature = measured(cfg)
        todo = candidates(cfg, palette, defaults, curvature["grids"])
        errors = run_trials(cfg, todo, steps, run)
        claim.stands(cfg.output)
        found = {}
        for one in todo:
            scored = None if one.name in errors else recall(cfg.output, one.name)
            if scored:
                found[one.name] = (one, scored)
        if not found:
            raise UserError(f"no trial succeeded: {errors}")
        found = settled(found, steps)
        result = conclude(cfg, found, steps[-1], curvature, index) | {
            "fingerprint": fingerprint, "failed": errors,
            "not_tried": [one.name for one in todo if one.name not in found | errors],
        }  # fmt: skip
        storage.write_json(storage.join(cfg.output, SUMMARY), result)
        page, pictures = report.render(result, palette)
        publish(run, cfg.output, page, pictures)
        run.artifact_json(SETTINGS, storage.read_json(storage.join(cfg.output, SETTINGS)))
        run.metrics(
            {f"{direction}_{key}": value
             for direction, choice in result["chosen"].items()
             for key, value in choice["summary"].items()}
        )  # fmt: skip
    return result


def decisive(cfg: SearchSolverConfig) -> dict[str, Any]:
    """What a trial's result depends on; another budget goes on with the trials there are."""
    keys = ("split", "solvers", "max_nfe", "amplitudes", "samples", "rungs", "curvature_samples",
            "direction")  # fmt: skip
    return {key: config.to_dict(cfg)[key] for key in keys}


def measured(cfg: SearchSolverConfig) -> dict[str, Any]:
    """Straightness of the flow by time and direction, and learned grids; once a search."""
    where = storage.join(cfg.output, CURVATURE)
    if not storage.exists(where):
        directions: list[judging.Direction] = ["segment", "synthesize"]
        wanted = {
            direction: learnable(cfg.solvers, cfg.max_nfe)
            if cfg.direction in ("both", direction)
            else []
            for direction in directions
        }
        grids = sum(map(len, wanted.values()))
        print(f"measuring the flow's curvature, learning {grids} time grids", flush=True)
        task = ray.remote(measure).options(
            num_cpus=cfg.cpus_per_trial, num_gpus=cfg.ray.gpus_per_actor
        )
        both = ray.get([
            task.remote(cfg.model, cfg.data, cfg.split, cfg.curvature_samples, direction, learned)
            for direction, learned in wanted.items()
        ])  # fmt: skip
        storage.write_json(
            where,
            {
                "samples": cfg.curvature_samples,
                "flow": dict(zip(wanted, (one["flow"] for one in both), strict=True)),
                "grids": {name: grid for one in both for name, grid in one["grids"].items()},
            },
        )
    return dict(storage.read_json(where))


def run_trials(
    cfg: SearchSolverConfig, todo: list[Candidate], steps: list[int], run: tracking.Run
) -> dict[str, str]:
    """Give the candidates to Ray Tune, or go on where it was; returns why trials failed."""
    common = {
        "model": cfg.model, "data": cfg.data, "split": cfg.split, "output": cfg.output,
        "rungs": steps, "batch_size": cfg.batch_size,
        "threads": 0 if cfg.ray.gpus_per_actor else cfg.cpus_per_trial,
    }  # fmt: skip
    space = {
        "common": common,
        "candidate": tune.grid_search([config.to_dict(one) for one in todo]),
    }
    trainable = tune.with_resources(
        SolverTrial, {"cpu": cfg.cpus_per_trial, "gpu": cfg.ray.gpus_per_actor}
    )
    # Tune goes on with just what it was given; with another budget it begins anew, and trials find
    # what they had found.
    name = f"{TUNE}-{config.fingerprint([len(todo), cfg.hours, cfg.nfe])[:8]}"
    ended = fit(
        trainable, space, cfg.output, name,
        tune.TuneConfig(reuse_actors=True, time_budget_s=cfg.hours and cfg.hours * 3600),
        stop=Hopeless(cfg.output, todo, steps, cfg.nfe),
        checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        callbacks=[Progress(len(todo)), Nested(run, "samples")],
    )  # fmt: skip
    return {
        trial.config["candidate"]["name"]: last_line(str(result.error))
        for trial, result in ended
        if result.error
    }


def conclude(
    cfg: SearchSolverConfig,
    found: dict[str, tuple[Candidate, Scored]],
    samples: int,
    curvature: dict[str, Any],
    index: dict[str, Any],
) -> dict[str, Any]:
    """The fronts and the choices; writes the settings."""
    whole = {name: pair for name, pair in found.items() if len(pair[1]) == samples}
    chosen: dict[str, Choice] = {}
    directions: tuple[Direction, ...] = ("segment", "synthesize", "perturb")
    for direction in directions:
        choice = choose(
            whole, direction, tolerance=cfg.tolerance, frechet_tolerance=cfg.frechet_tolerance
        )
        if choice:
            chosen[direction] = choice
    solver: dict[str, Solver] = {
        name: choice.candidate.solver for name, choice in chosen.items() if name != "perturb"
    }
    perturb = chosen.get("perturb")
    best = Settings(
        segment=solver.get("segment"), synthesize=solver.get("synthesize"),
        perturbation=perturb.candidate.perturbation if perturb else None,
    )  # fmt: skip
    settings.write(
        storage.join(cfg.output, SETTINGS), best,
        {"model": cfg.model, "model_fingerprint": settings.model_fingerprint(index),
         "data": cfg.data, "split": cfg.split, "samples": samples,
         "chosen": {name: choice.candidate.name for name, choice in chosen.items()}},
    )  # fmt: skip
    if cfg.write_defaults:
        settings.write_into_model(cfg.model, best)
    return {
        "model": cfg.model, "data": cfg.data, "split": cfg.split, "samples": samples,
        "tolerance": cfg.tolerance, "frechet_tolerance": cfg.frechet_tolerance,
        "curvature": curvature,
        "trials": [
            {"candidate": config.to_dict(candidate), "whole": name in whole, **scored.summary()}
            for name, (candidate, scored) in found.items()
        ],
        "chosen": {
            name: {
                "candidate": config.to_dict(choice.candidate), "summary": choice.summary,
                "paper": choice.paper, "good": choice.good,
                "difference": {key: asdict(value) for key, value in choice.difference.items()},
            }
            for name, choice in chosen.items()
        },
    }  # fmt: skip


def main() -> None:
    cfg = config.parse(SearchSolverConfig, __doc__)
    cfg = config.absolute_paths(cfg, "model", "data", "output")
    raydata.init(cfg.ray.address, quiet=True, gpus=cfg.ray.gpus_per_actor)
    result = search(cfg)
    for direction, choice in result["chosen"].items():
        print(report.sentence(direction, choice))
    where = storage.join(cfg.output, SETTINGS)
    print(
        f"the report: {storage.join(cfg.output, 'report.html')}\n"
        f"next: python pipelines/label.py --settings {where} --model {cfg.model} --images DIR"
    )


if __name__ == "__main__":
    config.exit_on_error(main)
