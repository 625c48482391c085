"""What is to be synthesized: masks, their edited versions, and a seed for each image.

All of it is decided in the driver from the masks' names, and written down in the plan.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from infra import storage
from pipelines import config
from pipelines.corpora import parts, pixels
from pipelines.corpora.pixels import Pixels
from pipelines.inference.masks import MaskReader
from pipelines.inference.products import check_name, unique_names
from pipelines.synthesis import edits
from pipelines.synthesis.edits import Recipe
from pipelines.synthesis.formats import SPLITS, split_of


def sample_seed(seed: int, name: str, sample: int, variant: int = 0) -> int:
    """The seed of an image, from what it is an image of; variant 0 is the mask as it is."""
    edited = [variant] if variant else []
    return int(config.fingerprint([seed, name, sample, *edited])[:15], 16)


def edit_seed(seed: int, name: str, variant: int) -> int:
    """The seed of an edited mask, whatever images are made of it."""
    return int(config.fingerprint([seed, name, "edit", variant])[:15], 16)


def drafts(
    masks: str,
    paths: Sequence[str],
    *,
    seed: int,
    samples: int,
    variants: int,
    val_share: float,
    pasting: bool,
) -> Iterator[dict[str, Any]]:
    """A row for each image, those for training first, samples of a mask together.

    A row has ``name`` (of the image), ``path`` and ``source`` (of the mask), ``split``,
    ``variant``, ``sample`` and ``seed``, and where there are variants ``edit_seed`` and ``donors``
    (a JSON list of paths): masks to paste from, of the same split, since they show in the result.

    Args:
        masks: the folder of the ``paths``.
        paths: of the masks.
        seed: all others follow from it and the masks' names.
        samples: images of each mask.
        variants: edited versions of each mask.
        val_share: share of the masks that is for validation.
        pasting: whether donors are needed.

    Raises:
        ValueError: when there is nothing to paste from.
    """
    if pasting and len(paths) < 2:
        raise ValueError("--edits.paste takes from other masks, and there is only one")
    names = dict(zip(paths, unique_names(paths), strict=True))
    split = {path: split_of(path, val_share) for path in paths}
    for which in SPLITS:
        mine = [path for path in paths if split[path] == which]
        for number, path in enumerate(mine):
            for variant in range(variants + 1):
                name = names[path]
                below = f"{name}-{variant}" if variants else name
                edited = {
                    "edit_seed": edit_seed(seed, name, variant),
                    "donors": json.dumps(_donors(mine, number, seed, name, variant, pasting)),
                }
                yield from (
                    {"name": f"{below}-{n}", "path": path, "source": storage.join(masks, path),
                     "split": which, "variant": variant, "sample": n,
                     "seed": sample_seed(seed, name, n, variant)}
                    | (edited if variants else {})
                    for n in range(samples)
                )  # fmt: skip


def _donors(
    paths: Sequence[str], own: int, seed: int, name: str, variant: int, pasting: bool
) -> list[str]:
    if not pasting or not variant:
        return []
    rng = np.random.default_rng([edit_seed(seed, name, variant), 1])
    return edits.donors(paths, own, rng)


class DecodeMask:
    """A draft to ids at the model's size, edited, and ``edit``, what was done; or an error."""

    def __init__(
        self,
        masks: str,
        size: tuple[int, int],
        reader: MaskReader,
        recipe: Recipe,
    ) -> None:
        """Args: where the masks are, width and height, what reads them, and how they are edited."""
        self.masks, self.size, self.reader, self.recipe = masks, size, reader, recipe

    def __call__(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        donors = json.loads(row.pop("donors", "[]"))
        seed = row.pop("edit_seed", 0)
        done: dict[str, Any] = {}
        try:
            check_name(row["name"])
            ids, error = self.read(row["source"]), ""
            if row["variant"]:
                donor, path = self.donor(donors)
                rng = np.random.default_rng(seed)
                ids, found = edits.edit(ids, donor, self.recipe, rng)
                done = edits.named(found, self.reader.palette.names)
                if "paste" in done:
                    done["donor"] = path
        except pixels.BadInput as bad:
            ids, error = np.zeros(self.size[::-1], np.uint8), str(bad)
        return [row | {"ids": ids, "edit": json.dumps(done) if done else "", "error": error}]

    def read(self, uri: str) -> Pixels:
        return pixels.resize_ids(self.reader.read(parts.read(uri)), *self.size)

    def donor(self, paths: Sequence[str]) -> tuple[Pixels | None, str]:
        """The first of ``paths`` that has something to paste.

        Raises:
            BadInput: when one that would be tried cannot be read.
        """
        for path in paths:
            try:
                ids = self.read(storage.join(self.masks, path))
            except pixels.BadInput as bad:
                raise pixels.BadInput(f"{path}, to paste from: {bad}") from bad
            if edits.has_some(ids, self.recipe):
                return ids, path
        return None, ""
