"""The bounded mask perturbation: many images from one mask, and never another label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, cast

import torch
from torch import Tensor

from semflow.masks.palette import Palette

PerturbationKind = Literal["uniform", "gaussian"]


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """Noise on the pixels of the mask picture before the autoencoder. Eq. 14 of the paper."""

    kind: PerturbationKind = "uniform"
    """'uniform' in (-amplitude, amplitude) as in the paper, or 'gaussian' truncated there."""
    amplitude: float = 0.05
    """Largest change of a channel, on pixels in [-1, 1] (the released code's 0.05 is 6.4 of 255).
    It must stay below half the anchor distance, or a label could change; a mask codec of its own
    has channels for it that no label is read from. 0 is none."""
    exponent: float = 0.0
    """Spectral exponent: a component of frequency f has amplitude f^-exponent. 0 is white as in the
    paper; 1 that of photos, 2 smoother. A pixel's own distribution is that of ``kind`` always. What
    white noise says of whole regions averages out, so a flow makes one colouring for all seeds."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.amplitude) and self.amplitude >= 0):
            raise ValueError(
                f"a perturbation amplitude is a number of at least 0, not {self.amplitude}"
            )
        if not (math.isfinite(self.exponent) and self.exponent >= 0):
            raise ValueError(
                f"a perturbation's spectral exponent is a number of at least 0, not {self.exponent}"
            )

    def check(self, palette: Palette) -> None:
        """Refuse an amplitude that could move a pixel past the border to another anchor.

        Raises:
            ValueError: with the amplitude, the bound and the two classes that are closest.
        """
        bound, one, other = palette.perturbation_bound()
        if palette.style == 0:
            if self.amplitude:
                raise ValueError(
                    "this mask codec has no channel for a perturbation, since the autoencoder has "
                    "too few: give an amplitude of 0 (--perturbation.amplitude 0)"
                )
        elif self.amplitude >= bound:
            raise ValueError(
                f"a perturbation amplitude of {self.amplitude:g} could turn class {one} "
                f"({palette.names[one]}) into class {other} ({palette.names[other]}): with this "
                f"palette it must stay below {bound:.4f} (pixels in [-1, 1]; "
                f"{bound * 127.5:.1f} of 255)"
            )

    def draw(self, shape: Sequence[int], seed: int) -> Tensor:
        """One perturbation of ``shape`` (say ``[3, H, W]``), the same for the same seed.

        Drawn on the CPU from its own generator, so that an image can be made again from its
        recorded seed whatever the batch or the device.
        """
        uniform = torch.rand(tuple(shape), generator=torch.Generator().manual_seed(seed))
        if self.exponent:
            normal = torch.special.ndtri(uniform.clamp(min=2**-25))  # 0 would be infinite
            gain = _gain(shape[-2], shape[-1], self.exponent)
            filtered = torch.fft.irfft2(torch.fft.rfft2(normal) * gain, s=tuple(shape[-2:]))
            uniform = torch.special.ndtr(filtered)
        if self.kind == "uniform":
            return (2 * uniform - 1) * self.amplitude
        # A normal with a deviation of half the amplitude, truncated there: inverse distribution.
        low = 0.5 * (1 + math.erf(-2 / math.sqrt(2)))
        truncated: Tensor = torch.special.ndtri(low + uniform * (1 - 2 * low))
        return truncated * (self.amplitude / 2)

    def apply(self, pictures: Tensor, seeds: Sequence[int]) -> Tensor:
        """Perturb mask pictures ``[B, 3, H, W]`` in [-1, 1], picture ``i`` by ``seeds[i]``."""
        noise = torch.stack([self.draw(pictures.shape[1:], seed) for seed in seeds])
        return pictures + noise.to(pictures)


@lru_cache
def _gain(height: int, width: int, exponent: float) -> Tensor:
    """``[H, W // 2 + 1]``: makes white noise of variance 1 that of the exponent, of variance 1.

    The mean of a picture counts as the lowest frequency that fits into it.
    """
    down, across = torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)[None]
    frequency = torch.hypot(down, across).clamp(min=1 / max(height, width))
    gain = frequency**-exponent
    return (gain / gain.square().mean().sqrt())[:, : width // 2 + 1]


def draw_seeds(
    count: int,
    generator: torch.Generator | Sequence[torch.Generator] | None,
    seeds: Sequence[int] | None,
) -> list[int]:
    """A seed for each of ``count`` images: those given, or drawn.

    Raises:
        ValueError: when there are not as many as images, or both are given.
    """
    if seeds is not None and generator is not None:
        raise ValueError("give a generator, which draws the seeds, or the seeds: not both")
    given: Any = generator if seeds is None else seeds
    if given is None or isinstance(given, torch.Generator):
        device = given.device if given is not None else "cpu"
        drawn = torch.randint(2**63 - 1, (count,), generator=given, device=device)
        return cast(list[int], drawn.tolist())
    if len(given) != count:
        raise ValueError(f"{len(given)} seeds or generators for {count} images")
    return [int(one) if generator is None else draw_seeds(1, one, None)[0] for one in given]
