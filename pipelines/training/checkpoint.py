"""A checkpoint: everything it takes to go on, with any number of workers and any ZeRO stage.

::

    state_RANK.safetensors   that rank's pieces: float32 weights, AdamW's moments, averaged weights;
                             tensors [n], named KIND/START/PARAMETER
    unet/, null_prompt…      what the model is, without weights
    state_RANK.json          SHA-256 of that file, and beside rank 0's of trainer.json
    trainer.json             step, what decides the order of the data, schedule, configuration;
                             the number of workers, which is the number of files that count

Whoever loads it reads the stretches that it needs, from whichever files have them. Random state is
not in it, because there is none: all chance is a function of seed, step and rank. Nothing here is
pickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from pyarrow.fs import FileSelector
from ray.train import Checkpoint
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from infra import storage
from pipelines.config import UserError
from pipelines.training import partition
from pipelines.training.partition import Piece
from semflow import EMA, Velocity

TRAINER = "trainer.json"
WEIGHT, AVERAGE = "weight", "average"


def save(
    folder: Path,
    engine: Any,
    mine: list[Piece],
    ema: EMA,
    *,
    step: int,
    order: dict[str, Any],
    config: dict[str, Any],
) -> None:
    """Write this rank's part into ``folder``; all ranks call it, each with a folder of its own.

    ``order`` is what decides the order of the data: with it, the step says where to go on.
    """
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    tensors: dict[str, Tensor] = {}
    for number, (piece, average) in enumerate(zip(mine, ema.average, strict=True)):
        if not partition.is_split(engine) and number % world != rank:
            continue  # all have it: they take turns
        kinds = {WEIGHT: piece.weight, AVERAGE: average.view(-1)}
        for kind, values in (kinds | partition.moments(engine, piece)).items():
            tensors[f"{kind}/{piece.start}/{piece.name}"] = values.cpu().contiguous()
    save_file(tensors, folder / _file(rank))
    digests = {_file(rank): _digest(folder / _file(rank))}
    if rank == 0:
        note = {
            "step": step,
            "order": order,
            "workers": world,
            "optimizer_steps": partition.steps_taken(engine),
            "average_updates": ema.updates,
            "schedule_steps": engine.lr_scheduler.last_epoch,
            "loss_scale": _loss_scale(engine),
            "config": config,
        }
        engine.module.save(folder, weights=False)
        (folder / TRAINER).write_text(json.dumps(note, indent=2))
        digests[TRAINER] = _digest(folder / TRAINER)
    (folder / _digests(rank)).write_text(json.dumps(digests, indent=2))


def load(folder: Path, engine: Any, mine: list[Piece], ema: EMA) -> int:
    """Take up a whole checkpoint; all ranks call it. Returns the step.

    Raises:
        UserError: when it is not of this model.
    """
    note = parse_note((folder / TRAINER).read_bytes())
    with Saved(folder, note["workers"]) as saved, torch.no_grad():
        sizes = {name: p.ds_numel if hasattr(p, "ds_numel") else p.numel()
                 for name, p in engine.module.named_parameters()}  # fmt: skip
        saved.check(sizes)
        for piece, average in zip(mine, ema.average, strict=True):
            into = {WEIGHT: piece.weight, AVERAGE: average.view(-1)}
            for kind, values in (into | partition.moments(engine, piece)).items():
                values.copy_(saved.read(kind, piece.name, piece.start, piece.numel))
        partition.to_model(engine, lambda name: saved.read(WEIGHT, name, 0, sizes[name]))
    partition.set_steps_taken(engine, note["optimizer_steps"])
    ema.updates = note["average_updates"]
    _set_schedule(engine, note["schedule_steps"])
    if note["loss_scale"]:
        vars(engine.optimizer.loss_scaler).update(note["loss_scale"])
    return int(note["step"])


def damage(folder: Path, rank: int, world: int) -> str | None:
    """What is wrong with this rank's share of a checkpoint's files; None for nothing.

    ``world`` ranks look at all files together, each once: bytes are compared with the digests that
    were written with them. Checkpoints of earlier versions have none; their headers are read.
    """
    try:
        note = parse_note((folder / TRAINER).read_bytes())
        for number in range(rank, int(note["workers"]), world):
            said = {_file(number): None}
            if (folder / _digests(number)).is_file():
                said = json.loads((folder / _digests(number)).read_bytes())
            for name, digest in said.items():
                if digest and _digest(folder / name) != digest:
                    return f"{name} has other bytes than were written"
            with safe_open(folder / _file(number), "pt"):
                pass
    except FileNotFoundError as error:
        return f"{Path(error.filename or '').name or error} is missing"
    except (ValueError, KeyError, TypeError, AttributeError, OSError, SafetensorError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def candidates(last: Checkpoint) -> Iterator[Checkpoint]:
    """A checkpoint, then those of its run that were made before it, the newest first."""
    yield last
    above, _, name = last.path.rstrip("/").rpartition("/")
    filesystem: Any = last.filesystem
    there = filesystem.get_file_info(FileSelector(above, allow_not_found=True))
    for earlier in sorted((info.base_name for info in there), reverse=True):
        if earlier.startswith("checkpoint_") and earlier < name:
            yield Checkpoint(f"{above}/{earlier}", last.filesystem)


def elsewhere(path: str | None, output: str) -> Checkpoint | None:
    """Another run's checkpoint, by its path on the storage of a run's ``output``."""
    return Checkpoint(path, storage.arrow(output)[0]) if path else None


@torch.no_grad()
def averaged(folder: Path, workers: int, velocity: Velocity) -> None:
    """Give a model the averaged weights of a checkpoint that so many workers wrote."""
    with Saved(folder, workers) as saved:
        for name, p in velocity.named_parameters():
            p.copy_(saved.read(AVERAGE, name, 0, p.numel()).view(p.shape))


class Saved:
    """The tensors of a checkpoint, whatever files they were split over."""

    def __init__(self, folder: Path, workers: int) -> None:
        """Open the files of ``workers`` ranks; others are left from an attempt that died."""
        self._stack = ExitStack()
        self._parts: dict[tuple[str, str], list[tuple[int, int, Any]]] = {}
        for rank in range(workers):
            file = self._stack.enter_context(safe_open(folder / _file(rank), "pt"))
            for key in file.keys():  # noqa: SIM118 - it is not a dictionary
                kind, start, name = key.split("/", 2)
                part = file.get_slice(key)
                stop = int(start) + part.get_shape()[0]
                self._parts.setdefault((kind, name), []).append((int(start), stop, part))

    def __enter__(self) -> Saved:
        return self

    def __exit__(self, *error: object) -> None:
        self._parts.clear()
        self._stack.close()

    def check(self, sizes: dict[str, int]) -> None:
        """Whether it is of a model whose parameters have these sizes.

        Raises:
            UserError: when not.
        """
        saved = {
            name: sum(stop - start for start, stop, _ in parts)
            for (kind, name), parts in self._parts.items() if kind == WEIGHT
        }  # fmt: skip
        other = [name for name in saved.keys() | sizes.keys() if saved.get(name) != sizes.get(name)]
        if other:
            raise UserError(
                f"the checkpoint is of another model: {len(other)} parameters differ, among them "
                f"{min(other)}. Give --velocity and --init what the run had, or another --output"
            )

    def read(self, kind: str, name: str, start: int, numel: int) -> Tensor:
        """Elements ``[start, start + numel)`` of a parameter's ``kind``, float32.

        Raises:
            ValueError: when some are in no file.
        """
        out, filled = torch.empty(numel), 0
        for first, last, part in self._parts.get((kind, name), ()):
            low, high = max(first, start), min(last, start + numel)
            if low < high:
                out[low - start : high - start] = part[low - first : high - first]
                filled += high - low
        if filled != numel:
            raise ValueError(f"the checkpoint lacks {numel - filled} values of {kind} of {name}")
        return out


def parse_note(data: bytes) -> dict[str, Any]:
    """``trainer.json``.

    Raises:
        ValueError: when it was cut or changed.
    """
    note = json.loads(data)
    if not isinstance(note, dict):
        raise ValueError(f"{TRAINER} holds no object")
    return note


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _digests(rank: int) -> str:
    return f"state_{rank:05d}.json"


def _file(rank: int) -> str:
    return f"state_{rank:05d}.safetensors"


def _set_schedule(engine: Any, steps: int) -> None:
    """Put the schedule where it was; its peak and its length are those that are asked for now."""
    schedule = engine.lr_scheduler
    rates = [rate * at(steps) for rate, at in zip(schedule.base_lrs, schedule.lr_lambdas,
                                                  strict=True)]  # fmt: skip
    schedule.last_epoch, schedule._last_lr = steps, rates
    for group, rate in zip(engine.basic_optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def _loss_scale(engine: Any) -> dict[str, Any]:
    """The state of fp16's loss scaling; empty without it."""
    scaler = getattr(engine.optimizer, "loss_scaler", None) if engine.fp16_enabled() else None
    return {
        name: value
        for name, value in vars(scaler).items()
        if isinstance(value, bool | int | float)
    } if scaler else {}  # fmt: skip
