"""Train: resumed = uninterrupted, whatever the precision and the ZeRO stage."""

import json

import pytest
import torch
from safetensors.torch import load_file

from pipelines.train import train
from pipelines.trainconfig import TrainConfig
from semflow import Objective, RectifiedFlow, SemFlow, Solver


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


def test_2n_steps_are_n_steps_stopped_resumed_n_steps_bit_for_bit(latents, straight, tmp_path):
    train(train_config(latents, tmp_path, steps=4))
    first = weights(tmp_path)
    train(train_config(latents, tmp_path))
    assert difference(first, weights(tmp_path)) > 0
    assert difference(weights(straight), weights(tmp_path)) == 0


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


@pytest.mark.parametrize(
    "options",
    [
        {"zero_stage": 3, "precision": "bf16", "warmup_steps": 2},
        {"zero_stage": 1, "online_masks": True, "flow": RectifiedFlow(at_image=0.5),
         "objective": Objective(anchor_weight=0.5, class_balance=0.5)},
    ],
    ids=["zero-3 bf16", "zero-1 online anchors"],
)  # fmt: skip
def test_zero_stages_and_precisions_resume_too(latents, tmp_path, options):
    train(train_config(latents, tmp_path / "straight", **options))
    train(train_config(latents, tmp_path / "resumed", **options | {"steps": 4}))
    train(train_config(latents, tmp_path / "resumed", **options))
    assert difference(weights(tmp_path / "straight"), weights(tmp_path / "resumed")) == 0


def test_mlflow_has_one_run_with_everything(straight, ray_session):
    from mlflow import MlflowClient

    record = json.loads((straight / "_progress/mlflow.json").read_text())
    client = MlflowClient(record["uri"])
    run = client.get_run(record["run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.params["velocity"] == "tiny"
    assert run.data.params["segment.steps"] == "1"
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "loss")]
    assert steps == list(range(1, 9))
    logged = {"lr", "grad_norm", "images_per_s", "data_wait_share", "val_miou"}
    assert logged <= run.data.metrics.keys()
    assert run.inputs.dataset_inputs
    paths = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"model", "samples"} <= paths


def test_a_run_does_not_go_on_with_its_rows_in_another_order(latents, straight):
    with pytest.raises(ValueError, match=r"at step 8: seed, batch_size\. Going on would repeat"):
        train(train_config(latents, straight, steps=12, batch_size=4, seed=1))


def test_data_that_is_not_there_is_said_at_once(tmp_path):
    with pytest.raises(ValueError, match=r"no manifest\.json"):
        train(train_config(tmp_path, tmp_path / "out"))
