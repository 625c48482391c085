"""TAEF2: a tiny autoencoder distilled from FLUX.2's (madebyollin/taesd, MIT).

1.3 million parameters a side, 8x, 32 latent channels. diffusers' AutoencoderTiny has no pooled
block, hence this adapter. Layer numbers are those of the published state dict.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from semflow.networks.base import Autoencoder, Posterior, weights_hash


def _conv(inputs: int, outputs: int, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


class _Block(nn.Module):
    """relu(conv relu conv relu conv (x) + x); a pooled block first adds a wide 1x1 mix."""

    def __init__(self, pooled: bool = False) -> None:
        super().__init__()
        self.conv = nn.Sequential(_conv(64, 64), nn.ReLU(), _conv(64, 64), nn.ReLU(), _conv(64, 64))
        self.pool = (
            nn.Sequential(
                nn.Conv2d(64, 256, 1, bias=False),
                nn.GroupNorm(4, 256),
                nn.ReLU(),
                nn.Conv2d(256, 64, 1, bias=False),
            )
            if pooled
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.pool is not None:
            x = x + self.pool(x)
        return F.relu(self.conv(x) + x)


class _Clamp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


def _blocks(count: int, pooled: bool = False) -> list[nn.Module]:
    return [_Block(pooled) for _ in range(count)]


def _down() -> nn.Module:
    return _conv(64, 64, stride=2, bias=False)


def _up() -> list[nn.Module]:
    return [nn.Upsample(scale_factor=2), _conv(64, 64, bias=False)]


class TAEF2(Autoencoder):
    """Deterministic; its latents have a deviation of about 0.85 and need no scaling."""

    channels = 32
    factor = 8

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            _conv(3, 64), *_blocks(1), _down(), *_blocks(3), _down(), *_blocks(3), _down(),
            *_blocks(3, pooled=True), _conv(64, 32),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            _Clamp(), _conv(32, 64), nn.ReLU(), *_blocks(3, pooled=True), *_up(), *_blocks(3),
            *_up(), *_blocks(3), *_up(), *_blocks(1), _conv(64, 3),
        )  # fmt: skip

    @classmethod
    def load(cls, folder: Path) -> TAEF2:
        """From a folder with ``encoder.safetensors`` and ``decoder.safetensors``."""
        model = cls()
        model.encoder.load_state_dict(load_file(folder / "encoder.safetensors"))
        model.decoder.load_state_dict(load_file(folder / "decoder.safetensors"))
        return model.float().requires_grad_(False).eval()

    def encode(self, pixels: Tensor) -> Posterior:
        dtype = next(self.parameters()).dtype
        return Posterior(self.encoder((pixels.to(dtype) + 1) / 2).float(), None)

    def decode(self, latents: Tensor) -> Tensor:
        dtype = next(self.parameters()).dtype
        return torch.as_tensor(self.decoder(latents.to(dtype))).float() * 2 - 1

    def save(self, folder: str | Path) -> None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, part in (("encoder", self.encoder), ("decoder", self.decoder)):
            state = {key: value.contiguous() for key, value in part.state_dict().items()}
            save_file(state, Path(folder) / f"{name}.safetensors")

    def identity(self) -> dict[str, Any]:
        return {"_class_name": "TAEF2", "weights": weights_hash(self)}
