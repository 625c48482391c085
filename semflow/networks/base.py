"""What every frozen autoencoder is, and what its encoder says of a picture.

Shapes: B batch, H and W pixels, C latent channels, h and w latent size (H and W over the factor).
Pixels are float in [-1, 1].
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Posterior(NamedTuple):
    """What an encoder says of an image: a diagonal normal over scaled latents."""

    mean: Tensor  # [B, C, h, w]
    std: Tensor | None  # like the mean; None where the encoder is deterministic

    def sample(self, noise: Tensor) -> Tensor:
        """One draw, from standard normal ``noise`` of the mean's shape."""
        return self.mean if self.std is None else self.mean + self.std * noise


class Autoencoder(nn.Module, ABC):
    """Pixels ``[B, 3, H, W]`` to latents ``[B, C, h, w]`` and back."""

    channels: int
    """Latent channels C."""
    factor: int
    """Pixels a latent spans in each direction; H and W must be multiples of it."""
    stochastic: bool = False
    """Whether the posterior has a spread."""
    lossless: bool = False
    """Whether decode(encode(x)) is x."""

    @property
    def device(self) -> torch.device:
        """Of the weights; the CPU where there are none. Diffusers asks each part of a pipeline."""
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights; float32 where there are none."""
        return next((p.dtype for p in self.parameters()), torch.float32)

    @abstractmethod
    def encode(self, pixels: Tensor) -> Posterior:
        """Encode pixels in [-1, 1]."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Decode scaled latents to pixels, about [-1, 1] (not clamped)."""

    @abstractmethod
    def save(self, folder: str | Path) -> None:
        """Write configuration and weights as :func:`load_autoencoder` reads them."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Class, scaling and a hash of the weights: alike for two that encode alike."""

    def latent_size(self, height: int, width: int) -> tuple[int, int, int]:
        """``(C, h, w)`` of a picture of ``height`` x ``width`` pixels.

        Raises:
            ValueError: when a side is no multiple of the factor.
        """
        if height % self.factor or width % self.factor:
            raise ValueError(
                f"{height}x{width} pixels do not divide by this autoencoder's factor {self.factor}"
            )
        return self.channels, height // self.factor, width // self.factor


def weights_hash(model: nn.Module) -> str:
    """SHA-256 over names, shapes and values of a model's state, in float32."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()
