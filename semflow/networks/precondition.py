"""What the network need not learn: the straight part of the velocity.

A network that predicts ``x_1 - x_0`` has to carry its own input to its output, since the end that a
path has just left is in ``x_t`` already: at the photo, ``-x_0``; at noise, the noise, which is as
wide as the state. Here the linear part goes around the network, with the coefficients that would be
best if the two ends had nothing to do with each other, and the network predicts the rest, at unit
variance from an input of unit variance (as EDM does, arXiv 2206.00364, Section 5, here for a
straight path; with ends of unit variance it is the velocity on the circle of arXiv 2410.11081).

Shapes: B batch, C channels of the state, h and w latent size.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Coefficients(NamedTuple):
    """``v = skip x_t + out F(into x_t, t)``, each ``[B, 1 or C, 1, 1]``."""

    skip: Tensor
    into: Tensor
    out: Tensor


@dataclass(frozen=True)
class Preconditioning:
    """Standard deviations of a state's channels at the two ends of a path.

    One number for all channels, or one for each of several parts of equal size: symmflow's states
    have the image's half and the mask's.
    """

    at_0: tuple[float, ...]
    at_1: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.at_0) != len(self.at_1) or not all(s > 0 for s in self.at_0 + self.at_1):
            raise ValueError("preconditioning takes as many deviations above 0 for both ends")

    def at(self, t: Tensor, channels: int) -> Coefficients:
        """The coefficients at times ``t`` ``[B]``, for states of ``channels``.

        ``Var x_t = ((1 - t) s_0)^2 + (t s_1)^2``, and the covariance of ``x_t`` and the velocity is
        half of its derivative.
        """
        t, parts = t.float().view(-1, 1, 1, 1), []
        for s_0, s_1 in zip(self.at_0, self.at_1, strict=True):
            variance = ((1 - t) * s_0).square() + (t * s_1).square()
            into = variance.rsqrt()
            parts.append(
                Coefficients((t * s_1**2 - (1 - t) * s_0**2) / variance, into, s_0 * s_1 * into)
            )
        if len(parts) == 1:
            return parts[0]
        width = channels // len(parts)
        return Coefficients(
            *(torch.cat([one.expand(-1, width, 1, 1) for one in each], 1)
              for each in zip(*parts, strict=True))
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Preconditioning:
        return cls(tuple(data["at_0"]), tuple(data["at_1"]))
