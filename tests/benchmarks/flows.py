"""SemFlow and SymmFlow side by side: the same shards, network, steps and seeds.

    python -m tests.benchmarks.flows digits --data out/demo/latents --output out/flows

Each flow is trained by ``train.py``'s own job with the preset's configuration, cut to ``--steps``,
once for each seed. Then both are asked the same of the first ``--rows`` of the validation split:

- mIoU of segmentation, by steps of Euler;
- of synthesis, by steps: Frechet distance to the photos (features of a Haar pyramid, not FID),
  agreement (mIoU of the images, segmented again, with their masks), and diversity (root mean square
  difference of two images of a mask, pixels in [-1, 1]).

For every figure: the mean over the seeds, and half of the range between the least and the largest.
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from pipelines import raydata
from pipelines.latents import Rows, read_manifest
from pipelines.predictors import load_model
from pipelines.presets import TRAIN
from pipelines.train import train
from semflow import FLOWS, ConfusionMatrix, SemFlow, Solver
from semflow.frechet import frechet_distance, pyramid_features

BATCH = 32


@dataclass(frozen=True)
class Args:
    preset: Annotated[str, tyro.conf.Positional]
    data: str
    """What encode.py made for the preset."""
    steps: int = 600
    seeds: int = 3
    rows: int = 100
    nfe: tuple[int, ...] = (1, 2, 5, 25)
    """Steps of Euler to ask for."""
    output: Path = Path("out/flows")


@torch.inference_mode()
def judge(model: SemFlow, rows: Rows, nfe: tuple[int, ...]) -> dict[str, float]:
    """All figures of a model."""
    photos = model.autoencoder.decode(rows.x_0).clamp(-1, 1)
    real, classes = pyramid_features(photos), len(model.palette)
    found: dict[str, float] = {}
    for steps in nfe:
        solver = Solver(steps=steps)
        right, again = ConfusionMatrix(classes), ConfusionMatrix(classes)
        made = []
        for start in range(0, len(rows.ids), BATCH):
            part = slice(start, start + BATCH)
            ids = rows.ids[part]
            right.update(model.segment_latents(rows.x_0[part], solver).ids, ids)
            pair = []
            for draw in (0, 1):
                seeds = range(2 * start + draw, 2 * (start + len(ids)), 2)
                pair.append(model.synthesize(ids, seeds, solver=solver).images)
                again.update(model.segment(pair[-1], Solver(steps=1)).ids, ids)
            made.append(torch.stack(pair))
        one, other = torch.cat(made, 1)
        found[f"mIoU, {steps}"] = right.miou
        found[f"Frechet distance, {steps}"] = frechet_distance(pyramid_features(one), real)
        found[f"agreement, {steps}"] = again.miou
        found[f"diversity, {steps}"] = float((one - other).square().mean((1, 2, 3)).sqrt().mean())
    return found


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    raydata.init(None, training=True, quiet=True)
    _, preset = TRAIN[args.preset]
    manifest = read_manifest(args.data)
    rows = Rows(manifest, manifest.judged, args.rows)
    results: dict[str, list[dict[str, float]]] = {name: [] for name in FLOWS}
    for seed in range(args.seeds):
        for name in FLOWS:
            output = args.output.absolute() / f"{args.preset}-{name}-{seed}"
            cfg = replace(
                preset, flow=name, seed=seed, data=str(Path(args.data).absolute()),
                output=str(output), steps=args.steps, validate_every=args.steps,
                checkpoint_every=args.steps, register_as=None, log_every=100,
            )  # fmt: skip
            started = time.monotonic()
            model = load_model(train(cfg))
            found = judge(model, rows, args.nfe) | {"seconds": time.monotonic() - started}
            results[name].append(found)
            print(name, seed, {key: round(value, 4) for key, value in found.items()}, flush=True)
    args.output.mkdir(parents=True, exist_ok=True)
    config = {key: str(value) for key, value in vars(args).items()}
    text = json.dumps({"config": config, "results": results}, indent=2)
    (args.output / f"{args.preset}.json").write_text(text)
    print(table(results))


def table(results: dict[str, list[dict[str, float]]]) -> str:
    """As Markdown: a line a figure, a column a flow."""
    lines = ["| | " + " | ".join(results) + " |", "|---|" + "--:|" * len(results)]
    for key in next(iter(results.values()))[0]:
        cells = [_cell([one[key] for one in found]) for found in results.values()]
        lines.append(f"| {key} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(values: list[Any]) -> str:
    return f"{statistics.mean(values):.3f} ± {(max(values) - min(values)) / 2:.3f}"


if __name__ == "__main__":
    main()
