"""Masks as pictures of anchor colours, through the photo's autoencoder: the paper's codec.

Shapes: as in :mod:`semflow.codecs.base`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from semflow.codecs.base import MaskCodec, Read
from semflow.codecs.reading import Reader, joined, strips
from semflow.codecs.refiner import Refiner
from semflow.masks.decoding import decode
from semflow.masks.palette import TEMPERATURE, Palette
from semflow.masks.perturb import Perturbation
from semflow.networks.base import Autoencoder, Posterior


class Anchors(MaskCodec):
    """SemFlow's (section 3.2): anchor colours, perturbed, through the photo's autoencoder."""

    def __init__(
        self,
        palette: Palette,
        autoencoder: Autoencoder,
        encode: Callable[[Tensor], Posterior] | None = None,
    ) -> None:
        """Args: the anchors, the photo's autoencoder, and, where it is not called as it is, how."""
        super().__init__()
        self._encode = encode or autoencoder.encode
        self.palette = palette
        self._autoencoder = (autoencoder,)  # another's part: neither moved nor saved from here

    @property
    def autoencoder(self) -> Autoencoder:
        return self._autoencoder[0]

    def paint(self, ids: Tensor) -> Tensor:
        return self.palette.encode(ids)

    def latents(
        self, painted: Tensor, perturbation: Perturbation | None, seeds: Sequence[int]
    ) -> Tensor:
        pictures = perturbation.apply(painted, seeds) if perturbation else painted
        return self._encode(pictures).mean

    def logits(self, latents: Tensor, temperature: float = TEMPERATURE) -> Tensor:
        return self.palette.logits(self.autoencoder.decode(latents), temperature)

    def read(
        self, latents: Tensor, window: int = 1, refiner: Refiner | None = None,
        photos: Tensor | None = None,
    ) -> Read:  # fmt: skip
        return self.read_picture(self.autoencoder.decode(latents), window, refiner, photos)

    def read_picture(
        self, picture: Tensor, window: int = 1, refiner: Refiner | None = None,
        photos: Tensor | None = None,
    ) -> Read:  # fmt: skip
        """The same from the picture ``[B, 3, H, W]`` that the autoencoder makes of latents."""
        if refiner is None:
            return Read(*decode(self.palette, picture, window), picture)
        reader, (rows, _, height, width) = Reader(window, refiner, photos), picture.shape
        parts = []
        for strip in strips(height, rows * width, len(self.palette), reader.halo):
            some = picture[:, :, strip.wider]
            read = *reader(self.palette.logits(some.float(), TEMPERATURE), strip.wider), some
            parts.append(Read(*(part[..., strip.inner, :] for part in read)))
        return joined(parts)
