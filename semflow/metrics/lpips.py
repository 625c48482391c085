"""LPIPS, version 0.1 (Zhang et al. 2018, arXiv 1801.03924), in torch alone.

Two images are far apart where the unit-length activations of an ImageNet network differ, layer by
layer, weighted by heads that were fitted to people's judgement. The backbones are torchvision's
AlexNet and VGG16, with its weights; the heads are those of the ``lpips`` package.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from semflow.metrics.weights import State, Weights

Backbone = Literal["alex", "vgg"]
HEADS_IN = ("torchmetrics/functional/image/lpips_models", "lpips/weights/v0.1")
"""Where installed packages hold the heads."""
_HEADS_AT = "https://github.com/richzhang/PerceptualSimilarity/raw/master/lpips/weights/v0.1"


class Architecture(NamedTuple):
    """The convolutional part of a torchvision network, as far as LPIPS uses it."""

    layers: tuple[nn.Module, ...]
    taps: tuple[int, ...]  # layers whose output is compared
    channels: tuple[int, ...]  # of each tap
    weights: Weights
    heads: Weights


def _alexnet() -> tuple[nn.Module, ...]:
    """Krizhevsky 2014, arXiv 1404.5997: ``torchvision.models.alexnet().features[:12]``."""
    return (
        nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, 1, 1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, 1, 1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, 1, 1), nn.ReLU(),
    )  # fmt: skip


def _vgg16() -> tuple[nn.Module, ...]:
    """Simonyan and Zisserman 2015, D: ``torchvision.models.vgg16().features[:30]``."""
    layers: list[nn.Module] = []
    before = 3
    for channels, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers += [nn.Conv2d(before, channels, 3, 1, 1), nn.ReLU()]
            before = channels
        layers.append(nn.MaxPool2d(2))
    return tuple(layers[:-1])


def architecture(backbone: Backbone) -> Architecture:
    """Layers without weights, and where the weights are published."""
    if backbone == "alex":
        layers, taps, channels = _alexnet(), (1, 4, 7, 9, 11), (64, 192, 384, 256, 256)
        file, digest = "alexnet-owt-7be5be79.pth", "7be5be79"
        heads = "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"
    else:
        layers, taps, channels = _vgg16(), (3, 8, 15, 22, 29), (64, 128, 256, 512, 512)
        file, digest = "vgg16-397923af.pth", "397923af"
        heads = "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"
    return Architecture(
        layers, taps, channels,
        Weights(f"LPIPS's backbone ({file.partition('-')[0]} of torchvision)",
                f"https://download.pytorch.org/models/{file}", digest, "--metrics.lpips-backbone"),
        Weights(f"LPIPS's heads ({backbone}, v0.1)", f"{_HEADS_AT}/{backbone}.pth", heads,
                "--metrics.lpips-heads"),
    )  # fmt: skip


class LPIPS(nn.Module):
    """Distances of images ``[B, 3, H, W]`` in [-1, 1], as they are, without resizing."""

    shift: Tensor
    scale: Tensor

    def __init__(self, backbone: Backbone, weights: State, heads: State) -> None:
        """Build from state dicts.

        Args:
            backbone: which one.
            weights: torchvision's of the whole network; the classifier is not used.
            heads: ``lin0`` to ``lin4`` of the ``lpips`` package.

        Raises:
            RuntimeError: when a state dict is another network's.
        """
        super().__init__()
        self.backbone = backbone
        plan = architecture(backbone)
        self.taps = plan.taps
        self.features = nn.Sequential(*plan.layers)
        wanted = self.features.state_dict().keys()
        self.features.load_state_dict(
            {key.removeprefix("features."): value for key, value in weights.items()
             if key.removeprefix("features.") in wanted}
        )  # fmt: skip
        self.heads = nn.ParameterList(
            heads[f"lin{i}.model.1.weight"] for i in range(len(self.taps))
        )
        if [len(head.flatten()) for head in self.heads] != list(plan.channels):
            raise RuntimeError(f"these heads are not those of {backbone}")
        # ImageNet's mean and deviation, for images in [-1, 1].
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188])[:, None, None])
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450])[:, None, None])
        self.requires_grad_(False).eval()

    def activations(self, images: Tensor) -> list[Tensor]:
        """Of each layer that is compared, of unit length over channels: ``[B, C, h, w]``."""
        x, found = (images - self.shift) / self.scale, []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in self.taps:
                found.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return found

    def compare(self, one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
        """Distances ``[B]`` of two batches by their activations."""
        return torch.stack(
            [((a - b).square() * head.reshape(-1, 1, 1)).sum(1).mean((1, 2))
             for head, a, b in zip(self.heads, one, other, strict=True)]
        ).sum(0)  # fmt: skip

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Distances ``[B]`` of two batches, pair by pair."""
        return self.compare(self.activations(one), self.activations(other))

    def pairwise(self, images: Tensor) -> Tensor:
        """Distances ``[B (B - 1) / 2]`` of all pairs of a batch."""
        found = self.activations(images)
        first, second = torch.triu_indices(len(images), len(images), 1)
        return self.compare([x[first] for x in found], [x[second] for x in found])


def load_lpips(
    backbone: Backbone = "alex",
    *,
    weights: str | Path | None = None,
    heads: str | Path | None = None,
    download: bool = False,
) -> LPIPS:
    """LPIPS with its published weights.

    Args:
        backbone: AlexNet or VGG16.
        weights: torchvision's file of it, instead of torch.hub's cache.
        heads: file of the ``lpips`` package, instead of the one that an installed ``lpips`` or
            ``torchmetrics`` holds, or of torch.hub's cache.
        download: fetch what is missing.

    Raises:
        Unavailable: when weights are missing.
        ValueError: when a file is not the published one.
    """
    plan = architecture(backbone)
    state = plan.weights.find(weights, download=download)
    if heads is None:
        heads = installed_heads(backbone)
    return LPIPS(backbone, state, plan.heads.find(heads, download=download))


def installed_heads(backbone: Backbone) -> Path | None:
    """The heads in an installed package, which is not imported."""
    for place in HEADS_IN:
        package, _, folder = place.partition("/")
        spec = find_spec(package)
        for root in (spec.submodule_search_locations or ()) if spec else ():
            file = Path(root) / folder / f"{backbone}.pth"
            if file.is_file():
                return file
    return None
