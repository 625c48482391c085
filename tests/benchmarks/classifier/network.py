"""The flow's UNet with logits for its output.

Shapes: B batch, C latent channels, h and w latent size, H and W pixels, K classes, f the
autoencoder's factor.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.dataset.latents import Manifest
from pipelines.training.config import TrainConfig
from semflow import load_autoencoder, make_velocity


class Classifier(nn.Module):
    """A velocity's UNet whose last convolution has ``K f^2`` channels instead of C."""

    def __init__(self, cfg: TrainConfig, manifest: Manifest) -> None:
        super().__init__()
        autoencoder = load_autoencoder(manifest.recipe["autoencoder"]["source"])
        self.factor, self.channels = autoencoder.factor, autoencoder.channels
        self.velocity = make_velocity(cfg.velocity, self.channels)
        last = self.velocity.unet.conv_out  # made anew: until here a flow of this seed is the same
        self.velocity.unet.conv_out = nn.Conv2d(
            last.in_channels, len(manifest.palette) * self.factor**2, last.kernel_size,
            padding=last.padding,
        )  # fmt: skip

    def forward(self, x_0: Tensor) -> Tensor:
        """Logits ``[B, K, H, W]`` of image latents ``[B, C, h, w]``, where the flow has t = 0."""
        pieces = self.velocity(x_0, torch.zeros(len(x_0), device=x_0.device))
        return F.pixel_shuffle(pieces.float(), self.factor)
