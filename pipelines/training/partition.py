"""What one rank holds of a model in training, under any of DeepSpeed's ZeRO stages.

ZeRO lays a model's weights behind one another in a flat float32 tensor, gives each rank a stretch
of it, and AdamW's moments beside it. A :class:`Piece` is the part of one parameter that lies in a
rank's stretch, as views that can be read and written. Averages, checkpoints and the finished model
are made of pieces, so none of them depends on the stage or on the number of workers. ::

    stage 0     every rank holds every parameter:      pieces are whole and alike
    stage 1, 2  the float32 weights are split:         a parameter is on a rank, or on several
    stage 3     every parameter is split into ranks:   equal pieces, the last one padded

This is the only file that knows where DeepSpeed keeps these tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's state of each weight."""


@dataclass(frozen=True)
class Piece:
    """A stretch of a parameter, elements ``[start, start + numel)`` of its flattened form."""

    name: str
    start: int
    numel: int
    flat: Tensor
    """The float32 tensor that the optimizer steps; the piece begins at ``offset``."""
    offset: int

    def of(self, flat: Tensor) -> Tensor:
        """The piece's elements ``[numel]`` of something shaped like ``flat``: a view."""
        return flat.detach().view(-1)[self.offset : self.offset + self.numel]

    @property
    def weight(self) -> Tensor:
        """The float32 weights, a view."""
        return self.of(self.flat)


def pieces(engine: Any) -> list[Piece]:
    """The pieces that this rank holds."""
    rank = torch.distributed.get_rank()
    found = []
    for name, p in engine.module.named_parameters():
        if hasattr(p, "ds_tensor"):
            zero = engine.optimizer
            group, offset, numel = zero.grad_position[zero.get_param_id(p)]
            start, flat = numel * rank, zero.fp32_partitioned_groups_flat[group]
            numel = min(numel, p.ds_numel - start)  # without the last rank's padding
        elif hasattr(p, "_hp_mapping"):
            if (where := p._hp_mapping) is None:  # on other ranks only
                continue
            start, numel = where.lp_fragment_address.start, where.lp_fragment_address.numel
            offset = where.hp_fragment_address.start
            flat = engine.basic_optimizer.param_groups[where.param_group_index]["params"][0]
        else:
            start, numel, flat, offset = 0, p.numel(), p, 0
        if numel > 0:
            found.append(Piece(name, start, numel, flat, offset))
    return found


def is_split(engine: Any) -> bool:
    """Whether each rank has pieces of its own, rather than all of them."""
    return bool(engine.zero_optimization_stage() > 0)


def moments(engine: Any, piece: Piece) -> dict[str, Tensor]:
    """AdamW's state of a piece by name, as views; made first where no step was taken yet."""
    state = engine.basic_optimizer.state[piece.flat]
    if not state:
        state["step"] = torch.zeros((), device=piece.flat.device)
        state |= {name: torch.zeros_like(piece.flat) for name in MOMENTS}
    return {name: piece.of(state[name]) for name in MOMENTS}


def steps_taken(engine: Any) -> int:
    """Steps that the optimizer has made; those that fp16 skipped do not count."""
    return max((int(state["step"]) for state in engine.basic_optimizer.state.values()), default=0)


def set_steps_taken(engine: Any, steps: int) -> None:
    for state in engine.basic_optimizer.state.values():
        state["step"].fill_(steps)


@torch.no_grad()
def gather(
    engine: Any, mine: Sequence[Piece], values: Iterable[Tensor], targets: dict[str, Tensor]
) -> None:
    """Put values of all ranks' pieces together; every rank calls it and gets them whole.

    Args:
        engine: DeepSpeed's.
        mine: this rank's pieces.
        values: of each, ``[numel]``.
        targets: what to fill, by the parameters' names.
    """
    here = {piece.name: (piece, value) for piece, value in zip(mine, values, strict=True)}
    for name, target in targets.items():
        whole = torch.zeros(target.numel(), device=target.device)
        if name in here:
            piece, value = here[name]
            whole[piece.start : piece.start + piece.numel] = value.to(target.device)
        if is_split(engine):
            torch.distributed.all_reduce(whole)  # zeros elsewhere: exact
        target.copy_(whole.view(target.shape))


@torch.no_grad()
def to_model(engine: Any, whole: Any) -> None:
    """Set the model's own weights from the float32 ones, after these were written.

    Args:
        engine: DeepSpeed's.
        whole: ``whole(name)`` gives a parameter's flat float32 weights.
    """
    rank = torch.distributed.get_rank()
    for name, p in engine.module.named_parameters():
        weights: Tensor = whole(name)
        if hasattr(p, "ds_tensor"):
            size = p.ds_tensor.numel()
            part = weights[size * rank : size * (rank + 1)]
            p.ds_tensor.view(-1)[: len(part)].copy_(part)
        if p.numel() == len(weights):  # under ZeRO-3 only small ones are whole on every rank
            _data(p).copy_(weights.view(p.shape))


def _data(p: nn.Parameter) -> Tensor:
    return p.data
