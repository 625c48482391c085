"""SymmFlow: one network that carries noise to images and, beside them, masks to noise.

Symmetrical Flow Matching (arXiv 2506.10634). The state is two latents side by side, ``[B, 2C, H,
W]``: the image's, then the mask's. With the time of this project, 0 at the image and 1 at the mask:

    t = 0   image | noise                segmenting goes 0 -> 1, the image turns to noise
    t = 1   noise | mask                 synthesizing goes 1 -> 0, from another noise each time

Unlike SemFlow's, its synthesis starts at noise, and many images of a mask do not hang on the
bounded perturbation alone; and segmentation starts with noise in the mask's half, which is that of
seed 0 unless another is given, so that a photo has one segmentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from semflow.flow.path import FlowName, PathSample, RectifiedFlow, Seeds, check_ends, per_sample
from semflow.networks.precondition import Preconditioning

SIGMA_MIN = 1e-4
"""Of the noise, what is left at the end of a path (the released code's)."""

_SALT = 0x5EED_0F_5EED
"""An image's noise and its mask's perturbation come of one seed, and have nothing in common."""


@dataclass(frozen=True, kw_only=True)
class SymmetricFlow(RectifiedFlow):
    """Two straight paths in opposite directions at the same ``t``.

    ``(1 - (1 - s) t) noise + t x_1`` for the mask, with ``s`` :data:`SIGMA_MIN`, and the same with
    ``1 - t`` for the image (conditional optimal transport, arXiv 2210.02747, Eq. 22).
    """

    name: ClassVar[FlowName] = "symmflow"

    def channels(self, latent: int) -> int:
        return 2 * latent

    def preconditioning(self, image: float, mask: float) -> Preconditioning:
        return Preconditioning((image, 1.0), (1.0, mask))

    def depart(self, x: Tensor, t: float, seeds: Seeds | None = None) -> Tensor:
        noise = draw_noise(x, [0] * len(x) if seeds is None else seeds)
        return torch.cat((noise, x) if t else (x, noise), 1)

    def arrive(self, state: Tensor, t: float) -> Tensor:
        image, mask = state.chunk(2, 1)
        return mask if t else image

    def sample(self, x_0: Tensor, x_1: Tensor, t: Tensor, seeds: Seeds | None = None) -> PathSample:
        check_ends(x_0, x_1)
        if seeds is None:
            raise ValueError("symmflow's paths start at noise: give a seed for each sample")
        ends = torch.cat((x_0, x_1), 1)
        noise = draw_noise(ends, seeds)
        s = per_sample(t, x_0).to(x_0.dtype)
        near = torch.cat(((1 - s).expand_as(x_0), s.expand_as(x_1)), 1)  # how near its own end
        away = ends - (1 - SIGMA_MIN) * noise
        velocity = torch.cat((-away[:, : x_0.shape[1]], away[:, x_0.shape[1] :]), 1)
        return PathSample(x_t=near * away + noise, t=t, velocity=velocity)

    def end_points(self, x_t: Tensor, t: Tensor, velocity: Tensor) -> tuple[Tensor, Tensor]:
        start, end = super().end_points(x_t, t, velocity)
        return self.arrive(start, 0), self.arrive(end, 1)

    def weigh(self, squared: Tensor, image_weight: float) -> Tensor:
        """Its mean is ``image_weight`` of the image's error, and the rest of the mask's."""
        image, mask = squared.chunk(2, 1)
        return torch.cat((2 * image_weight * image, 2 * (1 - image_weight) * mask), 1)


def draw_noise(like: Tensor, seeds: Seeds) -> Tensor:
    """Standard normal noise of the shape of ``like`` ``[B, C, H, W]``, sample ``i`` by its seed.

    Drawn on the CPU, so that an image can be made again whatever the batch or the device.
    """
    drawn = [
        torch.randn(like.shape[1:], generator=torch.Generator().manual_seed(seed ^ _SALT))
        for seed in (seeds.tolist() if isinstance(seeds, Tensor) else seeds)
    ]
    return torch.stack(drawn).to(like)


FLOWS: dict[FlowName, type[RectifiedFlow]] = {"semflow": RectifiedFlow, "symmflow": SymmetricFlow}
