"""When a training must stop before its end: it diverged, or it was asked to."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from infra import storage
from pipelines.training.feed import Feed
from pipelines.training.partition import Piece

DIVERGED = "_progress/diverged.json"
STOP = "_progress/stop"
"""Below a run's output: what went wrong; and the wish that it stop, which a signal leaves."""

NEVER = 2**62


class Ended(Exception):
    """Not an error for Ray Train to try again: the driver says what it was."""


class Watch:
    """Looks after a training without making the device wait at every step."""

    def __init__(self, feed: Feed, output: str, rank: int) -> None:
        self.feed, self.output, self.rank = feed, output, rank
        self.losses: dict[int, Tensor] = {}  # this rank's part, since the last look

    def note(self, step: int, loss: Tensor) -> None:
        self.losses[step] = loss

    def check(self, pieces: list[Piece]) -> None:
        """Whether all losses since the last look, and the weights, are finite on every rank.

        Raises:
            Ended: when not. Rank 0 has written which step it was, and of which rows.
        """
        steps = torch.tensor(list(self.losses))
        good = torch.stack(list(self.losses.values())).isfinite().cpu()
        self.losses = {}
        first = int(steps[~good].min()) if not good.all() else NEVER
        if first == NEVER and not all(bool(piece.weight.isfinite().all()) for piece in pieces):
            first = int(steps[-1])
        if (bad := _least(first, pieces)) == NEVER:
            return
        if self.rank == 0:
            note = {"step": bad, "rows": self.feed.names(bad - 1)}
            storage.write_json(storage.join(self.output, DIVERGED), note)
        torch.distributed.barrier()
        raise Ended

    def asked_to_stop(self, pieces: list[Piece]) -> bool:
        """Whether the driver left word to stop; the same on every rank."""
        asked = self.rank == 0 and storage.exists(storage.join(self.output, STOP))
        return _least(0 if asked else NEVER, pieces) == 0


def clear(output: str) -> None:
    """Forget how an earlier start ended."""
    for name in (DIVERGED, STOP):
        storage.remove(storage.join(output, name))


def diverged(output: str) -> dict[str, Any] | None:
    """What :meth:`Watch.check` wrote, if anything."""
    where = storage.join(output, DIVERGED)
    return dict(storage.read_json(where)) if storage.exists(where) else None


def _least(value: int, pieces: list[Piece]) -> int:
    device = pieces[0].weight.device if pieces else torch.device("cpu")
    tensor = torch.tensor(value, device=device)
    torch.distributed.all_reduce(tensor, torch.distributed.ReduceOp.MIN)
    return int(tensor)
