"""One trial of a training search: a real training, whose reports go to Ray Tune."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from ray import tune
from ray.train import Checkpoint, UserCallback
from ray.util.queue import Empty, Queue

from infra import storage
from pipelines import config
from pipelines.dataset.latents import Rows, read_manifest
from pipelines.evaluation.judging import segmented
from pipelines.evaluation.scores import Scored, joined
from pipelines.inference.predictors import load_model
from pipelines.train import train
from pipelines.training.config import TrainConfig
from tune.training import space

WHOLE = "whole"
"""What Tune is told when a training came to its end."""
NOTE = "train.json"
"""What Tune keeps as a trial's checkpoint: where Ray Train's is."""


class Forward(UserCallback):
    """Gives what Ray Train's workers report to the trial, which is another process."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue

    def after_report(
        self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None
    ) -> None:
        self.queue.put((metrics[0], checkpoint.path if checkpoint else None))


def train_trial(values: dict[str, Any], common: dict[str, Any]) -> None:
    """What each trial runs: train with ``values`` in place of the configuration's.

    Interrupted, it goes on from its own last checkpoint; told to by population-based training,
    from another trial's.
    """
    base = config.from_dict(TrainConfig, common["train"])
    trial = tune.get_context().get_trial_id()
    output = trial_output(common["output"], str(trial), values)
    cfg = replace(space.changed(base, values), output=output)
    start = None
    if given := tune.get_checkpoint():
        with given.as_directory() as folder:
            note = json.loads(Path(folder, NOTE).read_text())
        start = note["checkpoint"] if note["output"] != output else None
    queue = Queue(actor_options={"num_cpus": 0})
    failed: list[BaseException] = []

    def work() -> None:
        try:
            train(cfg, callbacks=[Forward(queue)], parent=common["parent"], start=start)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    last: Any = None
    while thread.is_alive() or not queue.empty():
        try:
            metrics, checkpoint = queue.get(timeout=0.5)
        except Empty:
            continue
        # What Tune knows of a trial's values may be those that it is to go on with.
        metrics |= {"output": output, "values": values, WHOLE: metrics["step"] >= cfg.steps}
        last = metrics, {"output": output, "checkpoint": checkpoint}
        if not metrics[WHOLE]:
            report(*last)
    queue.shutdown()
    if failed:
        raise failed[0]
    if last and last[0][WHOLE]:  # only now: Tune ends a trial that says so, and its model is saved
        report(*last)


def report(metrics: dict[str, Any], note: dict[str, Any]) -> None:
    """To Tune, with where the checkpoint is."""
    context = tune.get_context()
    folder = Path(str(context.get_trial_dir()), f"note-{metrics['step']}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NOTE).write_text(json.dumps(note))
    tune.report(metrics, checkpoint=Checkpoint.from_directory(folder))


def trial_output(output: str, trial: str, values: dict[str, Any]) -> str:
    """Where a trial trains; another place once it is given other values."""
    return storage.join(output, "trials", f"{trial}-{config.fingerprint(values)[:8]}")


@torch.inference_mode()
def score_model(model: str, data: str, limit: int, batch_size: int = 32) -> Scored:
    """How well a finished model segments what training validates on, sample by sample."""
    net, manifest = load_model(model), read_manifest(data)
    rows = Rows(manifest, manifest.judged, limit)
    return joined(
        [
            segmented(net, rows.x_0[i : i + batch_size], rows.ids[i : i + batch_size], None)
            for i in range(0, len(rows), batch_size)
        ]
    )
