"""What training minimises: the paper's squared error, and what we add to it.

Shapes: B batch, C latent channels, h and w latent size, H and W pixels, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from semflow.codecs.base import MaskCodec
from semflow.flow.path import PathSample, RectifiedFlow
from semflow.masks.palette import IGNORE, TEMPERATURE


class Loss(NamedTuple):
    total: Tensor  # scalar, to be minimised
    velocity: Tensor  # scalar, the (weighted) squared error of the velocity
    anchor: Tensor  # scalar, the cross-entropy over anchors; 0 when it is off


@dataclass(frozen=True, kw_only=True)
class Objective:
    """``velocity error + anchor_weight * anchor cross-entropy``.

    With the defaults this is the paper's loss (Eq. 5), a plain mean of squared errors.
    """

    anchor_weight: float = 0.0
    """Weight of the cross-entropy that pulls the predicted mask to the right anchor. A velocity
    learned by squared error alone predicts averages of anchors, and the average of two classes is
    often a third one's anchor. Costs a decode of the predicted mask at each step, which is free
    with a lossless autoencoder."""
    anchor_temperature: float = TEMPERATURE
    """The softmax over anchors is of ``-distance^2 / anchor_temperature``."""
    class_balance: float = 0.0
    """Pixels weigh ``frequency ** -class_balance`` of their class: 0 alike, 1 classes alike."""
    image_weight: float = 0.7
    """With symmflow, the share of the image's error; the mask's has the rest (arXiv 2506.10634)."""

    def class_weights(self, frequency: Tensor) -> Tensor:
        """Weight of each class ``[K]`` for its share of pixels ``[K]``; a pixel's mean is 1.

        Classes that never occur get the weight of the rarest one that does.
        """
        present = frequency > 0
        share = torch.where(present, frequency, frequency[present].min())
        weight = share**-self.class_balance
        return weight * frequency.sum() / (weight * frequency).sum()

    def __call__(
        self,
        predicted: Tensor,
        sample: PathSample,
        *,
        flow: RectifiedFlow,
        ids: Tensor,
        codec: MaskCodec,
        class_weights: Tensor | None = None,
    ) -> Loss:
        """Loss of a predicted velocity ``[B, C, h, w]``.

        Args:
            predicted: the model's velocity at ``sample.x_t``.
            sample: the point on the path and its target.
            flow: the path.
            ids: class ids ``[B, H, W]`` of the mask, with ignored pixels.
            codec: reads the predicted mask for the anchor term.
            class_weights: ``[K]``, from :meth:`class_weights`; None weighs pixels alike.
        """
        predicted = predicted.float()
        squared = flow.weigh((predicted - sample.velocity.float()).square(), self.image_weight)
        weights = None if class_weights is None else _pixel_weights(ids, class_weights)
        if weights is not None:
            squared = squared * F.adaptive_avg_pool2d(
                weights[:, None], (squared.shape[-2], squared.shape[-1])
            )
        velocity = squared.mean()
        if not self.anchor_weight:
            return Loss(velocity, velocity, velocity.new_zeros(()))
        _, x_1 = flow.end_points(sample.x_t.float(), sample.t, predicted)
        logits = codec.logits(x_1, self.anchor_temperature)
        anchor = cross_entropy(logits, ids, class_weights)
        return Loss(velocity + self.anchor_weight * anchor, velocity, anchor)


def cross_entropy(logits: Tensor, ids: Tensor, class_weights: Tensor | None) -> Tensor:
    """The mean over pixels of the cross-entropy, each with its class's weight; 0 where ignored.

    Args:
        logits: ``[B, K, H, W]``.
        ids: class ids ``[B, H, W]``, with ignored pixels.
        class_weights: ``[K]``, from :meth:`Objective.class_weights`; None weighs pixels alike.
    """
    entropy = F.cross_entropy(logits, ids.long(), ignore_index=IGNORE, reduction="none")
    weights = None if class_weights is None else _pixel_weights(ids, class_weights)
    return (entropy if weights is None else entropy * weights).mean()


def _pixel_weights(ids: Tensor, class_weights: Tensor) -> Tensor:
    """``[B, H, W]``: each pixel's class weight, and 0 where it is ignored."""
    table = torch.zeros(IGNORE + 1, device=ids.device)
    table[: len(class_weights)] = class_weights
    return table[ids.long()]
