"""Validation during training: one score over the workers, or beside them from a checkpoint."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import ray.train
import torch
from torch import Tensor

from infra import storage, tracking
from infra.console import say
from pipelines import config
from pipelines.dataset.latents import Manifest, Rows, read_manifest
from pipelines.pages import pictures
from pipelines.pages.samples import Samples
from pipelines.training.config import TrainConfig
from pipelines.training.model import of_checkpoint
from semflow import ConfusionMatrix, SemFlow, Solver, SymmetricFlow

BATCH = 16
SHOWN = 4
"""Rows of the pictures."""
TIMES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Where on the path a trajectory is looked at."""
LEG = Solver(steps=4)


def validate(
    model: SemFlow, manifest: Manifest, cfg: TrainConfig, rank: int = 0, world: int = 1
) -> tuple[dict[str, float], Samples | None]:
    """Score the first rows of the split for it; all of ``world`` ranks call it and get the score.

    Only rank 0 gets samples to look at.
    """
    rows = Rows(manifest, manifest.judged, cfg.validate_rows)
    latents, ids = rows.x_0, rows.ids
    confusion = ConfusionMatrix(len(manifest.palette))
    samples = None
    with torch.autocast(model.device.type, torch.bfloat16, enabled=cfg.precision == "bf16"):
        latents_here, ids_here = latents[rank::world], ids[rank::world]
        for start in range(0, len(ids_here), BATCH):
            part = slice(start, start + BATCH)
            confusion.update(model.segment_latents(latents_here[part]).ids.cpu(), ids_here[part])
        if world > 1:
            counts = confusion.counts.to(model.device)
            torch.distributed.all_reduce(counts)
            confusion = ConfusionMatrix(len(manifest.palette), counts.cpu())
        if rank == 0:
            # Spread over the split: neighbours look alike.
            shown = torch.linspace(0, len(ids) - 1, min(SHOWN, len(ids))).long()
            samples = _samples(model, latents[shown], ids[shown])
    return {"val_miou": confusion.miou, "val_accuracy": confusion.accuracy}, samples


def publish(
    run: tracking.Run, cfg: TrainConfig, manifest: Manifest, step: int,
    scores: dict[str, float], samples: Samples,
) -> None:  # fmt: skip
    """Scores and pictures to MLflow, pictures to ``OUTPUT/samples``, and a line to look at."""
    run.metrics(scores, step)
    sheets = {
        f"samples/{step:08d}": pictures.sample_sheet(samples, manifest.palette),
        f"samples/{step:08d}-paths": pictures.path_sheet(samples, TIMES),
    }
    for name, sheet in sheets.items():
        storage.write_bytes(storage.join(cfg.output, f"{name}.png"), sheet)
        run.picture(name, sheet)
    miou, accuracy = scores["val_miou"], scores["val_accuracy"]
    say(f"step {step}  validation mIoU {miou:.4f}  accuracy {accuracy:.4f}")


def validate_checkpoint(checkpoint: ray.train.Checkpoint, **kwargs: Any) -> dict[str, float]:
    """What Ray Train runs beside the training: validate a checkpoint, on resources of its own.

    Args:
        checkpoint: one that the training stored.
        kwargs: its ``configuration``, and the MLflow run's ``handle``, both as JSON.
    """
    cfg, handle = config.from_dict(TrainConfig, kwargs["configuration"]), kwargs["handle"]
    manifest = read_manifest(cfg.data)
    run = tracking.Run(tracking.Handle(**handle) if handle else None, "train")
    with checkpoint.as_directory() as folder:
        run_id = run.handle.run_id if run.handle else None
        model = of_checkpoint(Path(folder), manifest, cfg, run_id)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    scores, samples = validate(model, manifest, cfg)
    assert samples is not None
    publish(run, cfg, manifest, model.provenance["step"], scores, samples)
    run.flush()
    return scores


def _samples(model: SemFlow, x_0: Tensor, ids: Tensor) -> Samples:
    with torch.inference_mode():
        images = model.autoencoder.decode(x_0.to(model.device))
        x_1 = model.encode_masks(ids)
        forth = _states(model, model.path.depart(x_0.to(model.device), 0.0), TIMES)
        back = _states(model, model.path.depart(x_1, 1.0, range(len(ids))), TIMES[::-1])
    segmentation = model.segment_latents(x_0)
    synthesized = model.synthesize(ids, seeds=range(len(ids))).images
    return Samples(
        images.cpu(), ids, segmentation.ids.cpu(), segmentation.margin.cpu(), synthesized.cpu(),
        forth, back.flip(1),
    )  # fmt: skip


def _states(model: SemFlow, x: Tensor, times: tuple[float, ...]) -> Tensor:
    """Pixels ``[B, len(times), 3, H, W]`` of the states at ``times``, from those at the first."""
    states = [x]
    for t_0, t_1 in pairwise(times):
        states.append(x := model.flow(x, t_0, t_1, LEG).x)
    latents = [model.path.arrive(state, times[-1]) for state in states]
    # A mask codec knows the mask's end, and symmflow's half that becomes a mask; no photo's.
    symmetric = isinstance(model.path, SymmetricFlow)
    mask = [times[-1] == 1 if symmetric else t == 1 for t in times]
    own = [bool(model.own_codec) and is_mask for is_mask in mask]
    pixels = (
        model.codec.read(x).picture if coded else model.autoencoder.decode(x)
        for x, coded in zip(latents, own, strict=True)
    )
    return torch.stack([picture.cpu() for picture in pixels], 1)
