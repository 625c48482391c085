"""Latents of a lossy autoencoder, encoded once for all its arms."""

from __future__ import annotations

from functools import lru_cache

from safetensors.torch import load_file, save_file

from tests.benchmarks.augmentation.data import Data, Pick
from tests.benchmarks.augmentation.draws import UNSEEN, stored_seed
from tests.benchmarks.augmentation.exam import Examiner
from tests.benchmarks.augmentation.study import Arm, Study


def fill_pool(study: Study, arms: list[Arm]) -> None:
    """Encode once what every lossy arm looks up."""
    data = Data(study, arms[0].autoencoder)
    most = max(arm.draws for arm in arms)
    numbers = [*range(most), UNSEEN, UNSEEN + 1]
    for image in range(len(data.pairs["train"])):
        views = data.views("train", image, arms[0].views)
        data.latents([
            Pick("train", image, view, stored_seed(image, number, draw))
            for number, view in enumerate(views) for draw in numbers
        ])  # fmt: skip
    Examiner(data, arms[0])
    rows = {key: latent.contiguous() for key, latent in data.memo.items()}  # from channels last
    save_file(rows, study.pool)


@lru_cache(2)
def opened(study: Study, autoencoder: str) -> Data:
    """Data of a worker process, with the latents that are already encoded."""
    data = Data(study, autoencoder)
    if not data.autoencoder.lossless and study.pool.is_file():
        data.memo = load_file(study.pool)
    return data
