"""Photos of any size, segmented at their own resolution by overlapping tiles of the model's size.

Tiles are blended where the flow runs, not where it ends: the photo's latents are the weighted mean
of the tiles' latents, and the velocity of the whole latent is, at every evaluation, the weighted
mean of the tiles' velocities, as MultiDiffusion (arXiv 2302.08113) does it for diffusion. So a
solver integrates one field over the whole photo, and neighbouring tiles agree at every step. The
end is decoded tile by tile, and blended as a mask picture; a mask codec reads it as a whole.

Shapes: C channels, H and W pixels of the photo, h and w of its latents, N tiles of a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from semflow.codecs.anchors import Anchors
from semflow.codecs.base import Read
from semflow.flow.solvers import Solver, integrate
from semflow.sampler import Segmentation, SemFlow

OVERLAP = 0.25
"""Share of a tile's side. More costs more tiles: 1.8 times as many as none, at a half 4 times."""


@dataclass(frozen=True)
class Side:
    """Tiles along one side of a plane, in its cells: latents, or pixels."""

    length: int
    tile: int
    starts: tuple[int, ...]
    overlap: int
    """That neighbours share at least."""

    @classmethod
    def cover(cls, length: int, tile: int, overlap: float) -> Side:
        """As few tiles as cover ``length >= tile`` and overlap by this share of a tile, evenly."""
        shared = min(round(overlap * tile), tile - 1)
        gaps = -(-(length - tile) // (tile - shared))
        starts = tuple((length - tile) * n // max(gaps, 1) for n in range(gaps + 1))
        return cls(length, tile, starts, shared)

    def times(self, factor: int) -> Side:
        """The same tiles over a plane with ``factor`` times as many cells."""
        starts = tuple(start * factor for start in self.starts)
        return Side(self.length * factor, self.tile * factor, starts, self.overlap * factor)

    def weights(self) -> Tensor:
        """``[tiles, tile]``, positive; those of the tiles over one cell sum to one.

        Each rises over the overlap in a straight line, and is flat between.
        """
        cell = torch.arange(self.tile, dtype=torch.float64)
        rise = torch.minimum(cell, cell.flip(0)) + 1
        window = (rise / (self.overlap + 1)).clamp(max=1)
        total = torch.zeros(self.length, dtype=torch.float64)
        for start in self.starts:
            total[start : start + self.tile] += window
        return torch.stack([window / total[s : s + self.tile] for s in self.starts]).float()


class Tiles:
    """Overlapping tiles of a plane, row by row, and how they are blended."""

    def __init__(self, down: Side, across: Side) -> None:
        self.down, self.across = down, across
        self._down, self._across = down.weights(), across.weights()

    def __len__(self) -> int:
        return len(self.down.starts) * len(self.across.starts)

    def times(self, factor: int) -> Tiles:
        """The same tiles over a plane with ``factor`` times as many cells a side."""
        return Tiles(self.down.times(factor), self.across.times(factor))

    def place(self, number: int) -> tuple[slice, slice]:
        """The cells of a tile."""
        row, column = divmod(number, len(self.across.starts))
        top, left = self.down.starts[row], self.across.starts[column]
        return slice(top, top + self.down.tile), slice(left, left + self.across.tile)

    def weight(self, number: int) -> Tensor:
        """Of each cell of a tile; those of all tiles over a cell sum to one."""
        row, column = divmod(number, len(self.across.starts))
        return self._down[row][:, None] * self._across[column]

    def cut(self, plane: Tensor, numbers: range) -> Tensor:
        """Tiles ``[N, C, tile, tile]`` of a plane ``[C, ...]``."""
        return torch.stack([plane[:, *self.place(number)] for number in numbers])

    def blend(self, part: Callable[[range], Tensor], batch_size: int) -> Tensor:
        """The plane ``[C, ...]`` that is at each cell the weighted mean of the tiles there.

        ``part`` gives the tiles ``[N, C, tile, tile]`` of these numbers, N at most ``batch_size``.
        """
        plane = torch.empty(0)
        for first in range(0, len(self), batch_size):
            numbers = range(first, min(first + batch_size, len(self)))
            tiles = part(numbers).float()
            if not first:
                plane = tiles.new_zeros(tiles.shape[1], self.down.length, self.across.length)
            for number, tile in zip(numbers, tiles, strict=True):
                plane[:, *self.place(number)] += self.weight(number).to(tile.device) * tile
        return plane


@torch.inference_mode()
def segment_tiled(
    model: SemFlow,
    photo: Tensor,
    solver: Solver | None = None,
    *,
    overlap: float = OVERLAP,
    batch_size: int = 16,
) -> Segmentation:
    """Segment a photo at its own size.

    Memory is a few float32 pictures of the photo's size (with a lossless autoencoder, whose latents
    are as large: two more than the solver's stages, and its result), and a batch of tiles.

    Args:
        model: whose size the tiles have.
        photo: uint8 ``[3, H, W]``. A side that is shorter than a tile, or does not divide by the
            autoencoder's factor, is continued by its mirror image, which is cut off again.
        solver: instead of the model's own.
        overlap: share of a tile's side that neighbours have in common at least, in [0, 1).
        batch_size: tiles at once.

    Returns:
        A batch of one, as :meth:`SemFlow.segment` gives it, but with ids in uint8.

    Raises:
        ValueError: for another overlap, or something that is no photo.
    """
    if not 0 <= overlap < 1:
        raise ValueError(f"tiles overlap by a share of their side in [0, 1), not {overlap}")
    if photo.dtype != torch.uint8 or photo.ndim != 3 or len(photo) != 3 or not photo.numel():
        raise ValueError(f"a photo is uint8 [3, H, W], not {photo.dtype} {list(photo.shape)}")
    encoder, factor, defaults = model.autoencoder, model.autoencoder.factor, model.defaults
    height, width = photo.shape[1:]
    latents = Tiles(*(
        Side.cover(max(-(-size // factor), tile // factor), tile // factor, overlap)
        for size, tile in ((height, defaults.height), (width, defaults.width))
    ))  # fmt: skip
    pixels = latents.times(factor)
    photo = continued(photo, pixels.down.length, pixels.across.length)

    seen = photo[None].to(model.device) / 127.5 - 1 if model.refiner else None

    def encode(numbers: range) -> Tensor:
        tiles = pixels.cut(photo, numbers).to(model.device)
        return encoder.encode(tiles.float() / 127.5 - 1).mean

    def field(x: Tensor, t: Tensor) -> Tensor:
        return latents.blend(
            lambda numbers: model.field(latents.cut(x[0], numbers), t.expand(len(numbers))),
            batch_size,
        )[None]

    def picture_of(x_1: Tensor) -> Tensor:
        return pixels.blend(lambda numbers: encoder.decode(latents.cut(x_1, numbers)), batch_size)

    start = model.path.depart(latents.blend(encode, batch_size)[None], 0.0)
    end = integrate(field, start, 0.0, 1.0, solver or defaults.segment)
    nfe, codec = end.nfe, model.codec
    if isinstance(codec, Anchors):
        picture = picture_of(model.path.arrive(end.x, 1.0)[0])[:, :height, :width]
        del end  # latents may be as large as the picture
        if seen is not None:
            seen = seen[..., :height, :width]
        found = codec.read_picture(picture[None], defaults.window, model.refiner, seen)
    else:
        whole = codec.read(model.path.arrive(end.x, 1.0), defaults.window, model.refiner, seen)
        found = Read(*(part[..., :height, :width] for part in whole))
    return Segmentation(found.ids.byte(), found.margin, found.picture, nfe)


def continued(photo: Tensor, height: int, width: int) -> Tensor:
    """A photo ``[C, H, W]`` continued down and to the right by its mirror image, repeatedly."""
    for dim, size in ((1, height), (2, width)):
        length = photo.shape[dim]
        if length < size:
            place = torch.arange(size, device=photo.device) % (2 * length)
            mirrored = torch.minimum(place, 2 * length - 1 - place)
            photo = photo.index_select(dim, mirrored)
    return photo
