"""Train a SemFlow on a latent dataset, with Ray Train and DeepSpeed.

    python pipelines/train.py camvid --data out/latents --output out/run

feeds the shards that encode.py made to any number of workers, validates as it goes and leaves
checkpoints, pictures of samples and, at the end, the finished model in OUTPUT/model. Stopped at
any moment, the same command goes on from the last checkpoint; with more --steps, a finished run
goes on too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ray.data
import ray.train
from ray.data import ExecutionOptions
from ray.train.torch import TorchConfig, TorchTrainer

from infra import storage, tracking
from pipelines import checkpoint, config, raydata
from pipelines.feed import Order, stream
from pipelines.latents import Manifest, read_manifest
from pipelines.loop import MODEL, train_loop
from pipelines.trainconfig import TrainConfig

RUN = "checkpoints"


@dataclass(frozen=True)
class Feed:
    """Makes the training stream each time that Ray Train starts workers: from where they resume."""

    cfg: TrainConfig

    def __call__(self) -> ray.data.Dataset:
        cfg, manifest = self.cfg, read_manifest(self.cfg.data)
        order = Order.of(manifest.split("train"), cfg.seed, cfg.shuffle_groups, cfg.batch_size)
        stop = cfg.steps * cfg.batch_size
        return stream(
            manifest, "train", order, start=min(last_position(cfg.output), stop), stop=stop,
            online=cfg.online_masks, micro=cfg.micro_batch(cfg.workers),
        )  # fmt: skip


def last_position(output: str) -> int:
    """Where in the stream the last whole checkpoint stands; 0 without one."""
    folder = storage.join(output, RUN)
    if not storage.exists(storage.join(folder, "checkpoint_manager_snapshot.json")):
        return 0
    last = ray.train.Result.from_path(folder).checkpoint
    if last is None:
        return 0
    fs, path = last.filesystem, last.path
    with fs.open_input_stream(f"{path}/{checkpoint.TRAINER}") as file:
        return int(checkpoint.parse_note(file.readall())["position"])


def check(cfg: TrainConfig, manifest: Manifest) -> None:
    """Refuse what would train the wrong thing, before any worker starts.

    Raises:
        ValueError: saying what and why.
    """
    if not manifest.split("train").rows:
        raise ValueError(f"{cfg.data} has no rows to train on")
    if cfg.objective.anchor_weight and manifest.recipe["autoencoder"]["stochastic"]:
        print("note: --objective.anchor-weight decodes the predicted mask at every step")


def train(cfg: TrainConfig) -> str:
    """Run the job; returns the URI of the finished model."""
    manifest = read_manifest(cfg.data)
    check(cfg, manifest)
    params = config.flatten(config.to_dict(cfg))
    with tracking.run("train", cfg.output, params) as run:
        run.dataset(cfg.data, manifest.fingerprint)
        trainer = TorchTrainer(
            train_loop,
            train_loop_config={
                "config": config.to_dict(cfg),
                "tracking": run.handle.__dict__ if run.handle else None,
            },
            torch_config=TorchConfig(backend="nccl" if cfg.ray.gpus_per_actor else "gloo"),
            scaling_config=ray.train.ScalingConfig(
                num_workers=cfg.workers,
                use_gpu=bool(cfg.ray.gpus_per_actor),
                resources_per_worker=resources(cfg),
            ),
            run_config=ray.train.RunConfig(
                name=RUN,
                storage_path=cfg.output,
                failure_config=ray.train.FailureConfig(max_failures=cfg.max_failures),
                checkpoint_config=ray.train.CheckpointConfig(num_to_keep=cfg.keep_checkpoints),
            ),
            datasets={"train": Feed(cfg)},
            dataset_config=ray.train.DataConfig(
                execution_options=ExecutionOptions(preserve_order=True),
                enable_shard_locality=False,
            ),
        )
        result = trainer.fit()
        if result.metrics:
            scores = {k: v for k, v in result.metrics.items() if k.startswith("val_")}
            run.metrics({f"final_{k}": v for k, v in scores.items()}, cfg.steps)
    return storage.join(cfg.output, MODEL)


def resources(cfg: TrainConfig) -> dict[str, Any]:
    """What a worker takes. On CPUs less than one each, so that reading the data has room."""
    if cfg.ray.gpus_per_actor:
        return {"CPU": 1, "GPU": cfg.ray.gpus_per_actor}
    return {"CPU": 0.5}


def main() -> None:
    from pipelines.presets import TRAIN

    cfg = config.parse(TrainConfig, __doc__, TRAIN)
    cfg = config.absolute_paths(cfg, "data", "output")
    raydata.init(cfg.ray.address)
    model = train(cfg)
    print(
        f"the model: {model}\nnext: python pipelines/label.py --model {model} --images DIR "
        "--output out/labels"
    )


if __name__ == "__main__":
    config.exit_on_error(main)
