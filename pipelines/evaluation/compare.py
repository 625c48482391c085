"""Predicted masks against a corpus's true ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch

from pipelines.corpora import Corpus, parts, pixels
from pipelines.corpora.masks import LabelMap
from pipelines.corpora.truth import label_map, read_mask
from semflow import IGNORE, ConfusionMatrix

Values = Literal["classes", "corpus"]
"""What predicted values are: numbers of classes, or ids of the corpus's own mask files."""


class Compare:
    """A Ray Data function: pairs with what is ``predicted`` to counts, and what is wrong.

    Predictions are of upright photos, so masks that were drawn on stored pixels are turned.
    """

    def __init__(self, corpus: Corpus, values: Values, dropped: Sequence[int] = ()) -> None:
        """How to read masks.

        Args:
            corpus: with its classes.
            values: of the predictions.
            dropped: classes whose true pixels do not count.
        """
        self.corpus, self.dropped = corpus, list(dropped)
        meaning = label_map(corpus) if values == "corpus" else LabelMap(classes=len(corpus.classes))
        # A predicted value of no class is a miss, not a fault: it counts against its true class.
        self.predictions = replace(meaning, ignore_rest=True)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        confusion, resized = ConfusionMatrix(len(self.corpus.classes)), 0
        bad: list[str] = []
        names = ("id", "mask", "mask_part", "predicted", "image", "image_part")
        columns = (batch[key] for key in names)
        for id_, mask, part, predicted, *photo in zip(*columns, strict=True):
            try:
                truth = read_mask(self.corpus, str(mask), str(part))
                data, stored = parts.read(*map(str, photo)), self.corpus.masks_drawn == "stored"
                truth = pixels.upright_ids(truth, data, stored=stored)
                found = self.predictions.read(parts.read(str(predicted)))
            except pixels.BadInput as reason:
                bad.append(f"{id_}: {reason}")
                continue
            if found.shape != truth.shape:
                resized += 1
                found = pixels.resize_ids(found, truth.shape[1], truth.shape[0])
            truth = np.where(np.isin(truth, self.dropped), IGNORE, truth)
            confusion.update(torch.tensor(found), torch.tensor(truth))
        return {"confusion": [confusion.counts.numpy()], "resized": [resized],
                "bad": ["\n".join(bad)]}  # fmt: skip
