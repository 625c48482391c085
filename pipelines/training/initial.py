"""The network that a training begins with: new, or of a folder or a hub id."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from safetensors.torch import load, save

from infra import storage
from pipelines.dataset.latents import Manifest, Rows
from pipelines.training.config import TrainConfig
from semflow import Velocity, make_velocity
from semflow.codecs.base import MaskCodec
from semflow.networks.precondition import Preconditioning
from semflow.networks.velocity import doubled, from_stable_diffusion, null_prompt

NULL_PROMPT = "init/null_prompt.safetensors"
"""Below a run's output: what its weights' text encoder says of the empty sentence."""

SPREAD_ROWS = 64
"""Rows of which a standard deviation is known well enough."""


def store_null_prompt(cfg: TrainConfig) -> None:
    """Compute the null prompt of a Stable Diffusion pipeline, once a run, for all its workers."""
    where = storage.join(cfg.output, NULL_PROMPT)
    if cfg.init and not _is_velocity(cfg.init) and not storage.exists(where):
        with storage.local_folder(cfg.init) if _is_folder(cfg.init) else nullcontext(cfg.init) as s:
            storage.write_bytes(where, save({"null_prompt": null_prompt(s)}))


def build_velocity(
    cfg: TrainConfig, channels: int, preconditioning: Preconditioning | None = None
) -> Velocity:
    """The model to train, for states of ``channels``: new, or from ``cfg.init``'s weights.

    Raises:
        ValueError: when those are of other states.
    """
    if not cfg.init:
        return make_velocity(cfg.velocity, channels, preconditioning)
    found = _initial(cfg)
    own = found.config["in_channels"]
    if own == channels:
        return found
    if 2 * own == channels and cfg.flow == "symmflow":
        return doubled(found)
    raise ValueError(
        f"--init {cfg.init} takes {own} channels, --flow {cfg.flow} on these latents has {channels}"
    )


@torch.no_grad()
def preconditioning(
    cfg: TrainConfig, manifest: Manifest, codec: MaskCodec, device: torch.device
) -> Preconditioning | None:
    """Of a new network, if it is to have any: by the spread of the first latents for training."""
    if cfg.init or not cfg.preconditioned:
        return None
    rows = Rows(manifest, "train", SPREAD_ROWS)
    x_1 = torch.cat([codec.encode(some) for some in torch.split(rows.ids.to(device), 8)])
    image, mask = (round(float(x.float().std()), 3) for x in (rows.x_0, x_1))
    return cfg.flow_path.preconditioning(image, mask)


def _initial(cfg: TrainConfig) -> Velocity:
    """The model of ``cfg.init``."""
    assert cfg.init
    if _is_velocity(cfg.init):
        with storage.local_folder(cfg.init) as folder:
            return Velocity.load(folder)
    prompt = load(storage.read_bytes(storage.join(cfg.output, NULL_PROMPT)))["null_prompt"]
    if not _is_folder(cfg.init):
        return from_stable_diffusion(cfg.init, prompt)
    with storage.local_folder(cfg.init) as folder:
        return from_stable_diffusion(folder, prompt)


def _is_folder(init: str) -> bool:
    """Whether ``init`` is a folder or URI of ours; else it is a hub id."""
    return storage.exists(storage.join(init, "model_index.json"))


def _is_velocity(init: str) -> bool:
    """Whether it is a SemFlow model, rather than a Stable Diffusion pipeline."""
    return _is_folder(init) and not storage.exists(storage.join(init, "tokenizer"))
