"""Searches: whole, resumed without repeating, seen in MLflow, and used by the jobs."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipelines.evaluation.scores import Scored
from pipelines.inference import settings
from pipelines.label import label
from pipelines.labelling.config import LabelConfig
from semflow import SemFlow, Solver, load_autoencoder, make_velocity
from semflow.sampler import Defaults
from tests.pictures import PALETTE, encoded, scene
from tune.search_solver import search
from tune.solver.config import SearchSolverConfig

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def flow(tmp_path_factory):
    """A small model with random weights, of the corpus's classes."""
    import torch

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("flow")
    SemFlow(
        make_velocity("tiny", 48), load_autoencoder("space-to-depth"), PALETTE,
        Defaults(height=32, width=48, segment=Solver(steps=1), synthesize=Solver(steps=1)),
        {"dataset": "test"},
    ).save(folder)  # fmt: skip
    return folder


def config(flow, latents, output, **options) -> SearchSolverConfig:
    defaults = {
        "model": str(flow), "data": str(latents), "split": "train", "output": str(output),
        "solvers": ("euler", "reversible-heun"), "max_nfe": 3, "amplitudes": (0.0, 0.9),
        "samples": 24, "rungs": 2, "curvature_samples": 4, "batch_size": 12,
    }  # fmt: skip
    return SearchSolverConfig(**defaults | options)


def timeless(result):
    """What a search found, without what a clock says."""
    trials = [{k: v for k, v in trial.items() if k != "ms_per_image"} for trial in result["trials"]]
    return sorted(trials, key=lambda trial: trial["candidate"]["name"])


@pytest.fixture(scope="module")
def searched(ray_session, flow, latents, tmp_path_factory):
    output = tmp_path_factory.mktemp("search") / "out"
    cfg = config(flow, latents, output)
    return cfg, search(cfg)


def test_all_candidates_are_tried_and_held_against_the_papers(searched):
    cfg, result = searched
    names = {trial["candidate"]["name"] for trial in result["trials"]}
    assert {"segment euler 25", "synthesize euler 25", "perturb uniform 0.05"} <= names
    assert {"segment euler 2 learned", "synthesize reversible-heun 2", "perturb uniform 0"} <= names
    assert result["failed"] == {}
    assert result["not_tried"] == []
    assert set(result["chosen"]) == {"segment", "synthesize", "perturb"}
    for trial in result["trials"]:
        solver = trial["candidate"]["solver"]
        if solver["name"] == "euler":
            assert trial["nfe"] == solver["steps"]
    output = Path(cfg.output)
    page = (output / "report.html").read_text()
    assert "segment" not in result["failed"]
    assert page.count("data:image/png;base64") == 4
    flow = json.loads((output / "curvature.json").read_text())["flow"]
    assert flow["segment"]["straightness"] > 0


def test_trials_are_runs_below_the_searchs_in_mlflow(searched):
    cfg, result = searched
    record = json.loads(Path(cfg.output, "_progress/mlflow.json").read_text())
    client = MlflowClient(record["uri"])
    parent = client.get_run(record["run_id"])
    assert parent.info.status == "FINISHED"
    children = client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{record['run_id']}'"
    )
    assert len(children) == len(result["trials"])
    child = next(c for c in children if c.info.run_name == "segment euler 25")
    assert child.info.status == "FINISHED"
    assert child.data.params["candidate.solver.steps"] == "25"
    trial = next(t for t in result["trials"] if t["candidate"]["name"] == "segment euler 25")
    assert child.data.metrics["miou"] == pytest.approx(trial["miou"])
    artifacts = {file.path for file in client.list_artifacts(record["run_id"])}
    assert {"report.html", "settings.json", "segment.png", "perturb.png"} <= artifacts


