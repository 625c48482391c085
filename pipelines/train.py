"""Train a SemFlow on a latent dataset, with Ray Train and DeepSpeed.

    python pipelines/train.py camvid --data out/latents --output out/run

feeds the shards that encode.py made to any number of workers, validates as it goes and leaves
checkpoints, pictures of samples and, at the end, the finished model in OUTPUT/model. Stopped at
any moment, the same command goes on from the last checkpoint; with more --steps, a finished run
goes on too.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import ray.train
from ray.train import UserCallback
from ray.train.torch import TorchConfig, TorchTrainer

from infra import storage, tracking
from pipelines import config
from pipelines.config import UserError
from pipelines.dataset import findings
from pipelines.dataset.latents import Manifest, read_manifest
from pipelines.sharding import driver, raydata
from pipelines.training import checkpoint, watch
from pipelines.training.config import TrainConfig
from pipelines.training.feed import fed_order
from pipelines.training.initial import store_null_prompt
from pipelines.training.model import MODEL
from pipelines.training.validate import validate_checkpoint

RUN = "checkpoints"


def check(cfg: TrainConfig, manifest: Manifest) -> None:
    """Refuse what would train the wrong thing, before any worker starts.

    Raises:
        ValueError: saying what and why.
    """
    if not manifest.split("train").rows:
        raise ValueError(f"{cfg.data} has no rows to train on")
    findings.refuse_one_class(manifest, "train")
    for sentence in findings.said(manifest, ["train", manifest.judged]):
        print(f"warning: {sentence}", file=sys.stderr)
    if cfg.online_masks and "coupling" in manifest.recipe:
        raise ValueError(
            f"{cfg.data} holds couplings: each image belongs to the one mask that a flow connects "
            "it with, and a mask that is perturbed and encoded afresh would be another. Train with "
            "--no-online-masks"
        )
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
    filesystem, path = storage.arrow(folder)
    last = ray.train.Result.from_path(path, filesystem).checkpoint
    if last is None:
        return None
    with last.filesystem.open_input_stream(f"{last.path}/{checkpoint.TRAINER}") as file:
        data = file.readall()
    try:
        return checkpoint.parse_note(data)
    except ValueError:  # damaged: the workers say so, and take the one before it
        return None


def train(
    cfg: TrainConfig,
    *,
    callbacks: Sequence[UserCallback] = (),
    parent: str | None = None,
    start: str | None = None,
) -> str:
    """Run the job; returns the URI of the finished model.

    Args:
        cfg: what to train.
        callbacks: of Ray Train, told of every report.
        parent: id of an MLflow run to show this one below.
        start: another run's checkpoint to begin with, a path on the output's storage.

    Raises:
        ValueError: when it would train the wrong thing.
        UserError: when it diverged, was asked to stop, or failed too often.
    """
    manifest = read_manifest(cfg.data)
    check(cfg, manifest)
    store_null_prompt(cfg)
    driver.refuse_two(cfg.output)
    watch.clear(cfg.output)
    params = config.flatten(config.to_dict(cfg))
    with driver.at_work(cfg.output), tracking.run("train", cfg.output, params, parent) as run:
        run.dataset(cfg.data, manifest.fingerprint)
        handle = run.handle.__dict__ if run.handle else None
        try:
            with stop_on_request(cfg.output):
                result = trainer(cfg, handle, callbacks, start).fit()
        except ray.train.TrainingFailedError as error:
            raise UserError(failure(cfg, error)) from error
        explain(cfg)
        if result.metrics:
            scores = {k: v for k, v in result.metrics.items() if k.startswith("val_")}
            run.metrics({f"final_{k}": v for k, v in scores.items()}, cfg.steps)
    return storage.join(cfg.output, MODEL)


def trainer(
    cfg: TrainConfig,
    handle: dict[str, str] | None,
    callbacks: Sequence[UserCallback] = (),
    start: str | None = None,
) -> Any:
    """Ray Train's, for a run that MLflow knows by ``handle``."""
    filesystem, path = storage.arrow(cfg.output)
    workers = (cfg.min_workers, cfg.workers) if cfg.min_workers else cfg.workers
    beside = ray.train.ValidationConfig(
        fn=validate_checkpoint,
        task_config=ray.train.ValidationTaskConfig(
            fn_kwargs={"configuration": config.to_dict(cfg), "handle": handle}
        ),
        ray_remote_kwargs={"num_cpus": 0.5, "num_gpus": min(1, cfg.ray.gpus_per_actor)},
    )
    # Typed as the older Ray Train, which knows neither ranges of workers nor validation.
    return cast(Any, TorchTrainer)(
        work,
        train_loop_config={"config": config.to_dict(cfg), "tracking": handle, "start": start},
        torch_config=TorchConfig(backend="nccl" if cfg.ray.gpus_per_actor else "gloo"),
        scaling_config=cast(Any, ray.train.ScalingConfig)(
            num_workers=workers,
            elastic_resize_monitor_interval_s=cfg.resize_interval_s,
            use_gpu=bool(cfg.ray.gpus_per_actor),
            resources_per_worker=resources(cfg),
        ),
        run_config=ray.train.RunConfig(
            name=RUN,
            storage_path=path,
            storage_filesystem=filesystem,
            callbacks=cast(Any, list(callbacks)),
            failure_config=ray.train.FailureConfig(max_failures=cfg.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(
                num_to_keep=cfg.keep_checkpoints,
                checkpoint_score_attribute="val_miou" if cfg.keep_best else None,
            ),
        ),
        validation_config=beside if cfg.validate_beside else None,
    )


def work(given: dict[str, Any]) -> None:
    """A worker's part; DeepSpeed and diffusers are imported there, and not by the driver."""
    from pipelines.training.loop import train_loop

    train_loop(given)


@contextmanager
def stop_on_request(output: str) -> Iterator[None]:
    """SIGTERM, as ``ray job stop`` sends it, lets the workers store a checkpoint and end."""

    def request(*_: object) -> None:
        print("stopping at the next log line, with a checkpoint", file=sys.stderr, flush=True)
        storage.write_bytes(storage.join(output, watch.STOP), b"")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, request)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def explain(cfg: TrainConfig) -> None:
    """Say why a training ended before its last step, if it did.

    Raises:
        UserError: in that case.
    """
    stored = last_step(cfg.output)
    if found := watch.diverged(cfg.output):
        rows = ", ".join(found["rows"][:3])
        raise UserError(
            f"the loss or the weights became NaN or infinite at step {found['step']}, whose "
            f"{len(found['rows'])} rows are named in {storage.join(cfg.output, watch.DIVERGED)} "
            f"({rows}, ...). The last good checkpoint: {stored}. Look at those rows with "
            "encode.py preview, or go on with a lower --lr or --clip"
        )
    if storage.exists(storage.join(cfg.output, watch.STOP)):
        raise UserError(f"stopped on request; checkpoint: {stored}. The same command goes on")


