"""Class ids and their anchor colours: masks become pictures, and pictures masks again.

Shapes: B batch, H height, W width, K classes. Pictures are float in [-1, 1], ids are integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

IGNORE = 255
"""The id of pixels that belong to no class: not trained on, not scored."""

TEMPERATURE = 0.2
"""Of the softmax over anchors, ``-distance^2 / TEMPERATURE``, where nothing else is said."""

Colour = tuple[int, int, int]
PaletteKind = Literal["grid", "spread", "sphere"]


class Decoded(NamedTuple):
    """What a mask picture says."""

    ids: Tensor  # [B, H, W] int64, the nearest anchor's class
    margin: Tensor  # [B, H, W] float in [0, 1]: 0 on the border to another class, 1 on the anchor


def to_pixels(colours: Tensor) -> Tensor:
    """RGB in 0..255 to the [-1, 1] of mask pictures."""
    return colours.to(torch.float32) / 127.5 - 1


@dataclass(frozen=True)
class Palette:
    """One RGB anchor for each class (SemFlow, section 3.2)."""

    colours: tuple[Colour, ...]
    """Anchor of class c, RGB in 0..255."""
    names: tuple[str, ...]
    ignore_colour: Colour = (255, 255, 255)
    """What ignored pixels are painted in; the released code paints them white."""
    style: int | None = None
    """Channels that a perturbation is in, where masks have a codec of their own
    (:mod:`semflow.codecs.blocks`) and these colours are for people alone; None where they are the
    code."""

    def __post_init__(self) -> None:
        if len(self.colours) != len(self.names):
            raise ValueError(f"{len(self.colours)} colours for {len(self.names)} class names")
        if len(self.colours) < 2:
            raise ValueError("a palette needs at least two classes")
        if len(set(self.colours)) != len(self.colours):
            raise ValueError("two classes share a colour")
        if not all(0 <= v <= 255 for colour in (*self.colours, self.ignore_colour) for v in colour):
            raise ValueError("a colour's channels lie in 0..255")

    def __len__(self) -> int:
        return len(self.colours)

    @cached_property
    def anchors(self) -> Tensor:
        """``[K, 3]`` float32 in [-1, 1]."""
        return to_pixels(torch.tensor(self.colours))

    @cached_property
    def _differences(self) -> Tensor:
        """``[K, K, 3]`` float64, from class i to class j."""
        anchors = self.anchors.double()
        return anchors[None, :] - anchors[:, None]

    @cached_property
    def min_distance(self) -> float:
        """Least Euclidean distance between two anchors, pixels in [-1, 1]."""
        distance = self._differences.norm(dim=-1)
        distance.fill_diagonal_(float("inf"))
        return float(distance.min())

    def perturbation_bound(self) -> tuple[float, int, int]:
        """The amplitude per channel from which on a label can change, and the two classes.

        With a codec of its own a mask is read from none of the channels that are perturbed: no
        amplitude is too large, or, where there are no such channels, every one is.

        A change ``d`` with ``|d_i| <= a`` takes a pixel from anchor p over the border to q when
        ``d.(q - p) >= |q - p|^2 / 2``; the worst ``d`` gives ``a = |q - p|_2^2 / (2 |q - p|_1)``.
        On the paper's grid of step s this is its bound s/2.
        """
        if self.style is not None:
            return (float("inf") if self.style else 0.0), 0, 1
        difference = self._differences
        bound = difference.square().sum(-1) / (2 * difference.abs().sum(-1))
        bound.fill_diagonal_(float("inf"))  # 0/0 on the diagonal
        flat = int(bound.argmin())
        return float(bound.flatten()[flat]), flat // len(self), flat % len(self)

    def encode(self, ids: Tensor) -> Tensor:
        """Class ids ``[B, H, W]`` to pictures ``[B, 3, H, W]`` in [-1, 1].

        Raises:
            ValueError: when an id is neither a class nor :data:`IGNORE`.
        """
        ids = ids.long()
        wrong = (ids != IGNORE) & ((ids < 0) | (ids >= len(self)))
        if wrong.any():
            found = sorted({int(i) for i in ids[wrong].unique()})
            raise ValueError(
                f"class ids {found[:8]} are beyond this palette of {len(self)} classes "
                f"(0..{len(self) - 1}, {IGNORE} is ignored)"
            )
        table = torch.empty(256, 3)
        table[: len(self)] = self.anchors
        table[IGNORE] = to_pixels(torch.tensor(self.ignore_colour))
        return table.to(ids.device)[ids].movedim(-1, -3)

    def decode(self, pictures: Tensor) -> Decoded:
        """Pictures ``[B, 3, H, W]`` in [-1, 1] to the class of the nearest anchor, with margin.

        The margin is the distance to the border between the nearest anchor and the second
        nearest, in units of half the least anchor distance, cut at 1.
        """
        anchors = self.anchors.to(pictures.device)
        ids, margins = [], []
        for picture in pictures.float():  # one at a time: K distances a pixel are held at once
            pixels = picture.flatten(1).T  # [H*W, 3]
            # |p - a|^2 without |p|^2, which orders the anchors just as well
            score = anchors.square().sum(-1) - 2 * pixels @ anchors.T  # [H*W, K]
            (first, second), nearest = _two_smallest(score)
            apart = (anchors[nearest[0]] - anchors[nearest[1]]).norm(dim=-1)
            border = (second - first) / (2 * apart)
            ids.append(nearest[0].reshape(picture.shape[1:]))
            margins.append((border / (self.min_distance / 2)).clamp(0, 1).reshape(ids[-1].shape))
        return Decoded(ids=torch.stack(ids), margin=torch.stack(margins))

    def logits(self, pictures: Tensor, temperature: float) -> Tensor:
        """``-|p - a_c|^2 / temperature`` ``[B, K, H, W]``: a softmax over it is a soft decode."""
        anchors = self.anchors.to(pictures)
        square = anchors.square().sum(-1)[:, None, None]
        cross = torch.einsum("kc,bchw->bkhw", anchors, pictures)
        return (2 * cross - square) / temperature

    def colourize(self, ids: Tensor) -> Tensor:
        """Class ids ``[B, H, W]`` to uint8 RGB ``[B, 3, H, W]``, for people to look at."""
        return ((self.encode(ids) + 1) * 127.5).round().to(torch.uint8)

    def png_palette(self) -> list[int]:
        """768 numbers, the colour table of an index PNG: a viewer shows the anchors."""
        table = [0] * 768
        for index, colour in enumerate(self.colours):
            table[3 * index : 3 * index + 3] = colour
        table[3 * IGNORE :] = self.ignore_colour
        return table

    def to_json(self) -> dict[str, Any]:
        data = asdict(self)
        return data if self.style is not None else {k: v for k, v in data.items() if k != "style"}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Palette:
        return cls(
            colours=tuple(tuple(c) for c in data["colours"]),
            names=tuple(data["names"]),
            ignore_colour=tuple(data["ignore_colour"]),
            style=data.get("style"),
        )


def _two_smallest(score: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    values, indices = score.topk(2, dim=-1, largest=False)
    return (values[:, 0], values[:, 1]), (indices[:, 0], indices[:, 1])


def _names(names: Sequence[str] | int) -> tuple[str, ...]:
    return tuple(str(i) for i in range(names)) if isinstance(names, int) else tuple(names)


def grid(names: Sequence[str] | int, *, levels: int = 6, step: int = 50) -> Palette:
    """The paper's palette (Eq. 7): anchor ``s (c // k^2, (c mod k^2) // k, c mod k)``.

    Args:
        names: class names, or how many classes.
        levels: ``k``, levels a channel; 6 in the released code, hence at most 216 classes.
        step: ``s``, 50 in the released code.

    Raises:
        ValueError: for more than ``levels ** 3`` classes, or levels past 255.
    """
    names = _names(names)
    if len(names) > levels**3:
        raise ValueError(
            f"a grid of {levels} levels a channel holds {levels**3} classes, not {len(names)}"
        )
    if (levels - 1) * step > 255:
        raise ValueError(f"{levels} levels of {step} end at {(levels - 1) * step}, past 255")
    colours = tuple(
        (step * (c // levels**2), step * (c % levels**2 // levels), step * (c % levels))
        for c in range(len(names))
    )
    return Palette(colours, names)


def spread(names: Sequence[str] | int) -> Palette:
    """Anchors as far apart as the colour cube allows: the least distance is made large.

    Gradient ascent on a soft minimum of the distances, best of several seeded starts. A palette
    is stored wherever it is used: nothing depends on another machine finding the same one.
    """
    return _spread(_names(names), sphere=False)


def sphere(names: Sequence[str] | int) -> Palette:
    """Anchors spread over the sphere inside the colour cube.

    Closer together than :func:`spread`, but no anchor lies between others: the average of two
    classes, which a velocity learned by squared error tends to, is nobody's anchor.
    """
    return _spread(_names(names), sphere=True)


@lru_cache(maxsize=16)
def _spread(names: tuple[str, ...], *, sphere: bool, starts: int = 16) -> Palette:
    count = len(names)
    if not 2 <= count <= IGNORE:
        raise ValueError(f"a palette holds 2 to {IGNORE} classes, not {count}")
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(starts, count, 3, generator=generator, dtype=torch.float64) * 2 - 1
    points = _push_apart(x, sphere=sphere)
    colours = ((points + 1) * 127.5).round().clamp(0, 255).int().tolist()
    return Palette(tuple(tuple(c) for c in colours), names, ignore_colour=(128, 128, 128))


def _push_apart(x: Tensor, *, sphere: bool, rounds: int = 400) -> Tensor:
    """Raise the least distance of several starts ``[S, K, 3]``; the best one is returned."""
    project = torch.nn.functional.normalize if sphere else (lambda x, **_: x.clamp(-1, 1))
    best, best_distance = x[0], 0.0
    for i in range(rounds):
        sharpness = 10.0 * 50.0 ** (i / rounds)  # from all pairs to the closest ones only
        difference = x[:, :, None] - x[:, None, :]
        distance = difference.norm(dim=-1) + 1e-9
        distance.diagonal(dim1=1, dim2=2).fill_(float("inf"))
        weight = torch.softmax(-sharpness * distance.flatten(1), -1).view_as(distance)
        push = ((weight / distance)[..., None] * difference).sum(2)
        x = project(x + (1 - i / rounds) * push, dim=-1)
        least, start = torch.cdist(x, x).add(torch.eye(x.shape[1]) * 9).flatten(1).amin(1).max(0)
        if least > best_distance:
            best, best_distance = x[start].clone(), float(least)
    return best


def make_palette(kind: PaletteKind, names: Sequence[str] | int) -> Palette:
    """A palette by name: 'grid' (the paper's), 'spread' or 'sphere'."""
    return {"grid": grid, "spread": spread, "sphere": sphere}[kind](names)
