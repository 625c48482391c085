"""Averaged weights: an exponential moving average of whatever tensors it is given.

Those may be a model's parameters, or the part of them that one rank of a larger training holds:
the average is element by element, so each rank averages its own part.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class EMA:
    """``average <- d_n average + (1 - d_n) weights`` with ``d_n = min(decay, (1 + n) / (10 + n))``.

    The ramp is that of TensorFlow's and of diffusers' moving average: a short run is not left
    with its random start. Kept in float32 whatever the weights are.
    """

    def __init__(self, weights: Iterable[Tensor], decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"an EMA decay lies in [0, 1), not {decay}")
        self.decay = decay
        self.updates = 0
        self._weights = [tensor.detach() for tensor in weights]
        self.average = [tensor.float().clone() for tensor in self._weights]

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights of now into the average."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        if self.average:  # a rank may hold no part at all
            torch._foreach_lerp_(self.average, [w.float() for w in self._weights], 1 - decay)

    @torch.no_grad()
    def copy_to(self, targets: Iterable[Tensor]) -> None:
        """Give the averages to other tensors of the same shapes, in the same order."""
        for average, target in zip(self.average, targets, strict=True):
            target.copy_(average)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages and the number of updates, as plain tensors."""
        state = {f"average.{i}": part for i, part in enumerate(self.average)}
        return state | {"updates": torch.tensor(self.updates)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a :meth:`state_dict` of an average of the same shapes."""
        self.updates = int(state["updates"])
        for i, part in enumerate(self.average):
            part.copy_(state[f"average.{i}"])
