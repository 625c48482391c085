"""Train a SemFlow on a latent dataset, with Ray Train and DeepSpeed.

    python pipelines/train.py camvid --data out/latents --output out/run

feeds the shards that encode.py made to any number of workers, validates as it goes and leaves
checkpoints, pictures of samples and, at the end, the finished model in OUTPUT/model. Stopped at
any moment, the same command goes on from the last checkpoint; with more --steps, a finished run
goes on too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import ray.train
from ray.train.torch import TorchConfig, TorchTrainer

from infra import storage, tracking
from pipelines import checkpoint, config, raydata
from pipelines.engine import store_null_prompt
from pipelines.latents import Manifest, read_manifest
from pipelines.loop import MODEL, fed_order, train_loop
from pipelines.trainconfig import TrainConfig

RUN = "checkpoints"


def check(cfg: TrainConfig, manifest: Manifest) -> None:
    """Refuse what would train the wrong thing, before any worker starts.

    Raises:
        ValueError: saying what and why.
    """
    if not manifest.split("train").rows:
        raise ValueError(f"{cfg.data} has no rows to train on")
    if cfg.objective.anchor_weight and manifest.recipe["autoencoder"]["stochastic"]:
        print("note: --objective.anchor-weight decodes the predicted mask at every step")
    if note := last_note(cfg.output):
        order = fed_order(cfg, manifest)
        changed = [key for key in order if note.get("order", {}).get(key) != order[key]]
        if changed:
            raise ValueError(
                f"{cfg.output} holds a run whose rows came in another order; changed since its "
                f"checkpoint at step {note['step']}: {', '.join(changed)}. Going on would repeat "
                "some rows of an epoch and leave out others. Give it what it had, or begin "
                f"another run at another --output, with --init {cfg.output}/{MODEL} if this one "
                "has finished"
            )


def last_note(output: str) -> dict[str, Any] | None:
    """What the last whole checkpoint says of itself."""
    folder = storage.join(output, RUN)
    if not storage.exists(storage.join(folder, "checkpoint_manager_snapshot.json")):
        return None
    last = ray.train.Result.from_path(folder).checkpoint
    if last is None:
        return None
    with last.filesystem.open_input_stream(f"{last.path}/{checkpoint.TRAINER}") as file:
        return checkpoint.parse_note(file.readall())


def train(cfg: TrainConfig) -> str:
    """Run the job; returns the URI of the finished model."""
    manifest = read_manifest(cfg.data)
    check(cfg, manifest)
    store_null_prompt(cfg)
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
                # Its type is that of the older Ray Train, which knows no range.
                num_workers=cast(Any, (cfg.min_workers, cfg.workers))
                if cfg.min_workers
                else cfg.workers,
                use_gpu=bool(cfg.ray.gpus_per_actor),
                resources_per_worker=resources(cfg),
            ),
            run_config=ray.train.RunConfig(
                name=RUN,
                storage_path=cfg.output,
                failure_config=ray.train.FailureConfig(max_failures=cfg.max_failures),
                checkpoint_config=ray.train.CheckpointConfig(num_to_keep=cfg.keep_checkpoints),
            ),
        )
        result = trainer.fit()
        if result.metrics:
            scores = {k: v for k, v in result.metrics.items() if k.startswith("val_")}
            run.metrics({f"final_{k}": v for k, v in scores.items()}, cfg.steps)
    return storage.join(cfg.output, MODEL)


def resources(cfg: TrainConfig) -> dict[str, Any]:
    """What a worker takes. On CPUs less than one each: there may be more workers than cores."""
    if cfg.ray.gpus_per_actor:
        return {"CPU": 1, "GPU": cfg.ray.gpus_per_actor}
    return {"CPU": 0.5}


def main() -> None:
    from pipelines.presets import TRAIN

    cfg = config.parse(TrainConfig, __doc__, TRAIN)
    own = ["init"] if cfg.init and Path(cfg.init).is_dir() else []  # else a hub id or a URI
    cfg = config.absolute_paths(cfg, "data", "output", *own)
    raydata.init(cfg.ray.address, training=True)
    model = train(cfg)
    print(
        f"the model: {model}\nnext: python pipelines/label.py --model {model} --images DIR "
        "--output out/labels"
    )


if __name__ == "__main__":
    config.exit_on_error(main)
