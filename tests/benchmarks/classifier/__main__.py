"""The UNet of a flow trained as an ordinary classifier of pixels: what a flow's masks stand beside.

    python -m tests.benchmarks.classifier camvid --data out/latents --output out/classifier \
        --steps 1600 --seeds 0 1 2 --model out/run/model

The first word is one of train.py's presets: the network, the rows of each step, the learning rate,
AdamW, the averages and the weights of the classes are those of ``train.py`` with that preset, these
steps and this seed. Only the last convolution and the loss differ: logits for all classes, and
their weighted cross-entropy. One bare loop, without Ray; it says how far it is.

Then all are scored on the validation split: averaged weights, by each pixel alone and by the
preset's window, beside the commonest class everywhere and the SemFlow models that are named.
``foreign`` is the share of the pixels within 4 of a true border whose class is none of those near.
For every figure: the mean over the seeds, and half of the range between the least and the largest.

The same command goes on where it stopped, and trains no finished seed again. ``results.json`` in
the output has it all.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from pipelines.dataset.latents import Manifest, Rows, read_manifest
from pipelines.inference.predictors import load_model
from pipelines.presets import TRAIN
from pipelines.training.config import TrainConfig
from tests.benchmarks.classifier import exam
from tests.benchmarks.classifier.costs import costs, costs_of_flow
from tests.benchmarks.classifier.training import settings, trained

Run = dict[str, Any]
"""A seed: ``masks``, its scores by the way to read them, and ``costs``."""
SCORES = {"miou": "mIoU", "accuracy": "pixel accuracy", "foreign": "foreign"}
COSTS = {"mask_flops": ("GFLOPs a mask", 1e9), "step_flops": ("GFLOPs a step", 1e9),
         "training_flops": ("TFLOPs of training", 1e12)}  # fmt: skip


@dataclass(frozen=True)
class Args:
    preset: Annotated[str, tyro.conf.Positional]
    data: str
    """What encode.py made for the preset."""
    output: Path = Path("out/classifier")
    steps: int | None = None
    """Instead of the preset's."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the classifiers; with none, models alone are scored."""
    model: tuple[str, ...] = ()
    """Finished SemFlow models to score as well, by folder or URI, or NAME=FOLDER. Those of one
    name are the seeds of one row."""
    rows: int | None = None
    """Of the validation split, from the first. None takes all."""
    checkpoint_every: int = 100
    """Steps; a killed training repeats at most so many."""


def of_classifier(cfg: TrainConfig, manifest: Manifest, rows: Rows, args: Args) -> Run:
    """A classifier's seed, trained if it is not yet."""
    network = trained(cfg, manifest, args.output, args.checkpoint_every)
    return {
        "settings": settings(cfg, manifest),
        "masks": exam.of_classifier(network, rows, len(manifest.palette), cfg.window),
        "costs": costs(network, (rows.x_0[:1],), evaluations=1, batch=cfg.batch_size,
                       steps=cfg.steps),
    }  # fmt: skip


def of_flow(folder: str, manifest: Manifest, rows: Rows) -> Run:
    """A SemFlow model; what its training cost is 0 where it does not say how it was trained."""
    from pipelines.training.model import check_fit  # here: it imports Ray

    model = load_model(folder)
    check_fit(folder, model.index(), manifest)
    return {
        "settings": model.provenance.get("config") or {},
        "masks": exam.of_flow(model, rows),
        "costs": costs_of_flow(model, rows.x_0[:1], rows.ids[:1]),
    }  # fmt: skip


def table(results: dict[str, list[Run]]) -> str:
    """As Markdown: a line for each name and way to read masks."""
    costs_of = (name for name, _ in COSTS.values())
    heads = ["masks of", "read by", "seeds", *SCORES.values(), *costs_of]
    lines = ["| " + " | ".join(heads) + " |", "|---|---|" + "--:|" * (len(heads) - 2)]
    for name, runs in results.items():
        for way in runs[0]["masks"]:
            cells = [_cell([run["masks"][way][key] for run in runs]) for key in SCORES]
            cells += [_cost(runs, key, unit) for key, (_, unit) in COSTS.items()]
            lines.append("| " + " | ".join([name, way, str(len(runs)), *cells]) + " |")
    return "\n".join(lines)


def _cell(values: list[float]) -> str:
    mean = f"{statistics.mean(values):.4f}"
    return f"{mean} ± {(max(values) - min(values)) / 2:.4f}" if len(values) > 1 else mean


def _cost(runs: list[Run], key: str, unit: float) -> str:
    values = [run["costs"].get(key, 0) for run in runs]
    return f"{statistics.mean(values) / unit:,.2f}" if all(values) else ""


def measured(args: Args, manifest: Manifest, cfg: TrainConfig) -> Iterator[tuple[str, Run]]:
    """Every run, with the name of its row."""
    split = manifest.judged
    rows = Rows(manifest, split, args.rows or manifest.split(split).rows)
    yield "the commonest class", {"masks": exam.of_commonest(rows, manifest), "costs": {}}
    for given in args.model:  # first: a wrong one is told before hours of training
        name, _, folder = given.partition("=")
        folder = folder or name
        yield name, of_flow(folder, manifest, rows)
    for seed in args.seeds:
        yield "classifier", of_classifier(replace(cfg, seed=seed), manifest, rows, args)


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    args.output.mkdir(parents=True, exist_ok=True)
    cfg = replace(TRAIN[args.preset][1], data=args.data)
    cfg = replace(cfg, steps=args.steps or cfg.steps)
    results: dict[str, list[Run]] = {}
    for name, run in measured(args, read_manifest(args.data), cfg):
        results.setdefault(name, []).append(run)
        masks = {way: {k: round(v, 4) for k, v in one.items()} for way, one in run["masks"].items()}
        print(name, masks, flush=True)
        config = {key: str(value) for key, value in vars(args).items()}
        text = json.dumps({"config": config, "results": results}, indent=2)
        (args.output / "results.json").write_text(text)
    print(table(results))


if __name__ == "__main__":
    main()
