"""What it takes to go on: DeepSpeed's state, the averaged weights, random state, and a note.

A checkpoint folder holds ``deepspeed/`` (weights, optimizer, scheduler; a part of each rank),
``ema.safetensors`` (ZeRO-3: one a rank), ``rng_RANK.safetensors`` and ``trainer.json`` (step, what
decides the order of the data, number of workers, configuration), which says whether it fits.

Reading ``deepspeed/`` is DeepSpeed's own code, which unpickles: resume only from storage you trust.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from pipelines.config import UserError
from semflow.ema import EMA

TAG, TRAINER = "deepspeed", "trainer.json"


def save(
    folder: Path, engine: Any, ema: EMA, *, step: int, order: dict[str, Any], config: dict[str, Any]
) -> None:
    """Write this rank's part into ``folder``; all ranks call it, each with a folder of its own.

    ``order`` is what decides the order of the data: with it, the step says where to go on.
    """
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    stage = engine.zero_optimization_stage()
    engine.save_checkpoint(str(folder), tag=TAG)
    if rank == 0 or stage == 3:
        save_file(ema.state_dict(), folder / _ema_name(stage, rank))
    save_file({"cpu": torch.get_rng_state()}, folder / f"rng_{rank}.safetensors")
    if rank == 0:
        note = {"step": step, "order": order, "workers": world, "zero_stage": stage,
                "config": config}  # fmt: skip
        (folder / TRAINER).write_text(json.dumps(note, indent=2))


def load(folder: Path, engine: Any, ema: EMA) -> int:
    """Take up a whole checkpoint; all ranks call it. Returns the step.

    Raises:
        UserError: when it was written by another number of workers or another ZeRO stage.
    """
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    stage = engine.zero_optimization_stage()
    note = parse_note((folder / TRAINER).read_bytes())
    if note["zero_stage"] != stage or (stage > 0 and note["workers"] != world):
        raise UserError(
            f"this checkpoint is of {note['workers']} workers under ZeRO-{note['zero_stage']} and "
            f"cannot go on with {world} under ZeRO-{stage}: DeepSpeed splits the optimizer's state "
            "over the workers. Train with the numbers it has, or with --zero-stage 0 from the "
            "start, which any number of workers can take up"
        )
    loaded, _ = engine.load_checkpoint(str(folder), tag=TAG)
    if loaded is None:
        raise RuntimeError(f"DeepSpeed found no state in {folder}")
    ema.load_state_dict(load_file(folder / _ema_name(stage, rank)))
    own = folder / f"rng_{rank}.safetensors"
    if own.is_file():
        torch.set_rng_state(load_file(own)["cpu"])
    return int(note["step"])


def parse_note(data: bytes) -> dict[str, Any]:
    """``trainer.json``."""
    note: dict[str, Any] = json.loads(data)
    return note


def _ema_name(stage: int, rank: int) -> str:
    return f"ema_{rank}.safetensors" if stage == 3 else "ema.safetensors"
