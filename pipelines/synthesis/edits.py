"""Edited masks: what stands in a scene is exchanged, taken from another one, or mirrored.

Masks are class ids, uint8 ``[H, W]``, 255 for no class. A *component* is a connected set of pixels
of one class, corners counted as connected; specks are none. Everything follows from the generator
that is given, so that a restart edits as the first run did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipelines.corpora.pixels import Pixels

DONORS = 4
"""Masks that are tried, one after another, for something to paste."""
TOUCHING = np.ones((3, 3), bool)
"""Pixels that meet at a corner are connected: thin things stay whole."""


@dataclass(frozen=True, kw_only=True)
class Edits:
    """Edited versions of each mask beside the original; none by default."""

    variants: int = 0
    """Edited versions of each mask."""
    flip: bool = False
    """Mirror a version in half of the cases, and where nothing else could be done."""
    swap: tuple[str, ...] = ()
    """Pairs of class names such as car=truck: a component of the first becomes the second."""
    swap_all: bool = False
    """Swap all pixels of a class and not one component."""
    paste: tuple[str, ...] = ()
    """Classes of which components of another mask are pasted."""
    shift: float = 0.0
    """How far what is pasted is moved at most, as a share of the mask's width and height."""
    least: float = 0.002
    """Share of a mask's pixels from which on a component is one and not a speck."""

    def __post_init__(self) -> None:
        if self.variants < 0 or not 0 <= self.shift < 1 or not 0 <= self.least < 1:
            raise ValueError("--edits.variants is 0 or more, --edits.shift and --edits.least lie "
                             "in [0, 1)")  # fmt: skip
        wanted = self.flip or self.swap or self.paste
        if self.variants and not wanted:
            raise ValueError("--edits.variants asks for edited masks: say how, by --edits.flip, "
                             "--edits.swap or --edits.paste")  # fmt: skip
        if wanted and not self.variants:
            raise ValueError("--edits.variants says how many edited versions of a mask to make")


class Recipe(NamedTuple):
    """The edits in ids of a palette."""

    swap: tuple[tuple[int, int], ...] = ()
    swap_all: bool = False
    paste: tuple[int, ...] = ()
    shift: float = 0.0
    flip: bool = False
    least: float = 0.0

    @classmethod
    def of(cls, edits: Edits, names: Sequence[str]) -> Recipe:
        """Read the names.

        Raises:
            ValueError: when one is no class, or a pair is not two classes.
        """

        def number(name: str) -> int:
            if name not in names:
                raise ValueError(f"--edits: {name!r} is no class of the model; it knows "
                                 f"{', '.join(names)}")  # fmt: skip
            return list(names).index(name)

        pairs = [tuple(pair.split("=")) for pair in edits.swap]
        wrong = [pair for pair in pairs if len(pair) != 2 or pair[0] == pair[1]]
        if wrong:
            raise ValueError(
                f"--edits.swap takes pairs such as car=truck, not {'='.join(wrong[0])}"
            )
        swap = tuple((number(a), number(b)) for a, b in pairs)
        paste = tuple(number(name) for name in edits.paste)
        return cls(swap, edits.swap_all, paste, edits.shift, edits.flip, edits.least)


def components(ids: Pixels, class_id: int, least: float = 0.0) -> list[NDArray[np.bool_]]:
    """The components of a class, each ``[H, W]``, from the top; none below a share ``least``."""
    labels, count = ndimage.label(ids == class_id, structure=TOUCHING)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    return [labels == n for n in range(1, count + 1) if sizes[n] >= least * ids.size]


