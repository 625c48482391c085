"""The model that a training makes: averaged weights, and all that using them takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from infra import storage
from pipelines import config
from pipelines.dataset import maskcodec
from pipelines.dataset.latents import Manifest
from pipelines.training import checkpoint
from pipelines.training.config import TrainConfig
from semflow import Palette, Perturbation, SemFlow, Velocity, load_autoencoder
from semflow.codecs.blocks import Blocks
from semflow.networks.base import Autoencoder
from semflow.sampler import AUTOENCODER, Defaults

MODEL = "model"
"""Folder of the finished one, below a run's output."""


def make_model(
    velocity: Velocity,
    autoencoder: Autoencoder,
    codec: Blocks | None,
    manifest: Manifest,
    cfg: TrainConfig,
    *,
    step: int,
    mlflow_run: str | None,
) -> SemFlow:
    """A SemFlow of a velocity with averaged weights, in evaluation mode."""
    defaults = Defaults(
        height=manifest.height,
        width=manifest.width,
        segment=cfg.segment,
        synthesize=cfg.synthesize,
        perturbation=Perturbation(**manifest.recipe["perturbation"]),
        class_map=manifest.class_map,
        window=cfg.window,
    )
    provenance = {
        "dataset": manifest.fingerprint,
        "data": cfg.data,
        "step": step,
        "mlflow_run": mlflow_run,
        "config": config.to_dict(cfg),
    }
    model = SemFlow(
        velocity, autoencoder, manifest.palette, defaults, provenance, cfg.flow_path, codec
    )
    return model.eval().requires_grad_(False)


def check_fit(model: str, index: dict[str, Any], manifest: Manifest) -> None:
    """Refuse a model at URI ``model``, with its index, for data of another kind than its own.

    Raises:
        ValueError: saying what differs: classes, the size of the pictures, or the autoencoder.
    """
    known, names = Palette.from_json(index["palette"]).names, manifest.palette.names
    if known != names:
        raise ValueError(f"the model knows the classes {list(known)}, the data has {list(names)}")
    size = (index["defaults"]["height"], index["defaults"]["width"])
    if size != (manifest.height, manifest.width):
        raise ValueError(f"the model is for pictures of {size}, the data has "
                         f"{(manifest.height, manifest.width)}")  # fmt: skip
    with storage.local_folder(storage.join(model, AUTOENCODER)) as folder:
        identity = load_autoencoder(folder).identity()
    if identity.items() - manifest.recipe["autoencoder"].items():
        raise ValueError(f"the model {model} has another autoencoder than made {manifest.uri}")
    if index.get("mask_codec") != manifest.recipe.get("mask_codec"):
        raise ValueError(f"the model {model} has another mask codec than made {manifest.uri}")


def of_checkpoint(
    folder: Path, manifest: Manifest, cfg: TrainConfig, mlflow_run: str | None
) -> SemFlow:
    """The model that a checkpoint in ``folder`` holds, on the CPU."""
    note: dict[str, Any] = checkpoint.parse_note((folder / checkpoint.TRAINER).read_bytes())
    velocity = Velocity.load(folder, weights=False)
    checkpoint.averaged(folder, note["workers"], velocity)
    autoencoder = load_autoencoder(manifest.recipe["autoencoder"]["source"])
    return make_model(
        velocity,
        autoencoder,
        maskcodec.of(manifest),
        manifest,
        cfg,
        step=note["step"],
        mlflow_run=mlflow_run,
    )
