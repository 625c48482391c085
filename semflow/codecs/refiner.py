"""A small network that reads masks better than their latents alone say.

Semantic Prism (arXiv 2608.11537): ``p = softmax(z / tau + dz)`` with ``z`` the logits that a mask
codec reads, ``tau`` a temperature, and ``dz`` of a small network that sees the probabilities and
the photo. Its last layer begins as zero, so that in the beginning it changes nothing. The flow
stays as it is, and so does what is synthesized. Unlike there it has no norms: what it says of a
pixel depends on the pixels around it and on no others, so that a plane of any size is read in
strips.

Shapes: B batch, K classes, H and W pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semflow.networks import small, trusted
from semflow.networks.base import weights_hash

HALO = 2
"""Pixels around one that are looked at."""
SQUEEZED, WIDTH = 16, 32
"""Channels of the classes' probabilities, and of the network."""


class Refiner(nn.Module):
    """Class logits to better ones."""

    def __init__(self, classes: int) -> None:
        """One that changes nothing yet."""
        super().__init__()
        if not isinstance(classes, int) or not 2 <= classes <= trusted.MOST:
            raise ValueError(f"no refiner is for {classes} classes")
        self.classes = classes
        self.squeeze = nn.Conv2d(classes, SQUEEZED, 1)
        self.first = nn.Conv2d(SQUEEZED + 3, WIDTH, 3, padding=1)
        self.second = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.last = nn.Conv2d(WIDTH, classes, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(cast(Tensor, self.last.bias))
        self.log_temperature = nn.Parameter(torch.zeros(()))

    def forward(self, logits: Tensor, photos: Tensor) -> Tensor:
        """Better logits ``[B, K, H, W]``.

        Args:
            logits: ``[B, K, H, W]``.
            photos: ``[B, 3, H, W]`` in [-1, 1].
        """
        dtype = self.first.weight.dtype
        seen = torch.cat((self.squeeze(logits.softmax(1).to(dtype)), photos.to(dtype)), 1)
        more = self.last(F.silu(self.second(F.silu(self.first(seen)))))
        return cast(Tensor, logits * torch.exp(-self.log_temperature) + more).float()

    def identity(self) -> dict[str, Any]:
        """Its size and a hash of the weights."""
        return {"_class_name": "Refiner", "classes": self.classes, "weights": weights_hash(self)}

    def save(self, folder: str | Path) -> None:
        """Write it as :meth:`load` reads it."""
        small.save(folder, self, self.identity())

    @classmethod
    def load(cls, folder: str | Path, classes: int) -> Refiner:
        """From a folder that :meth:`save` wrote, frozen.

        Raises:
            ValueError: when it is none, is damaged, or is for another number of classes.
        """

        def build(config: dict[str, Any]) -> Refiner:
            if config["classes"] != classes:
                raise ValueError(f"it is for {config['classes']} classes, not {classes}")
            return cls(config["classes"])

        return small.load(folder, "Refiner", "refiner", build)
