"""The scores of masks: of the classifier's, of a flow's, and of one class everywhere.

A mask is read in two ways: each pixel by itself, and by probabilities averaged over a window
(``semflow/masks/decoding.py``), or, by a flow with a refiner, through that.

Shapes: B batch, H and W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pipelines.dataset.latents import Manifest, Rows
from semflow import ConfusionMatrix, SemFlow
from semflow.masks.decoding import most_probable
from semflow.metrics.boundary import foreign_ring
from tests.benchmarks.classifier.network import Classifier

BATCH = 8
PIXEL = "each pixel"

Scores = dict[str, dict[str, float]]
"""By the way to read a mask."""


class Tally:
    """The scores of one way to read masks, as they come."""

    def __init__(self, classes: int) -> None:
        self.confusion, self.foreign = ConfusionMatrix(classes), torch.zeros(2, dtype=torch.int64)

    def update(self, predicted: Tensor, truth: Tensor) -> None:
        """Add ids ``[B, H, W]``."""
        self.confusion.update(predicted.cpu(), truth)
        self.foreign += foreign_ring(predicted.cpu(), truth)

    def scores(self) -> dict[str, float]:
        wrong, border = self.foreign.tolist()
        return {"miou": self.confusion.miou, "accuracy": self.confusion.accuracy,
                "foreign": wrong / border if border else 0.0}  # fmt: skip


@torch.inference_mode()
def scored(rows: Rows, classes: int, read: Callable[[Tensor], dict[str, Tensor]]) -> Scores:
    """All rows' masks, which ``read`` makes of latents ``[B, C, h, w]``: ids for each way."""
    tallies: dict[str, Tally] = {}
    for start in range(0, len(rows), BATCH):
        part = slice(start, start + BATCH)
        for way, ids in read(rows.x_0[part]).items():
            tallies.setdefault(way, Tally(classes)).update(ids, rows.ids[part])
    return {way: tally.scores() for way, tally in tallies.items()}


def of_classifier(network: Classifier, rows: Rows, classes: int, window: int) -> Scores:
    """The classifier's masks."""
    device = next(network.parameters()).device

    def read(x_0: Tensor) -> dict[str, Tensor]:
        logits = network(x_0.to(device))
        return {PIXEL: logits.argmax(1), by(window): most_probable(logits.softmax(1), window).ids}

    return scored(rows, classes, read)


def of_flow(model: SemFlow, rows: Rows) -> Scores:
    """A SemFlow model's masks, by its own solver and its own window."""

    def read(x_0: Tensor) -> dict[str, Tensor]:
        plain = model.codec.read(model.mask_latents(x_0)[0]).ids
        return {PIXEL: plain, own(model): model.segment_latents(x_0).ids}

    return scored(rows, len(model.palette), read)


def own(model: SemFlow) -> str:
    """How the model reads masks by itself."""
    return "refiner" if model.refiner else by(model.defaults.window)


def of_commonest(rows: Rows, manifest: Manifest) -> Scores:
    """Everywhere the class that most pixels of the training split have."""
    pixels = manifest.split("train").class_pixels
    commonest, size = pixels.index(max(pixels)), rows.ids.shape[1:]
    return scored(rows, len(pixels), lambda x_0: {PIXEL: torch.full((len(x_0), *size), commonest)})


def by(window: int) -> str:
    """The name of a way to read masks."""
    return PIXEL if window == 1 else f"window {window}"
