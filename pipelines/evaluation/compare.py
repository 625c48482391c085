"""Predicted masks against a corpus's true ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from pipelines.corpora import Corpus, parts, pixels
from pipelines.corpora.masks import LabelMap
from pipelines.corpora.pixels import Pixels
from pipelines.corpora.truth import label_map, read_mask
from pipelines.inference.masks import read_by
from semflow import IGNORE, ConfusionMatrix
from semflow.masks.given import GivenMasks, MasksAre


class Compare:
    """A Ray Data function: pairs with what is ``predicted`` to counts, and what is wrong.

    Predictions are of upright photos, so masks that were drawn on stored pixels are turned.

    ``bad`` are predictions or masks that cannot be read, ``strange`` are predictions with values
    that mean nothing; lines, each with its reason.
    """

    def __init__(self, corpus: Corpus, masks_are: MasksAre, dropped: Sequence[int] = ()) -> None:
        """How to read masks.

        Args:
            corpus: with its classes.
            masks_are: what the predictions' values are.
            dropped: classes whose true pixels do not count.
        """
        self.corpus, self.dropped = corpus, list(dropped)
        classes, of_corpus = LabelMap(classes=len(corpus.classes)), label_map(corpus)
        # A predicted value of no class is a miss, not a fault: it counts against its true class.
        meaning = of_corpus if masks_are == "corpus" else classes
        self.predictions = replace(meaning, ignore_rest=True)
        self.given = GivenMasks(classes=classes.classes, corpus=of_corpus, masks_are=masks_are)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        confusion, resized = ConfusionMatrix(len(self.corpus.classes)), 0
        bad: list[str] = []
        strange: list[str] = []
        names = ("id", "mask", "mask_part", "predicted", "image", "image_part")
        columns = (batch[key] for key in names)
        for id_, mask, part, predicted, *photo in zip(*columns, strict=True):
            try:
                truth = read_mask(self.corpus, str(mask), str(part))
                data, stored = parts.read(*map(str, photo)), self.corpus.masks_drawn == "stored"
                truth = pixels.upright_ids(truth, data, stored=stored)
                found, unknown = self.read(parts.read(str(predicted)))
            except pixels.BadInput as reason:
                bad.append(f"{id_}: {reason}")
                continue
            if unknown:
                strange.append(f"{id_}: {unknown}")
            if found.shape != truth.shape:
                resized += 1
                found = pixels.resize_ids(found, truth.shape[1], truth.shape[0])
            truth = np.where(np.isin(truth, self.dropped), IGNORE, truth)
            confusion.update(torch.tensor(found), torch.tensor(truth))
        return {"confusion": [confusion.counts.numpy()], "resized": [resized],
                "bad": ["\n".join(bad)], "strange": ["\n".join(strange)]}  # fmt: skip

    def read(self, data: bytes) -> tuple[Pixels, str]:
        """A prediction as class numbers, and what it has that means nothing.

        Raises:
            BadInput: when it cannot be read.
        """
        try:
            return self.given.read(lambda by: read_by(by, data), pixels.BadInput), ""
        except pixels.BadInput as reason:
            try:
                return self.predictions.read(data), str(reason)
            except pixels.BadInput:
                raise reason from None
