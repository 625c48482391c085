"""SemFlow and SymmFlow side by side: the same shards, compute and seeds.

    python -m tests.benchmarks.flows digits --data out/demo/latents --output out/flows

Each is trained by ``train.py``'s own job with the preset's configuration, once for each seed; how
the variants differ is said at :data:`VARIANTS`. The first one takes ``--steps``, the others as many
as have the same floating-point operations. Then all are asked the same of the first ``--rows`` of
the validation split:

- mIoU of segmentation, by steps of Euler;
- of synthesis, by steps: Frechet distance to the photos (features of a Haar pyramid, not FID),
  agreement (mIoU of the images, segmented again, with their masks: all by the first variant of the
  same seed), and diversity (root mean square difference of two images of a mask, pixels in
  [-1, 1]).

For every figure: the mean over the seeds, and half of the range between the least and the largest.
What was trained and judged is kept in the output, and not done again.
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
from torch.utils.flop_counter import FlopCounterMode

from pipelines.dataset.latents import Rows, read_manifest
from pipelines.evaluation.judging import segmented, synthesized
from pipelines.evaluation.scores import joined
from pipelines.inference.predictors import load_model
from pipelines.presets import TRAIN
from pipelines.sharding import raydata
from pipelines.train import train
from pipelines.training.config import TrainConfig
from pipelines.training.model import MODEL
from semflow import RectifiedFlow, SemFlow, Solver, make_velocity

BATCH = 32
SYMMFLOW = {"flow": "symmflow", "path": RectifiedFlow(at_image=0.25)}
"""The presets' own times are mostly at the ends, where an image is all noise or all there: of them
it learned no way between (after 300 steps of the demo, its images of 5 and 25 steps were noise)."""
VARIANTS: dict[str, dict[str, Any]] = {
    "semflow": {},
    "semflow, preconditioned": {"precondition": True},
    "symmflow": SYMMFLOW,
    "symmflow, not preconditioned": SYMMFLOW | {"precondition": False},
}
"""What each changes of the preset."""


@dataclass(frozen=True)
class Args:
    preset: Annotated[str, tyro.conf.Positional]
    data: str
    """What encode.py made for the preset."""
    variants: tuple[str, ...] = ("semflow", "symmflow")
    """Of "semflow", "semflow, preconditioned", "symmflow", "symmflow, not preconditioned"."""
    steps: int = 600
    """Of the first variant."""
    seeds: int = 3
    rows: int = 100
    nfe: tuple[int, ...] = (1, 2, 5, 25)
    """Steps of Euler to ask for."""
    output: Path = Path("out/flows")


@torch.inference_mode()
def judge(model: SemFlow, rows: Rows, nfe: tuple[int, ...], by: SemFlow) -> dict[str, float]:
    """All figures of a model, whose images are segmented by another."""
    parts = [slice(start, start + BATCH) for start in range(0, len(rows), BATCH)]
    found: dict[str, float] = {}
    for steps in nfe:
        solver = Solver(steps=steps)
        masks = joined([segmented(model, rows.x_0[p], rows.ids[p], solver) for p in parts])
        images = joined(
            [synthesized(model, rows.names[p], rows.x_0[p], rows.ids[p], solver, judge=by)
             for p in parts]
        ).summary()  # fmt: skip
        found[f"mIoU, {steps}"] = masks.summary()["miou"]
        found[f"Frechet distance, {steps}"] = images["frechet"]
        found[f"agreement, {steps}"] = images["miou"]
        found[f"diversity, {steps}"] = images["diversity"]
    return found


def flops(cfg: TrainConfig, latent: tuple[int, ...]) -> int:
    """Floating-point operations of an evaluation on a state of a latent's ``(C, h, w)``.

    A step of training has three times as many, whichever the network.
    """
    channels = latent[0] * (2 if cfg.flow == "symmflow" else 1)
    velocity = make_velocity(cfg.velocity, channels)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        velocity(torch.zeros(1, channels, *latent[1:]), torch.zeros(1))
    return int(counter.get_total_flops())


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    raydata.init(None, training=True, quiet=True)
    _, preset = TRAIN[args.preset]
    manifest = read_manifest(args.data)
    rows = Rows(manifest, manifest.judged, args.rows)
    results: dict[str, list[dict[str, float]]] = {name: [] for name in args.variants}
    configs = {name: replace(preset, **VARIANTS[name]) for name in args.variants}
    work = {name: flops(cfg, tuple(rows.x_0.shape[1:])) for name, cfg in configs.items()}
    most = work[args.variants[0]] * args.steps
    steps = {name: round(most / each) for name, each in work.items()}
    print({name: f"{steps[name]} steps, {work[name] / 1e9:.2f} GFLOPs" for name in work})
    for seed in range(args.seeds):
        eye = None
        for name in args.variants:
            output = args.output.absolute() / f"{args.preset}-{name.replace(', ', '-')}-{seed}"
            kept = output / "judged.json"
            if not kept.exists():
                cfg = replace(
                    configs[name], seed=seed, data=str(Path(args.data).absolute()),
                    output=str(output), steps=steps[name], validate_every=steps[name],
                    checkpoint_every=steps[name], register_as=None, log_every=100,
                )  # fmt: skip
                started = time.monotonic()
                model = load_model(train(cfg))
                found = judge(model, rows, args.nfe, eye or model)
                found["seconds"] = time.monotonic() - started
                kept.write_text(json.dumps(found, indent=2))
            eye = eye or load_model(str(output / MODEL))
            results[name].append(json.loads(kept.read_text()))
            print(name, seed, {k: round(v, 4) for k, v in results[name][-1].items()}, flush=True)
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
