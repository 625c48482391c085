"""The model to train, and DeepSpeed's engine around it."""

from __future__ import annotations

import fcntl
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed.accelerator import get_accelerator
from diffusers.optimization import get_scheduler
from safetensors.torch import load, save
from torch.utils.cpp_extension import _get_build_directory

from infra import storage
from pipelines.latents import Manifest, Rows
from pipelines.trainconfig import TrainConfig
from semflow import Velocity, make_velocity
from semflow.autoencoder import Autoencoder
from semflow.precondition import Preconditioning
from semflow.velocity import doubled, from_stable_diffusion, null_prompt

NULL_PROMPT = "init/null_prompt.safetensors"
"""Below a run's output: what its weights' text encoder says of the empty sentence."""

SPREAD_ROWS = 64
"""Rows of which a standard deviation is known well enough."""
BUCKET = 5 * 10**7
"""Elements that ZeRO reduces or gathers at once, at most."""


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
    cfg: TrainConfig, manifest: Manifest, autoencoder: Autoencoder
) -> Preconditioning | None:
    """Of a new network, if it is to have any: by the spread of the first latents for training."""
    if cfg.init or not cfg.preconditioned:
        return None
    rows = Rows(manifest, "train", SPREAD_ROWS)
    device = next(autoencoder.parameters(), rows.x_0).device
    pictures = manifest.palette.encode(rows.ids.to(device))
    x_1 = torch.cat([autoencoder.encode(some).mean for some in torch.split(pictures, 8)])
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


def build_operators() -> None:
    """Build what DeepSpeed wants for CPUs, once a machine, its workers in turn.

    torch marks a build that is under way by a file, and a process that is killed meanwhile leaves
    it: whoever comes later would wait for ever, and say nothing. A lock of the system's dies with
    its holder, and who holds it may take such a file away.
    """
    if get_accelerator().device_name() != "cpu":
        return
    builder = get_accelerator().create_op_builder("ShareMemCommBuilder")
    folder = Path(_get_build_directory(builder.name, False))
    with open(folder.with_suffix(".semflow-lock"), "w") as mine:
        fcntl.flock(mine, fcntl.LOCK_EX)
        (folder / "lock").unlink(missing_ok=True)
        if builder.is_compatible(verbose=False):
            builder.load(verbose=False)


def start_engine(cfg: TrainConfig, velocity: Velocity, workers: int) -> Any:
    """DeepSpeed's engine around the model, with its optimizer and learning-rate schedule.

    The optimizer is torch's own fused AdamW on every device and under every ZeRO stage, so that
    what is stored of it is always the same two moments.
    """
    build_operators()
    if cfg.activation_checkpointing:
        velocity.unet.enable_gradient_checkpointing()
    if cfg.compile:
        velocity.unet.compile()
    engine, *_ = deepspeed.initialize(
        model=velocity,
        optimizer=lambda parameters: torch.optim.AdamW(
            parameters, cfg.lr, cfg.betas, cfg.eps, cfg.weight_decay, fused=True
        ),
        lr_scheduler=lambda optimizer: get_scheduler(
            "constant_with_warmup" if cfg.schedule == "constant" else cfg.schedule,
            optimizer,
            num_warmup_steps=cfg.warmup_steps,
            num_training_steps=cfg.steps,
        ),
        config=engine_config(cfg, workers, sum(p.numel() for p in velocity.parameters())),
    )
    if workers == 1 and is_plain(cfg):
        engine.enable_backward_allreduce = False  # it would copy all gradients, for nothing
    return engine


def is_plain(cfg: TrainConfig) -> bool:
    """Whether DeepSpeed leaves the optimizer as it is: then clipping is ours (loop.py)."""
    return cfg.effective_zero_stage == 0


def engine_config(cfg: TrainConfig, workers: int, parameters: int) -> dict[str, Any]:
    """DeepSpeed's configuration, for a model of so many parameters."""
    parts = cfg.micro_batches(workers)
    # DeepSpeed's own buffers, and what stage 3 keeps gathered, are larger than many a whole model.
    bucket = min(BUCKET, max(10**6, parameters // 10))
    zero: dict[str, Any] = {
        "stage": cfg.effective_zero_stage,
        "reduce_bucket_size": bucket,
        "allgather_bucket_size": bucket,
        "stage3_prefetch_bucket_size": bucket // 10,
        "stage3_max_live_parameters": 2 * bucket,
        "stage3_max_reuse_distance": 2 * bucket,
        "sub_group_size": 10 * bucket,
    }
    if cfg.offload != "none":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    if cfg.offload == "weights":
        zero["offload_param"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    return {
        # Rows of a micro-batch may differ by one; each weighs what it holds (loop.py).
        "train_micro_batch_size_per_gpu": max(1, cfg.batch_size // (parts * workers)),
        "gradient_accumulation_steps": parts,
        # torch's own takes one pass where DeepSpeed's takes one for each parameter.
        "gradient_clipping": 0.0 if is_plain(cfg) else cfg.clip,
        "zero_optimization": zero,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": cfg.precision == "bf16"},
        "fp16": {"enabled": cfg.precision == "fp16"},
        "steps_per_print": 10**9,
    }
