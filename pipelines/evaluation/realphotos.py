"""Features of real photos in a folder, to compare synthesized images with."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import ray.data
import torch

from infra import storage
from pipelines import corpora
from pipelines.corpora import parts, pixels
from pipelines.corpora.pair import left_over
from pipelines.corpora.readers.pictures import pictures_below
from pipelines.evaluation.imagemetrics import Judge, Networks
from pipelines.evaluation.metricoptions import MetricOptions
from pipelines.inference.predictors import ModelOptions, to_tensor
from pipelines.sharding import raydata, runner


class PhotoFeatures:
    """An actor: ``{number, sources}`` to features of the photos, and what cannot be read."""

    def __init__(
        self, networks: Networks, options: MetricOptions, height: int, width: int, batch: int
    ) -> None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.judge = Judge(networks, options, device)
        self.height, self.width, self.batch = height, width, batch

    def __call__(self, block: dict[str, Any]) -> dict[str, list[Any]]:
        photos, bad = [], []
        for source in block["sources"][0]:
            try:
                photo = pixels.read_photo(parts.read(str(source)))
                photos.append(pixels.resize_photo(photo, self.width, self.height))
            except pixels.BadInput as reason:
                bad.append(f"{source}: {reason}")
        found: dict[str, list[Any]] = {}
        for start in range(0, len(photos), self.batch):
            images = to_tensor(np.stack(photos[start : start + self.batch]))
            for key, value in self.judge.look(images.to(self.judge.device), "real").items():
                found.setdefault(key, []).append(value)
        row = {key: [np.concatenate(values)] for key, values in found.items()}
        return row | {"number": [int(block["number"][0])], "bad": ["\n".join(bad)]}


def photo_features(
    folder: str,
    networks: Networks,
    options: MetricOptions,
    *,
    height: int,
    width: int,
    actors: ModelOptions,
    gpus: float,
) -> Iterator[dict[str, Any]]:
    """Rows ``{number, NETWORK:real [n, F]}`` of all photos below a folder, resized as encode does.

    What cannot be read is said on stderr and left out.

    Raises:
        ValueError: when there is no photo.
    """
    found, left = pictures_below(folder, corpora.PHOTOS)
    paths = list(found)
    if left:
        print(f"not taken are {'; '.join(map(str, left_over(left)))}", file=sys.stderr)
    if not paths:
        raise ValueError(f"no photos in {folder} ({', '.join(corpora.PHOTOS)})")
    sources = [storage.join(folder, path) for path in paths]
    units = [
        {"number": number, "sources": sources[start : start + actors.batch_size]}
        for number, start in enumerate(range(0, len(sources), actors.batch_size))
    ]
    options_of_actors = raydata.staffed(actors, gpus)
    arguments = (networks, options, height, width, actors.batch_size)
    dataset = raydata.actor_stage(
        ray.data.from_items(units, override_num_blocks=len(units)),
        raydata.Actors.of(options_of_actors, gpus, PhotoFeatures, *arguments),
    )
    for row in runner.progress(dataset.iter_rows(), "real photos", len(units)):
        if bad := row.pop("bad"):
            print(f"left out: {bad}", file=sys.stderr)
        yield row