def test_more_perturbation_is_more_diverse(searched):
    _, result = searched
    trials = {t["candidate"]["name"]: t for t in result["trials"]}
    none, paper = trials["perturb uniform 0"], trials["perturb uniform 0.05"]
    most = max(
        (t for name, t in trials.items() if name.startswith("perturb uniform")),
        key=lambda t: t["candidate"]["perturbation"]["amplitude"],
    )
    assert none["diversity"] == 0
    assert most["diversity"] > paper["diversity"] > 0


def test_jobs_take_the_settings_and_the_model_can_keep_them(searched, tmp_path):
    cfg, result = searched
    where = str(Path(cfg.output) / "settings.json")
    chosen = result["chosen"]["segment"]["candidate"]["solver"]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.png").write_bytes(encoded(scene(3, 32, 48)[0]))
    job = LabelConfig(model=cfg.model, images=str(tmp_path / "photos"),
                      output=str(tmp_path / "out"), settings=where)  # fmt: skip
    summary = label(job)
    assert summary["solver"]["steps"] == chosen["steps"]
    index = settings.read_model_index(cfg.model)
    found = settings.read_defaults(index, where)
    assert found.segment.steps == chosen["steps"]


def test_a_killed_search_goes_on_without_repeating_and_finds_the_same(
    searched, ray_session, flow, latents, tmp_path
):
    import ray

    cfg = config(flow, latents, tmp_path / "out")
    command = [
        sys.executable, str(ROOT / "tune/search_solver.py"), "--model", str(flow),
        "--data", str(latents), "--split", "train", "--output", cfg.output,
        "--solvers", *cfg.solvers, "--max-nfe", "3", "--amplitudes", "0.0", "0.9",
        "--samples", "24", "--rungs", "2", "--curvature-samples", "4", "--batch-size", "12",
    ]  # fmt: skip
    environment = os.environ | {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    trials = Path(cfg.output) / "trials"
    deadline = time.monotonic() + 240
    while len(done(trials)) < 4 and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = done(trials)
    assert 4 <= len(before) < len(searched[1]["trials"])
    result = search(cfg)
    assert {name: done(trials)[name] for name in before} == before, "trials were done again"
    assert timeless(result) == timeless(searched[1])
    assert result["chosen"].keys() == searched[1]["chosen"].keys()
    finished = done(trials)
    assert timeless(search(cfg)) == timeless(result)
    assert done(trials) == finished


def done(trials: Path):
    """Trials that saw all samples, and when their files were written."""
    return {
        path.name: path.stat().st_mtime_ns
        for path in trials.glob("*.npz")
        if len(Scored.load(str(path))) == 24
    }


def test_a_search_stops_at_its_budget_and_goes_on_with_a_larger_one(
    searched, flow, latents, tmp_path
):
    cfg = config(flow, latents, tmp_path, direction="segment", nfe=24 * 6.0)
    few = search(cfg)
    assert few["not_tried"] or sum(not trial["whole"] for trial in few["trials"])
    spent = sum(trial["nfe"] * trial["samples"] for trial in few["trials"])
    assert spent < 24 * 25 * 3
    whole = search(replace(cfg, nfe=None))
    assert whole["not_tried"] == []
    mine = [t for t in timeless(searched[1]) if t["candidate"]["direction"] == "segment"]
    assert [t["miou"] for t in timeless(whole) if t["whole"]] == pytest.approx(
        [t["miou"] for t in mine if t["whole"]]
    )


def test_a_trial_that_fails_says_why_and_does_not_end_the_search(
    searched, flow, latents, tmp_path, capsys
):
    cfg = config(flow, latents, tmp_path, direction="segment", solvers=("euler", "dopri5"))
    (tmp_path / "trials").mkdir()
    # what an interrupted search left of this trial cannot be read
    (tmp_path / "trials/segment-euler-2.npz").write_bytes(b"no archive")
    result = search(cfg)
    assert set(result["failed"]) == {"segment euler 2"}
    assert "remove it to try this again" in result["failed"]["segment euler 2"]
    assert "segment euler 2" in capsys.readouterr().out
    assert len(result["trials"]) > 3
    assert "segment euler 2" in (tmp_path / "report.html").read_text()
