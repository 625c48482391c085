"""What people have, made by an earlier commit: its code runs, this file only calls it.

    git worktree add /tmp/earlier 0bb378b
    cp tests/earlier/make.py /tmp/earlier/make_earlier.py
    cd /tmp/earlier && PYTHONPATH=. python make_earlier.py 0bb378b.tar.xz

writes a corpus's latents, a model, a training that was stopped on its way to 60 steps, the model of
that training undisturbed, one as MLflow logged it, and what these said then. test_earlier.py loads
them all. Imports are those of 0bb378b.
"""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch


def network() -> Any:
    """A UNet of 10,000 parameters: a folder of it is small enough to keep."""
    from diffusers import UNet2DModel
    from semflow.velocity import Velocity

    torch.manual_seed(0)
    return Velocity(
        UNet2DModel(
            in_channels=48, out_channels=48, block_out_channels=(4, 8), norm_num_groups=2,
            layers_per_block=1, down_block_types=("DownBlock2D",) * 2,
            up_block_types=("UpBlock2D",) * 2,
        )
    )  # fmt: skip


def make(home: Path) -> None:
    import mlflow
    import ray
    from pipelines.encodeconfig import EncodeConfig
    from pipelines.trainconfig import TrainConfig
    from ray.train import UserCallback

    from infra import storage
    from pipelines import pyfunc, watch
    from pipelines.config import UserError
    from pipelines.corpora import Corpus
    from pipelines.encode import encode
    from pipelines.train import train
    from semflow import Perturbation, SemFlow, Solver, load_autoencoder, make_palette
    from semflow.sampler import Defaults
    from tests.pictures import CLASSES, write_good

    corpus = home / "corpus"
    write_good(corpus, "train", 6)
    write_good(corpus, "val", 3, start=100)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    encode(
        EncodeConfig(
            corpus=Corpus(root=str(corpus), classes=CLASSES, ignore_ids=(255,)),
            output=str(home / "latents"), height=32, width=48, palette="sphere", draws=2, views=2,
            shard_rows=8, row_group_rows=4, batch_size=4, actors=1,
            perturbation=Perturbation(amplitude=0.1, exponent=2.0),
        )
    )  # fmt: skip
    defaults = Defaults(height=32, width=48, segment=Solver(steps=1), synthesize=Solver(steps=2))
    fresh = SemFlow(network(), load_autoencoder("space-to-depth"),
                    make_palette("sphere", CLASSES), defaults)  # fmt: skip
    fresh.save(home / "fresh")
    options: dict[str, Any] = {
        "data": str(home / "latents"), "init": str(home / "fresh"), "steps": 60, "batch_size": 8,
        "lr": 1e-3, "threads": 1, "log_every": 1, "validate_every": 60, "checkpoint_every": 4,
        "keep_checkpoints": 1, "validate_rows": 3,
        "shuffle_groups": 2, "register_as": None, "window": 3,
        "segment": Solver(steps=1), "synthesize": Solver(steps=1),
    }  # fmt: skip

    class StopSoon(UserCallback):
        def after_report(self, run_context: Any, metrics: Any, checkpoint: Any) -> None:
            if checkpoint:
                storage.write_bytes(str(home / "stopped" / watch.STOP), b"")

    try:
        train(TrainConfig(**options | {"output": str(home / "stopped")}), callbacks=[StopSoon()])
    except UserError as stopped:
        print(stopped)
    shutil.move(train(TrainConfig(**options | {"output": str(home / "straight")})), home / "model")
    shutil.rmtree(home / "straight")
    shutil.rmtree(home / "stopped/samples", ignore_errors=True)
    model = SemFlow.load(home / "model")
    mlflow.pyfunc.save_model(home / "logged", artifacts={"semflow": str(home / "model")},
                             **pyfunc.logged())  # fmt: skip
    photos = np.random.default_rng(0).integers(0, 256, (3, 32, 48, 3), dtype=np.uint8)
    pixels = torch.from_numpy(photos).movedim(-1, 1).float() / 127.5 - 1
    ids = model.segment(pixels).ids
    images = model.synthesize(ids, seeds=range(3)).images
    np.savez_compressed(home / "said.npz", photos=photos, ids=ids.byte(), images=images.numpy())


def main() -> None:
    target = Path(sys.argv[1]).absolute()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        make(Path(folder))
        for waste in Path(folder).rglob("__pycache__"):
            shutil.rmtree(waste)
        with tarfile.open(target, "w:xz") as archive:
            for name in ("latents", "fresh", "model", "stopped", "logged", "said.npz"):
                archive.add(name)


if __name__ == "__main__":
    main()
