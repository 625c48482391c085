"""Train: resumed = uninterrupted, whatever the precision and the ZeRO stage."""

import json
import os
import shutil
import signal
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file

from pipelines.config import UserError
from pipelines.dataset.latents import Rows, read_manifest
from pipelines.evaluate import evaluate
from pipelines.evaluation.config import EvaluateConfig
from pipelines.train import last_note, train
from pipelines.training.config import TrainConfig
from pipelines.training.feed import Feed, Order
from semflow import Objective, RectifiedFlow, SemFlow, Solver
from tests.runs import logged


def train_config(latents, output, **options) -> TrainConfig:
    defaults = {
        "data": str(latents), "output": str(output), "velocity": "tiny", "steps": 8,
        "batch_size": 8, "lr": 1e-3, "workers": 2, "threads": 1, "log_every": 1,
        "validate_every": 4, "checkpoint_every": 4, "validate_rows": 6, "shuffle_groups": 3,
        "max_failures": 2, "segment": Solver(steps=1), "synthesize": Solver(steps=1),
    }  # fmt: skip
    return TrainConfig(**defaults | options)


def weights(output):
    return load_file(output / "model/unet/diffusion_pytorch_model.safetensors")


def difference(one, other) -> float:
    return max(float((one[key] - other[key]).abs().max()) for key in one)


@pytest.fixture(scope="module")
def straight(latents, tmp_path_factory):
    output = tmp_path_factory.mktemp("straight")
    train(train_config(latents, output))
    return output


