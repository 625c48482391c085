"""The last stage of a training: a refiner learns to read masks on the finished flow.

The flow is frozen, so what is synthesized stays as it is. One worker does it: the network is small,
and what takes time is one segmentation a step. Its state is stored now and then below the run's
output; stopped or killed it goes on from there, and what is finished is not done again.

Shapes: B batch, C latent channels, h and w latent size, H and W pixels, K classes.
"""

from __future__ import annotations

import io
import math
from typing import Any

import torch
from torch import Tensor

from infra import storage, tracking
from infra.console import say
from pipelines.dataset.latents import Manifest
from pipelines.training import watch
from pipelines.training.config import TrainConfig
from pipelines.training.feed import Feed, Order
from semflow import SemFlow
from semflow.codecs.refiner import Refiner
from semflow.flow.objective import cross_entropy
from semflow.sampler import REFINER

STATE = f"{REFINER}/state.pt"
"""Below a run's output: of an unfinished stage."""
LR = 3e-3
STORE_EVERY = 100
"""Steps."""


def refined(
    model: SemFlow, cfg: TrainConfig, manifest: Manifest, class_weights: Tensor, run: tracking.Run
) -> SemFlow:
    """The model with a refiner: that of an earlier run of this stage, or a new one.

    Args:
        model: the finished flow, which is left as it is.
        cfg: says for how many steps.
        manifest: of the rows to learn from.
        class_weights: ``[K]``, on the model's device.
        run: is told the loss.

    Raises:
        Ended: when it was asked to stop.
    """
    made_for = {"step": model.provenance["step"], "steps": cfg.refine_steps, "seed": cfg.seed,
                "data": manifest.fingerprint}  # fmt: skip
    torch.manual_seed(cfg.seed)
    refiner = Refiner(len(model.palette)).to(model.device)
    optimizer = torch.optim.AdamW(refiner.parameters(), LR)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: 0.5 * (1 + math.cos(math.pi * i / cfg.refine_steps))
    )
    done = 0
    parts: dict[str, Any] = {"refiner": refiner, "optimizer": optimizer, "schedule": schedule}
    where = storage.join(cfg.output, STATE)
    if storage.exists(where):
        state = torch.load(io.BytesIO(storage.read_bytes(where)), model.device, weights_only=True)
        if state["made_for"] == made_for:
            done = state["done"]
            for name, part in parts.items():
                part.load_state_dict(state[name])

    def store() -> None:
        buffer = io.BytesIO()
        state = {name: part.state_dict() for name, part in parts.items()}
        torch.save(state | {"made_for": made_for, "done": done}, buffer)
        storage.write_bytes(where, buffer.getvalue())

    split = manifest.split("train")
    order = Order.of(split, cfg.seed, cfg.shuffle_groups, cfg.batch_size)
    feed = Feed(manifest, "train", order, range(cfg.batch_size), online=True)
    if done < cfg.refine_steps:
        say(f"the refiner: {cfg.refine_steps - done} steps, with the flow as it is")
    for rows in feed.batches(done, cfg.refine_steps):
        x_0, ids = (torch.from_numpy(rows[name]).to(model.device) for name in ("x_0", "ids"))
        logits, photos = seen(model, x_0.float(), cfg)
        loss = cross_entropy(refiner(logits, photos), ids, class_weights)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        done += 1
        last = done == cfg.refine_steps
        if done % cfg.log_every == 0 or last:
            value = float(loss.detach())
            run.metrics({"loss_refiner": value}, cfg.steps + done)
            say(f"refiner {done}/{cfg.refine_steps}  loss {value:.4f}")
            if storage.exists(storage.join(cfg.output, watch.STOP)) and not last:
                store()
                raise watch.Ended
        if done % STORE_EVERY == 0 or last:
            store()
    return model.with_refiner(refiner.eval().requires_grad_(False))


@torch.no_grad()
def seen(model: SemFlow, x_0: Tensor, cfg: TrainConfig) -> tuple[Tensor, Tensor]:
    """What a refiner sees of image latents ``[B, C, h, w]``: logits ``[B, K, H, W]`` and photos
    ``[B, 3, H, W]``."""
    with torch.autocast(model.device.type, torch.bfloat16, enabled=cfg.precision == "bf16"):
        logits = model.codec.logits(model.mask_latents(x_0, cfg.segment)[0])
        return logits.float(), model.autoencoder.decode(x_0).float()
