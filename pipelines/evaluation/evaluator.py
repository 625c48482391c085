"""An evaluation's actor: rows of a latent dataset to sums, features, facts and pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipelines.dataset.latents import read_row_groups
from pipelines.evaluation import confidence
from pipelines.evaluation.config import EvaluateConfig
from pipelines.evaluation.imagemetrics import Judge, Networks
from pipelines.evaluation.judging import confusions
from pipelines.inference.predictors import Predictor, clock
from pipelines.pages import pictures
from pipelines.synthesis.drafts import sample_seed
from semflow import ConfusionMatrix
from semflow.sampler import Defaults


class Evaluator(Predictor):
    """An actor: a row group to sums, features of its images, and pictures of the first rows.

    What has a row an image is named ``OF:WHAT``: features are ``NETWORK:made`` and
    ``NETWORK:real``, and ``photos:review`` is :func:`~pipelines.evaluation.confidence.photo_rows`.
    """

    def __init__(self, cfg: EvaluateConfig, defaults: Defaults, networks: Networks) -> None:
        super().__init__(cfg.model, cfg.actors)
        self.cfg = cfg
        self.judge = Judge(networks, cfg.metrics, self.device)
        self.segment, self.synthesize = defaults.segment, defaults.synthesize
        self.model = self.model.with_defaults(
            perturbation=defaults.perturbation, window=defaults.window
        )

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        unit = {key: values[0] for key, values in batch.items()}
        table = read_row_groups(unit["uri"], [int(unit["group"])], ["id", "image_mean", "mask"])
        count = int(unit["rows"])
        latents = torch.from_numpy(table["image_mean"][:count]).float()
        ids = torch.tensor(table["mask"][:count])
        seeds = [sample_seed(self.cfg.seed, id_, 0) for id_ in table["id"][:count]]
        sums: dict[str, Any] = {**self.judge.no_spread()}
        shown: dict[str, Any] = {"diversity": np.zeros(0, np.uint8)}
        rows: dict[str, list[Any]] = {}
        step = self.cfg.actors.batch_size
        for start in range(0, count, step):
            part = slice(start, start + step)
            scores, tiles, seen = self.score(latents[part], ids[part], seeds[part])
            shown.setdefault("tiles", tiles[: int(unit["pictures"])])
            accumulate(sums, scores)
            for name, value in seen.items():
                rows.setdefault(name, []).append(value)
        for row in range(min(count, int(unit["diverse"]))):
            scores, tiles = self.diversity(ids[row], str(table["id"][row]))
            accumulate(sums, scores)
            if row == 0 and unit["pictures"]:
                shown["diversity"] = tiles
        together = {name: np.concatenate(values) for name, values in rows.items()}
        found = {"number": int(unit["number"]), **sums, **shown, **together}
        return {name: [value] for name, value in found.items()}

    @torch.inference_mode()
    def score(
        self, x_0: Tensor, ids: Tensor, seeds: list[int]
    ) -> tuple[dict[str, Any], np.ndarray[Any, Any], dict[str, np.ndarray[Any, Any]]]:
        """Sums over a batch, a row of tiles ``[B, 7, H, W, 3]`` uint8 for each, and rows."""
        model, classes = self.model, len(self.model.palette)
        x_0 = x_0.to(self.device)
        started = clock(self.device)
        segmented = model.segment_latents(x_0, self.segment)
        segmented_at = clock(self.device)
        made = model.synthesize(ids, seeds, solver=self.synthesize)
        made_at = clock(self.device)
        again = model.segment(made.images, self.segment)
        there = model.flow(model.path.depart(x_0, 0.0), 0.0, 1.0, self.segment)
        twin = there.twin if self.segment == self.synthesize else None
        back = model.flow(there.x, 1.0, 0.0, self.synthesize, twin)
        images = model.autoencoder.decode(x_0).clamp(-1, 1)
        returned = model.autoencoder.decode(model.path.arrive(back.x, 0.0)).clamp(-1, 1)
        counts = confusions(segmented.ids, ids, classes)
        agreement = ConfusionMatrix(classes)
        agreement.update(again.ids.cpu(), ids)
        scores = {
            "confusion": counts.sum(0),
            "agreement": agreement.counts.numpy(),
            "images": len(ids),
            "segment_seconds": segmented_at - started,
            "synthesize_seconds": made_at - segmented_at,
            "segment_nfe": segmented.nfe * len(ids),
            "synthesize_nfe": made.nfe * len(ids),
            "margin": float(segmented.margin.mean((1, 2)).sum()),
            "return_mse": float((returned - images).square().mean((1, 2, 3)).sum()),
            **confidence.measure(segmented, ids, classes),
            **self.judge.compare(made.images, images),
        }
        seen: dict[str, np.ndarray[Any, Any]] = {
            "photos:review": confidence.photo_rows(segmented, counts),
            **self.judge.look(made.images, "made"),
        }
        if not self.cfg.metrics.real:
            seen |= self.judge.look(images, "real")
        palette = model.palette
        tiles = [
            np.stack(
                [pictures.to_uint8(images[i]), pictures.colours(ids[i], palette),
                 pictures.colours(segmented.ids[i].cpu(), palette),
                 pictures.grey(segmented.margin[i].cpu()), pictures.to_uint8(made.images[i]),
                 pictures.colours(again.ids[i].cpu(), palette), pictures.to_uint8(returned[i])]
            )
            for i in range(len(ids))
        ]  # fmt: skip
        return scores, np.stack(tiles), seen

    def diversity(self, ids: Tensor, name: str) -> tuple[dict[str, float], np.ndarray[Any, Any]]:
        """Images of one mask under several seeds: their distances, summed, and tiles.

        Tiles are ``[N + 1, H, W, 3]``, the mask first.
        """
        seeds = [sample_seed(self.cfg.seed, name, n) for n in range(self.cfg.samples)]
        made = self.model.synthesize(ids[None].expand(len(seeds), -1, -1), seeds,
                                     solver=self.synthesize)  # fmt: skip
        mask = pictures.colours(ids, self.model.palette)
        scores = self.judge.spread(made.images) if "diversity" in self.cfg.metrics.compute else {}
        return scores, np.stack([mask, *(pictures.to_uint8(image) for image in made.images)])


def accumulate(sums: dict[str, Any], more: dict[str, Any]) -> None:
    """Add to sums, key by key."""
    for name, value in more.items():
        sums[name] = sums.get(name, 0) + value