def swap(ids: Pixels, recipe: Recipe, rng: np.random.Generator) -> tuple[Pixels, dict[str, Any]]:
    """One of the pairs whose first class is there, chosen at random, is carried out.

    Returns:
        The mask, and ``{from, to, pixels}``, or nothing where no pair could be carried out.
    """
    found = {pair: components(ids, pair[0], recipe.least) for pair in recipe.swap}
    possible = [pair for pair, parts in found.items() if parts]
    if not possible:
        return ids, {}
    before, after = possible[rng.integers(len(possible))]
    parts = found[before, after]
    where = ids == before if recipe.swap_all else parts[rng.integers(len(parts))]
    done = {"from": before, "to": after, "pixels": int(where.sum())}
    return np.where(where, np.uint8(after), ids), done


def paste(
    ids: Pixels, donor: Pixels, recipe: Recipe, rng: np.random.Generator
) -> tuple[Pixels, list[dict[str, Any]]]:
    """Components of a donor ``[H, W]``, each in half of the cases and one in any case.

    Each is moved by its own shift, and what leaves the mask is cut off.

    Returns:
        The mask, and ``{class, pixels, right, down}`` of each component.
    """
    parts = [(c, part) for c in recipe.paste for part in components(donor, c, recipe.least)]
    if not parts:
        return ids, []
    chosen = rng.random(len(parts)) < 0.5
    chosen[rng.integers(len(parts))] = True
    height, width = ids.shape
    far = int(recipe.shift * height), int(recipe.shift * width)
    ids, done = ids.copy(), []
    for (class_id, part), take in zip(parts, chosen, strict=True):
        if take:
            down, right = (int(rng.integers(-most, most + 1)) for most in far)
            where = moved(part, down, right)
            ids[where] = class_id
            done.append({"class": class_id, "pixels": int(where.sum()),
                         "right": right, "down": down})  # fmt: skip
    return ids, done


def moved(part: NDArray[np.bool_], down: int, right: int) -> NDArray[np.bool_]:
    """Pixels ``[H, W]`` moved by less than the mask's size; what leaves it is gone."""
    height, width = part.shape
    result = np.zeros_like(part)
    inner = part[max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
    top, left = max(0, down), max(0, right)
    result[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return result


def mirror(ids: Pixels) -> Pixels:
    """Left and right exchanged."""
    return np.ascontiguousarray(ids[:, ::-1])


def edit(
    ids: Pixels, donor: Pixels | None, recipe: Recipe, rng: np.random.Generator
) -> tuple[Pixels, dict[str, Any]]:
    """All of a recipe in turn: swap, paste, mirror.

    Args:
        ids: the mask ``[H, W]``.
        donor: another one of the same size, if there is one.
        recipe: what to do.
        rng: decides all that is random.

    Returns:
        The edited mask, and what was done: ``swap``, ``paste`` and ``flip``, those that were.
    """
    done: dict[str, Any] = {}
    ids, swapped = swap(ids, recipe, rng)
    if swapped:
        done["swap"] = swapped
    if donor is not None:
        ids, pasted = paste(ids, donor, recipe, rng)
        if pasted:
            done["paste"] = pasted
    if recipe.flip and (rng.random() < 0.5 or not done):
        ids, done["flip"] = mirror(ids), True
    return ids, done


def has_some(donor: Pixels, recipe: Recipe) -> bool:
    """Whether there is something to paste in a mask."""
    return any(components(donor, class_id, recipe.least) for class_id in recipe.paste)


def named(done: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """What was done, with the names of the classes."""
    result = dict(done)
    if "swap" in done:
        swapped = done["swap"]
        ends = {"from": names[swapped["from"]], "to": names[swapped["to"]]}
        result["swap"] = swapped | ends
    if "paste" in done:
        result["paste"] = [part | {"class": names[part["class"]]} for part in done["paste"]]
    return result


def donors(paths: Sequence[str], own: int, rng: np.random.Generator) -> list[str]:
    """Up to ``DONORS`` of the paths, in the order they are tried, without the ``own``-th."""
    count = min(DONORS, len(paths) - 1)
    if count < 1:
        return []
    others = rng.choice(len(paths) - 1, count, replace=False)
    return [paths[int(n) + int(n >= own)] for n in others]