def failure(cfg: TrainConfig, error: Exception) -> str:
    """What ended a training for good, in a few lines instead of every worker's traceback."""
    causes = getattr(error, "worker_failures", {}).values() or [error]
    cause = "; ".join(sorted({in_a_line(cause) for cause in causes}))
    return (
        f"training failed, more than --max-failures {cfg.max_failures} times: {cause}. The last "
        f"good checkpoint: {last_step(cfg.output)}; when the cause is mended, the same command "
        "goes on from it. Tracebacks are in the workers' logs, below /tmp/ray/session_latest/logs, "
        "and with --verbose in the lines above"
    )


def in_a_line(error: Exception) -> str:
    """An error's kind and message; of a long one, the end, where tracebacks say what happened."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text if len(text) < 500 else '...' + text[-500:]}"


def last_step(output: str) -> str:
    """The last whole checkpoint's, in words."""
    note = last_note(output)
    return f"step {note['step']}" if note else "none"


def resources(cfg: TrainConfig) -> dict[str, float]:
    """What a worker takes."""
    if gpus := cfg.ray.gpus_per_actor:
        return {"CPU": cfg.cpus_per_worker or 1, "GPU": gpus}
    return {"CPU": cfg.cpus_per_worker or 0.5}


def main() -> None:
    from pipelines.presets import TRAIN

    cfg = config.parse(TrainConfig, __doc__, TRAIN)
    own = ["init"] if cfg.init and Path(cfg.init).is_dir() else []  # else a hub id or a URI
    cfg = config.absolute_paths(cfg, "data", "output", *own)
    raydata.init(
        cfg.ray.address, training=True, gpus=cfg.ray.gpus_per_actor,
        number=cfg.min_workers or cfg.workers,
    )  # fmt: skip
    model = train(cfg)
    print(
        f"the model: {model}\nnext: python pipelines/label.py --model {model} --images DIR "
        "--output out/labels"
    )


if __name__ == "__main__":
    config.exit_on_error(main)
