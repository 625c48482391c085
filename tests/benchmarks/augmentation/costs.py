"""What stored draws cost on disk, and fresh ones in time."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from pipelines.dataset.latents import parquet_bytes, to_table
from tests.benchmarks.augmentation.data import Data, Pick
from tests.benchmarks.augmentation.draws import stored_seed
from tests.benchmarks.augmentation.study import Study
from tests.benchmarks.augmentation.training import build


def costs(study: Study, autoencoder: str) -> dict[str, Any]:
    """Bytes of a shard's row by K; seconds of encoding against picking, a batch of masks."""
    data = Data(study, autoencoder)
    whole = data.whole("train")[: study.batch]
    rows: dict[int, float] = {}
    columns: dict[str, Any] = {}
    for k in range(8):
        picks = [Pick("train", i, view, stored_seed(i, 0, k)) for i, view in whole]
        x_0, x_1, ids = data.latents(picks)
        columns |= {"image_mean": x_0.numpy(), "mask": ids.numpy(), f"mask_draw_{k}": x_1.numpy()}
        rows[k + 1] = len(parquet_bytes(to_table(columns, ""), 32)[0]) / study.batch
    draws = np.stack([columns[f"mask_draw_{k}"] for k in range(8)])
    noise = draws[1:].var(0, ddof=1).mean()
    shift = np.square(draws[1:].mean(0) - draws[0]).mean() - noise / 7
    masks, stored = data.palette.encode(ids), draws.astype(np.float16)
    seeds = list(range(study.batch))
    perturbed = study.perturbation.apply(masks, seeds)
    model = build(study, data)

    def step() -> None:
        model.velocity(x_1, torch.rand(study.batch)).square().mean().backward()

    with torch.inference_mode():
        perturb = clocked(lambda: study.perturbation.apply(masks, seeds))
        online = clocked(lambda: data.autoencoder.encode(perturbed).mean)
    return {
        "bytes_a_row": rows,
        "latent_variance": float(draws[0].var()),
        "perturbation_noise": float(noise),  # what differs between the draws of a mask
        "perturbation_shift": float(shift),  # what they have in common against the clean one
        "perturb_s": perturb,
        "encode_s": online,
        "pick_s": clocked(lambda: torch.from_numpy(stored[3, np.arange(study.batch)]).float()),
        "train_step_s": clocked(step),
    }


def clocked(do: Any, times: int = 10) -> float:
    """Least seconds of several tries: the machine is shared."""
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        do()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
