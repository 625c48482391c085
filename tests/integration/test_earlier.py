"""What people have goes on working: things that commit 0bb378b made (tests/earlier/make.py)."""

import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from pipelines.config import from_dict
from pipelines.dataset.latents import Rows, read_manifest
from pipelines.dataset.verify import VerifyConfig, verify
from pipelines.train import last_note, train
from pipelines.training.config import TrainConfig
from semflow import SemFlow, SemFlowPipeline

ARCHIVE = Path(__file__).parents[1] / "earlier/0bb378b.tar.xz"


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def said(earlier):
    with np.load(earlier / "said.npz") as file:
        return dict(file)


def test_a_model_folder_says_what_it_said(earlier, said):
    model = SemFlow.load(earlier / "model")
    assert model.defaults.window == 3
    pixels = torch.from_numpy(said["photos"]).movedim(-1, 1).float() / 127.5 - 1
    ids = model.segment(pixels).ids
    assert np.array_equal(ids.byte().numpy(), said["ids"])
    images = model.synthesize(ids, seeds=range(3)).images
    assert np.abs(images.numpy() - said["images"]).max() < 1e-4
    pipe = SemFlowPipeline.from_pretrained(earlier / "model")
    pipe.set_progress_bar_config(disable=True)
    masks = pipe.segment([Image.fromarray(photo) for photo in said["photos"]], output_type="np")
    assert np.array_equal(np.stack(masks.masks), said["ids"])


def test_a_model_that_mlflow_logged_predicts_what_it_predicted(earlier, said, monkeypatch):
    monkeypatch.setattr("sys.path", [*sys.path])  # MLflow puts the code that it kept in front
    model = mlflow.pyfunc.load_model(str(earlier / "logged"))
    assert np.array_equal(model.predict(said["photos"]), said["ids"])


def test_latents_are_whole_and_are_read(earlier, ray_session):
    manifest = read_manifest(str(earlier / "latents"))
    assert len(Rows(manifest, "train", 100).ids) == 12
    assert verify(VerifyConfig(data=str(earlier / "latents"))) == {}


def test_a_half_done_training_goes_on_to_the_model_that_it_would_have_made(earlier, ray_session):
    assert last_note(str(earlier / "stopped"))["step"] == 16
    before = SemFlow.load(earlier / "model").provenance["config"]
    cfg = from_dict(TrainConfig, before)
    places = {key: str(earlier / name) for key, name in
              (("data", "latents"), ("init", "fresh"), ("output", "stopped"))}  # fmt: skip
    train(replace(cfg, **places))
    name = "unet/diffusion_pytorch_model.safetensors"
    one, other = load_file(earlier / "model" / name), load_file(earlier / "stopped/model" / name)
    assert max(float((one[key] - other[key]).abs().max()) for key in one) < 1e-4
