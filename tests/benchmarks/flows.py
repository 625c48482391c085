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
from pipelines.judging import segmented, synthesized
from pipelines.latents import Rows, read_manifest
from pipelines.predictors import load_model
from pipelines.presets import TRAIN
from pipelines.scores import joined
from pipelines.train import train
from semflow import FLOWS, SemFlow, Solver

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
    parts = [slice(start, start + BATCH) for start in range(0, len(rows), BATCH)]
    found: dict[str, float] = {}
    for steps in nfe:
        solver = Solver(steps=steps)
        masks = joined([segmented(model, rows.x_0[p], rows.ids[p], solver) for p in parts])
        images = joined(
            [synthesized(model, rows.names[p], rows.x_0[p], rows.ids[p], solver) for p in parts]
        ).summary()
        found[f"mIoU, {steps}"] = masks.summary()["miou"]
        found[f"Frechet distance, {steps}"] = images["frechet"]
        found[f"agreement, {steps}"] = images["miou"]
        found[f"diversity, {steps}"] = images["diversity"]
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
