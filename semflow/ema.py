"""Averaged weights: an exponential moving average that also works on a rank's own part.

ZeRO-3 leaves each rank with a slice of every parameter (``ds_tensor``). The average is element
by element, so each rank averages its slice and nothing is gathered until the weights are used.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def local_parts(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    """What this rank holds of each parameter: all of it, or its ZeRO-3 slice."""
    return [getattr(p, "ds_tensor", p.data) for p in parameters]


class EMA:
    """``average <- d_n average + (1 - d_n) weights`` with ``d_n = min(decay, (1 + n) / (10 + n))``.

    The ramp is that of TensorFlow's and of diffusers' moving average: a short run is not left
    with its random start. Kept in float32 whatever the weights are.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"an EMA decay lies in [0, 1), not {decay}")
        self.decay = decay
        self.updates = 0
        self._parameters = list(parameters)
        self.average = [part.detach().float().clone() for part in local_parts(self._parameters)]

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights of now into the average."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        weights = [part.float() for part in local_parts(self._parameters)]
        torch._foreach_lerp_(self.average, weights, 1 - decay)

    @torch.no_grad()
    def copy_to(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give the averages to another model's ``parameters``, whole and in the same order.

        Under ZeRO-3 every rank must call it: the slices are gathered.
        """
        for source, part, target in zip(self._parameters, self.average, parameters, strict=True):
            if hasattr(source, "ds_tensor"):
                slices = [torch.empty_like(part) for _ in range(torch.distributed.get_world_size())]
                torch.distributed.all_gather(slices, part)
                part = torch.cat(slices)[: target.numel()].view(target.shape)
            target.copy_(part)

    def state_dict(self) -> dict[str, Tensor]:
        """This rank's averages and the number of updates, as plain tensors."""
        state = {f"average.{i}": part for i, part in enumerate(self.average)}
        return state | {"updates": torch.tensor(self.updates)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a :meth:`state_dict` of a model of the same shapes on the same rank."""
        self.updates = int(state["updates"])
        for i, part in enumerate(self.average):
            part.copy_(state[f"average.{i}"])
