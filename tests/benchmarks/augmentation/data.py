"""CamVid, cut, perturbed and encoded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipelines.corpora import pixels
from pipelines.corpora.classes import with_classes
from pipelines.corpora.known import KNOWN
from pipelines.corpora.truth import label_map
from semflow import load_autoencoder, make_palette
from tests.benchmarks.augmentation.study import Study

CORPUS = with_classes(KNOWN["camvid"][1])
MIN_SCALE = 0.5  # of a crop, as encode.py has it


@dataclass(frozen=True)
class Pick:
    """One training example: an image, a view of it, and the seed of a perturbation, if any."""

    split: str
    image: int
    view: pixels.View
    seed: int | None


class Data:
    """CamVid in memory, and the latents of picks through one autoencoder."""

    def __init__(self, study: Study, autoencoder: str) -> None:
        self.study = study
        self.palette = make_palette("sphere", CORPUS.classes)
        study.perturbation.check(self.palette)
        self.autoencoder = load_autoencoder(autoencoder)
        labels = label_map(CORPUS)
        self.pairs: dict[str, list[tuple[Any, Any]]] = {}
        for split, every in (("train", study.every), ("val", 1)):
            files = sorted((study.data / "masks" / split).glob("*.png"))[::every]
            photos = [study.data / "images" / split / f"{file.stem}.jpg" for file in files]
            self.pairs[split] = [
                (pixels.read_photo(photo.read_bytes()), labels.read(file.read_bytes()))
                for photo, file in zip(photos, files, strict=True)
            ]
        self.cut = lru_cache(6000)(self._cut)
        self.memo: dict[str, Tensor] = {}
        """Latents of a lossy autoencoder, in half precision, by the repr of what was encoded."""

    def _cut(self, split: str, image: int, view: pixels.View) -> tuple[Tensor, Tensor]:
        photo, ids = self.pairs[split][image]
        cut = pixels.cut(photo, ids, view, self.study.width, self.study.height)
        return tuple(torch.from_numpy(part.copy()) for part in cut)

    def views(self, split: str, image: int, count: int) -> list[pixels.View]:
        """The fixed views of an image; fewer are the first ones of more."""
        height, width = self.pairs[split][image][1].shape
        aspect = self.study.width / self.study.height
        return pixels.plan_views(
            width, height, count=count, min_scale=MIN_SCALE, aspect=aspect, seed=[image]
        )

    def whole(self, split: str) -> list[tuple[int, pixels.View]]:
        """Every image of a split, uncropped."""
        return [(i, self.views(split, i, 1)[0]) for i in range(len(self.pairs[split]))]

    def fresh_view(self, split: str, image: int, rng: np.random.Generator) -> pixels.View:
        """A crop as the planned ones from the second on, mirrored half the time."""
        height, width = self.pairs[split][image][1].shape
        view = pixels.plan_views(
            width, height, count=2, min_scale=MIN_SCALE, seed=[int(rng.integers(2**31))],
            aspect=self.study.width / self.study.height,
        )[1]  # fmt: skip
        return replace(view, flip=bool(rng.integers(2)))

    @torch.no_grad()
    def latents(self, picks: list[Pick]) -> tuple[Tensor, Tensor, Tensor]:
        """``x_0``, ``x_1`` [B, C, h, w] and ids [B, H, W] of picks."""
        cuts = [self.cut(p.split, p.image, p.view) for p in picks]
        ids = torch.stack([ids for _, ids in cuts])
        if self.autoencoder.lossless:
            images, masks = self._images(cuts), self._masks(picks, ids)
            return self.autoencoder.encode(images).mean, self.autoencoder.encode(masks).mean, ids
        photos = [repr((p.split, p.image, p.view, "photo")) for p in picks]
        drawn = [repr(p) for p in picks]
        self._fill(photos, lambda some: self._images([cuts[i] for i in some]))
        self._fill(drawn, lambda some: self._masks([picks[i] for i in some], ids[some]))
        ends = [torch.stack([self.memo[key] for key in keys]).float() for keys in (photos, drawn)]
        return ends[0], ends[1], ids

    def _fill(self, keys: list[str], picture: Any) -> None:
        missing = list({key: i for i, key in enumerate(keys) if key not in self.memo}.values())
        for start in range(0, len(missing), 16):
            some = missing[start : start + 16]
            encoded = self.autoencoder.encode(picture(some)).mean.half()
            self.memo |= {keys[i]: latent for i, latent in zip(some, encoded, strict=True)}

    def _images(self, cuts: list[tuple[Tensor, Tensor]]) -> Tensor:
        return torch.stack([image for image, _ in cuts]).movedim(-1, 1).float() / 127.5 - 1

    def _masks(self, picks: list[Pick], ids: Tensor) -> Tensor:
        masks = self.palette.encode(ids)
        for mask, pick in zip(masks, picks, strict=True):
            if pick.seed is not None:
                mask += self.study.perturbation.draw(mask.shape, pick.seed)
        return masks
