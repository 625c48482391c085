"""The straight path between an image latent and a mask latent, and its velocity.

Shapes: B batch, C latent channels, H and W latent height and width. What a solver carries along is
a *state*; here it is a latent, in :mod:`semflow.flow.symmflow` one of the image beside one of the
mask.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, cast

import torch
from torch import Tensor

from semflow.networks.precondition import Preconditioning

FlowName = Literal["semflow", "symmflow"]
Seeds = Sequence[int] | Tensor
"""One a sample; a tensor is read only where something is drawn, since a GPU would be waited for."""
TimeSampling = Literal["uniform", "logit-normal", "ends"]


class PathSample(NamedTuple):
    """A point on the path and what the velocity model should say there."""

    x_t: Tensor  # [B, C, H, W], the state
    t: Tensor  # [B], in [0, 1]
    velocity: Tensor  # [B, C, H, W], the target x_1 - x_0


def per_sample(t: Tensor, like: Tensor) -> Tensor:
    """View ``t`` ``[B]`` so that it broadcasts over ``like`` ``[B, ...]``."""
    return t.reshape(-1, *([1] * (like.ndim - 1)))


def check_ends(x_0: Tensor, x_1: Tensor) -> None:
    """Refuse two ends of unlike shapes."""
    if x_0.shape != x_1.shape:
        raise ValueError(
            f"the ends of a path need one shape, not {tuple(x_0.shape)} and {tuple(x_1.shape)}"
        )


@dataclass(frozen=True, kw_only=True)
class RectifiedFlow:
    """``x_t = (1 - t) x_0 + t x_1`` with ``x_0`` the image and ``x_1`` the mask.

    SemFlow (arXiv 2405.20282), Eq. 3-5; the direction is that of the released code:
    ``t = 0`` is the image, ``t = 1`` the mask.
    """

    name: ClassVar[FlowName] = "semflow"

    time_sampling: TimeSampling = "uniform"
    """How training spends its time on [0, 1]. 'uniform' is the paper's; 'logit-normal' prefers
    the middle (SD3, arXiv 2403.03206); 'ends' prefers both ends, where few-step solvers look
    (RF++, arXiv 2405.20320, p(t) ~ e^(4t) + e^(-4t))."""
    shift: float = 1.0
    """Above 1, more times near the mask, where images of one mask part: t becomes
    shift * t / (1 + (shift - 1) * t). SD3's towards noise (arXiv 2403.03206, Eq. 23)."""
    at_image: float = 0.0
    """Share of the times that are exactly 0. There the whole answer must be read off the photo;
    further on, the mask shines through ``x_t``. All that a one-step segmentation looks at."""
    at_mask: float = 0.0
    """Share of the times that are exactly 1, where synthesis starts."""

    def __post_init__(self) -> None:
        if min(self.at_image, self.at_mask) < 0 or self.at_image + self.at_mask > 1:
            raise ValueError("at_image and at_mask are shares, together at most 1")
        if not (math.isfinite(self.shift) and self.shift > 0):
            raise ValueError(f"a shift of times is above 0, not {self.shift}")

    def channels(self, latent: int) -> int:
        """Of a state, for latents of ``latent`` channels."""
        return latent

    def preconditioning(self, image: float, mask: float) -> Preconditioning:
        """Of states, for latents of images and masks with these standard deviations."""
        return Preconditioning((image,), (mask,))

    def depart(self, x: Tensor, t: float, seeds: Seeds | None = None) -> Tensor:
        """The state to start from, with an image's latents at ``t`` 0, or a mask's at 1.

        Args:
            x: ``[B, C, H, W]``.
            t: 0 or 1.
            seeds: of what chance it takes, one a sample; there is none here.
        """
        return x

    def arrive(self, state: Tensor, t: float) -> Tensor:
        """The latents ``[B, C, H, W]`` in a state: an image's for ``t`` 0, a mask's for 1."""
        return state

    def sample(self, x_0: Tensor, x_1: Tensor, t: Tensor, seeds: Seeds | None = None) -> PathSample:
        """The point at ``t`` ``[B]`` between ``x_0`` and ``x_1`` (both ``[B, C, H, W]``).

        Args:
            x_0: latents of images.
            x_1: of their masks.
            t: in [0, 1].
            seeds: of what chance it takes, one a sample; there is none here.

        Raises:
            ValueError: when the two ends differ in shape.
        """
        check_ends(x_0, x_1)
        s = per_sample(t, x_0).to(x_0.dtype)
        return PathSample(x_t=(1 - s) * x_0 + s * x_1, t=t, velocity=x_1 - x_0)

    def weigh(self, squared: Tensor, image_weight: float) -> Tensor:
        """Squared errors of a velocity, so that their mean is the loss: here, as they are."""
        return squared

    def end_points(self, x_t: Tensor, t: Tensor, velocity: Tensor) -> tuple[Tensor, Tensor]:
        """Latents where the straight line through ``x_t`` with ``velocity`` starts and ends."""
        s = per_sample(t, x_t)
        return x_t - s * velocity, x_t + (1 - s) * velocity

    def times(self, uniform: Tensor) -> Tensor:
        """Turn uniform numbers ``[B]`` in [0, 1) into training times in [0, 1].

        An inverse distribution function rather than a sampler, so that whoever owns the
        randomness (a generator, a counter per row) keeps it.
        """
        inside = 1 - self.at_image - self.at_mask
        at_image, at_mask = uniform < self.at_image, uniform >= 1 - self.at_mask
        if inside > 0:
            uniform = ((uniform - self.at_image) / inside).clamp(0, 1)
        inner = self._inside(uniform)
        inner = self.shift * inner / (1 + (self.shift - 1) * inner)
        times = torch.where(at_image, 0.0, inner)
        return torch.where(at_mask, 1.0, times)

    def _inside(self, uniform: Tensor) -> Tensor:
        if self.time_sampling == "uniform":
            return uniform
        if self.time_sampling == "logit-normal":
            return cast(Tensor, torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6)).sigmoid())
        a = 4.0
        return (0.5 + torch.asinh((2 * uniform - 1) * math.sinh(a / 2)) / a).clamp(0, 1)
