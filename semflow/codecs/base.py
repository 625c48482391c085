"""What a mask codec is: class ids to latents that a flow can end at, and how they are read back.

The paper's is :class:`~semflow.codecs.anchors.Anchors`, a picture of anchor colours through the
photo's autoencoder; :class:`~semflow.codecs.blocks.Blocks` is a code for masks alone.

Shapes: B batch, K classes, H and W pixels, C latent channels, h and w latent size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, NamedTuple

from torch import Tensor, nn

from semflow.codecs.refiner import Refiner
from semflow.masks.palette import TEMPERATURE
from semflow.masks.perturb import Perturbation

MaskCodecName = Literal["anchors", "linear", "learned"]


class Read(NamedTuple):
    """What latents of masks say."""

    ids: Tensor  # [B, H, W] int64
    margin: Tensor  # [B, H, W] in [0, 1]: 0 where another class is as near or as probable
    picture: Tensor  # [B, 3, H, W] in about [-1, 1]: in anchor colours, mixed where unsure


class MaskCodec(nn.Module, ABC):
    """Class ids ``[B, H, W]`` to latents of the photo's shape ``[B, C, h, w]``, and back."""

    def encode(
        self,
        ids: Tensor,
        perturbation: Perturbation | None = None,
        seeds: Sequence[int] | None = None,
    ) -> Tensor:
        """Latents ``[B, C, h, w]`` in float32; mask ``i`` perturbed by ``seeds[i]``, if there are.

        Raises:
            ValueError: when an id is neither a class nor ignored.
        """
        drawn = perturbation if seeds is not None else None
        return self.latents(self.paint(ids), drawn, seeds or ())

    @abstractmethod
    def paint(self, ids: Tensor) -> Tensor:
        """What a perturbation is added to, the same for all draws of masks ``[B, H, W]``.

        Raises:
            ValueError: as :meth:`encode`.
        """

    @abstractmethod
    def latents(
        self, painted: Tensor, perturbation: Perturbation | None, seeds: Sequence[int]
    ) -> Tensor:
        """Latents ``[B, C, h, w]`` of what :meth:`paint` gave, with a perturbation if there is."""

    @abstractmethod
    def logits(self, latents: Tensor, temperature: float = TEMPERATURE) -> Tensor:
        """Of each class in each pixel, ``[B, K, H, W]``, differentiable.

        Args:
            latents: of masks, or near them.
            temperature: of anchors; a code of its own has learned its own.
        """

    @abstractmethod
    def read(
        self, latents: Tensor, window: int = 1, refiner: Refiner | None = None,
        photos: Tensor | None = None,
    ) -> Read:  # fmt: skip
        """Class ids.

        Args:
            latents: ``[B, C, h, w]``, of masks or near them.
            window: pixels a side over which probabilities are averaged; 1 is each pixel by itself.
            refiner: in the window's place, with the ``photos`` ``[B, 3, H, W]`` in [-1, 1].

        Raises:
            ValueError: for a window without a middle.
        """
