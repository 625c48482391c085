"""Which scores of synthesized images an evaluation computes, and through which networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from semflow.metrics.lpips import Backbone

MetricName = Literal["frechet-pyramid", "fid", "kid", "lpips", "diversity"]


@dataclass(frozen=True, kw_only=True)
class MetricOptions:
    """Scores of synthesized images. docs/reference/metrics.md says what each is."""

    compute: tuple[MetricName, ...] = ("frechet-pyramid", "fid", "kid", "lpips", "diversity")
    """Which ones. Those whose network or weights are not here are listed with how to get them."""
    real: str | None = None
    """Folder or URI of photos that synthesized images are compared with, each resized to the
    model's size; None takes the data's own image latents, decoded."""
    inception: str | None = None
    """Inception's weights for FID and KID: a file, instead of torch.hub's cache."""
    lpips: Backbone = "alex"
    """LPIPS's backbone: 'alex' (AlexNet, its authors' choice for measuring) or 'vgg' (VGG16)."""
    lpips_backbone: str | None = None
    """torchvision's weights of the backbone: a file, instead of torch.hub's cache."""
    lpips_heads: str | None = None
    """LPIPS's own weights: a file, instead of what an installed lpips or torchmetrics holds."""
    download: bool = False
    """Fetch missing weights, once, into torch.hub's cache (TORCH_HOME)."""
    diversity_masks: int = 16
    """Masks, the first ones, of which several images are made to see how they differ."""

    def __post_init__(self) -> None:
        if self.diversity_masks < 1:
            raise ValueError("--metrics.diversity-masks is at least 1")