def test_2n_steps_are_n_resumed_n_bit_for_bit_also_past_a_damaged_checkpoint(
    latents, straight, tmp_path
):
    """The checkpoint of step 8 is damaged: the one of step 4 is taken, and 8 is made again."""
    shutil.copytree(straight, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/model")
    (tmp_path / "run/_progress/mlflow.json").unlink()  # a run of its own in MLflow
    damaged = tmp_path / "run/checkpoints/checkpoint_00000008"
    data = bytearray((damaged / "state_00001.safetensors").read_bytes())
    data[-100] ^= 4
    (damaged / "state_00001.safetensors").write_bytes(data)
    train(train_config(latents, tmp_path / "run"))
    assert difference(weights(straight), weights(tmp_path / "run")) == 0
    again = tmp_path / "run/checkpoints/checkpoint_00000008-after-00000008"
    assert again.is_dir()
    note = again / "trainer.json"
    note.write_bytes(note.read_bytes()[:40])
    assert last_note(str(tmp_path / "run")) is None  # the driver leaves it to the workers


def test_the_finished_model_needs_nothing_else_and_knows_where_it_comes_from(straight, latents):
    model = SemFlow.load(straight / "model")
    ids = model.segment(torch.zeros(1, 3, 32, 48)).ids
    assert ids.shape == (1, 32, 48)
    manifest = json.loads((latents / "manifest.json").read_text())
    assert model.provenance["dataset"] == manifest["fingerprint"]
    assert model.provenance["step"] == 8
    assert (straight / "samples/00000008.png").stat().st_size > 1000


def test_one_worker_sees_the_same_global_batches_as_two(latents, straight, tmp_path):
    train(train_config(latents, tmp_path, workers=1, micro_batch_size=4))
    # Sums in another order: alike to rounding, where other data would differ a thousandfold.
    assert difference(weights(straight), weights(tmp_path)) < 1e-4


def test_zero_3_in_bf16_with_masks_encoded_online_resumes_too(latents, tmp_path):
    options = {
        "zero_stage": 3, "precision": "bf16", "warmup_steps": 2, "online_masks": True,
        "path": RectifiedFlow(at_image=0.5),
        "objective": Objective(anchor_weight=0.5, class_balance=0.5),
    }  # fmt: skip
    train(train_config(latents, tmp_path / "straight", **options))
    train(train_config(latents, tmp_path / "resumed", **options | {"steps": 4}))
    train(train_config(latents, tmp_path / "resumed", **options))
    assert difference(weights(tmp_path / "straight"), weights(tmp_path / "resumed")) == 0


def test_any_number_of_workers_and_any_stage_goes_on(latents, straight, tmp_path):
    """2 -> 1 -> 3 -> 2 workers, through all stages; 3 do not divide the batch."""
    for steps, workers, stage, offload in (
        (2, 2, 1, "optimizer"), (4, 1, 0, "none"), (6, 3, 3, "weights"), (8, 2, 2, "none"),
    ):  # fmt: skip
        train(train_config(latents, tmp_path, steps=steps, workers=workers, zero_stage=stage,
                           offload=offload, micro_batch_size=2, checkpoint_every=2))  # fmt: skip
    # Sums in another order, which Adam's first steps magnify; other rows differ by far more.
    assert logged(tmp_path, "loss") == pytest.approx(logged(straight, "loss"), rel=1e-4)
    assert difference(weights(straight), weights(tmp_path)) < 1e-3


def test_activations_computed_again_change_nothing_and_validation_beside_is_validation(
    latents, straight, tmp_path
):
    train(train_config(latents, tmp_path, activation_checkpointing=True, validate_beside=True,
                       keep_best=True, keep_checkpoints=1))  # fmt: skip
    assert difference(weights(straight), weights(tmp_path)) == 0
    assert logged(straight, "val_miou") == pytest.approx(logged(tmp_path, "val_miou"), abs=1e-6)
    assert len(logged(tmp_path, "val_miou")) == 2
    kept = [path.name for path in (tmp_path / "checkpoints").glob("checkpoint_0*")]
    scores = logged(tmp_path, "val_miou")
    best = max(scores, key=lambda step: scores[step])
    assert set(kept) == {f"checkpoint_{step:08d}" for step in (best, 8)}  # the best, and the last
    for name in ("00000004.png", "00000008.png", "00000008-paths.png"):
        assert (tmp_path / "samples" / name).stat().st_size > 1000


def test_symmflow_trains_from_the_same_shards_and_goes_through_the_same_jobs(latents, tmp_path):
    options = {"flow": "symmflow", "workers": 1}
    train(train_config(latents, tmp_path / "run", steps=4, **options))
    model = SemFlow.load(train(train_config(latents, tmp_path / "run", **options)))
    assert model.path.name == "symmflow"
    assert model.velocity.config["in_channels"] == 2 * model.autoencoder.channels
    (image, _), (_, mask) = model.velocity.preconditioning.at_0, model.velocity.preconditioning.at_1
    rows = Rows(read_manifest(str(latents)), "train", 64)
    assert image == pytest.approx(float(rows.x_0.std()), abs=1e-3)
    assert mask == pytest.approx(float(model.encode_masks(rows.ids).std()), abs=1e-3)
    result = evaluate(
        EvaluateConfig(model=str(tmp_path / "run/model"), data=str(latents),
                       output=str(tmp_path / "report"), limit=4)
    )  # fmt: skip
    assert 0 <= result["segmentation"]["accuracy"] <= 1


def test_a_divergence_stops_with_the_last_good_checkpoint_and_names_the_rows(latents, tmp_path):
    cold = train_config(latents, tmp_path, steps=4)
    train(cold)
    with pytest.raises(UserError, match="at step 6, whose 8 rows are named") as told:
        train(train_config(latents, tmp_path, lr=1e30, log_every=3))
    note = json.loads((tmp_path / "_progress/diverged.json").read_text())
    manifest = read_manifest(str(latents))
    order = Order.of(manifest.split("train"), 0, 3, 8)
    assert note["rows"] == Feed(manifest, "train", order, range(8), online=False).names(5)
    assert len(set(note["rows"])) == 8
    assert "checkpoint: step 4" in str(told.value)
    train(train_config(latents, tmp_path))
    assert SemFlow.load(tmp_path / "model").provenance["step"] == 8


def test_a_signal_leaves_a_checkpoint_and_the_same_command_goes_on(latents, tmp_path):
    config = train_config(latents, tmp_path, steps=5000, checkpoint_every=5000, workers=1)

    def stop():
        while not (tmp_path / "samples/00000004.png").exists():
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(UserError, match=r"stopped on request; checkpoint: step \d+\."):
        train(config)
    thread.join()
    step = last_note(str(tmp_path))["step"]
    assert 4 <= step < 5000
    train(replace(config, steps=step + 2))
    assert SemFlow.load(tmp_path / "model").provenance["step"] == step + 2


def test_mlflow_has_one_run_with_everything(straight, ray_session):
    record = json.loads((straight / "_progress/mlflow.json").read_text())
    client = MlflowClient(record["uri"])
    run = client.get_run(record["run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.params["velocity"] == "tiny"
    assert run.data.params["segment.steps"] == "1"
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "loss")]
    assert steps == list(range(1, 9))
    known = {"lr", "grad_norm", "images_per_s", "data_wait_share", "val_miou",
             "peak_memory_gib"}  # fmt: skip
    assert known <= run.data.metrics.keys()
    assert run.inputs.dataset_inputs
    assert any(name.startswith("system/node_0/cpu") for name in run.data.metrics)
    assert "samples" in {file.path for file in client.list_artifacts(run.info.run_id)}


def test_the_registered_model_predicts_what_ours_does(straight):
    import mlflow

    record = json.loads((straight / "_progress/mlflow.json").read_text())
    mlflow.set_tracking_uri(record["uri"])
    versions = MlflowClient(record["uri"]).search_model_versions("name = 'semflow'")
    (version,) = [v for v in versions if v.run_id == record["run_id"]]
    model = mlflow.pyfunc.load_model(f"models:/semflow/{version.version}")
    photos = np.random.default_rng(0).integers(0, 256, (3, 32, 48, 3), dtype=np.uint8)
    ours = SemFlow.load(straight / "model")
    ids = ours.segment(torch.from_numpy(photos).movedim(-1, 1).float() / 127.5 - 1).ids
    assert np.array_equal(model.predict(photos), ids.byte().numpy())
    assert model.predict(np.repeat(photos, 2, 1)).shape == (3, 64, 48)


def test_a_run_does_not_go_on_with_its_rows_in_another_order(latents, straight):
    with pytest.raises(ValueError, match=r"at step 8: seed, batch_size\. Going on would repeat"):
        train(train_config(latents, straight, steps=12, batch_size=4, seed=1))


def test_what_fails_again_and_again_is_said_with_its_cause(latents, tmp_path):
    config = train_config(latents, tmp_path, velocity="no-such", workers=1, max_failures=0)
    with pytest.raises(UserError, match=r"--max-failures 0 times: .*'no-such'.*checkpoint: none"):
        train(config)


def test_data_that_is_not_there_is_said_at_once(tmp_path):
    with pytest.raises(ValueError, match=r"no manifest\.json"):
        train(train_config(tmp_path, tmp_path / "out"))
