"""A mask codec of its own from the corpus to the products: the same one at every stage."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from infra import storage, tracking
from pipelines.config import from_dict
from pipelines.dataset import maskcodec
from pipelines.dataset.latents import read_manifest
from pipelines.dataset.verify import VerifyConfig, verify
from pipelines.encode import encode
from pipelines.evaluate import evaluate
from pipelines.evaluation.config import EvaluateConfig
from pipelines.inference.predictors import ModelOptions, to_tensor
from pipelines.label import label
from pipelines.labelling.config import LabelConfig
from pipelines.labelling.tiled import TileOptions
from pipelines.straightening.config import CouplingOptions
from pipelines.straightening.couplings import make_couplings
from pipelines.synthesis.config import SynthesizeConfig
from pipelines.synthesize import synthesize
from pipelines.train import train
from pipelines.training import watch
from pipelines.training.config import TrainConfig
from pipelines.training.refine import STATE, refined
from semflow import Objective, Perturbation, SemFlow, Solver
from semflow.sampler import MASK_CODEC
from tests.integration.conftest import encode_config
from tests.pictures import write_good

WILD = Perturbation(amplitude=2.0, exponent=1.0)
"""Wider than the colour cube: with anchors it would be refused."""


@pytest.fixture(scope="module")
def growing(tmp_path_factory):
    root = tmp_path_factory.mktemp("growing")
    write_good(root, "train", 10)
    write_good(root, "val", 4, start=100)
    return root


@pytest.fixture(scope="module")
def coded(ray_session, growing, tmp_path_factory):
    output = tmp_path_factory.mktemp("coded") / "data"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maskcodec, "STEPS", 20)
        cfg = encode_config(growing, output, mask_codec="learned", perturbation=WILD)
        return cfg, encode(cfg)


@pytest.fixture(scope="module")
def trained(coded, tmp_path_factory):
    output = tmp_path_factory.mktemp("trained")
    train(TrainConfig(
        data=coded[0].output, output=str(output), velocity="tiny", steps=3, batch_size=4, workers=2,
        threads=1, log_every=1, validate_rows=4, shuffle_groups=2, online_masks=True, window=3,
        objective=Objective(anchor_weight=1.0, class_balance=0.5), segment=Solver(steps=1),
        synthesize=Solver(steps=1), register_as=None, refine_steps=4,
    ))  # fmt: skip
    return output / "model"


@pytest.fixture
def one_thread():
    """As many as the training's workers had: more add up in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def files(folder: str | Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_it_is_in_the_dataset_which_is_whole_and_nearly_without_loss(coded):
    cfg, manifest = coded
    assert manifest.recipe["mask_codec"] == maskcodec.of(manifest).identity()
    assert manifest.codec_ceiling["miou"] > 0.98
    assert verify(VerifyConfig(data=cfg.output)) == {}


def test_what_goes_on_takes_the_codec_that_is_there_whatever_was_added(coded, growing, capsys):
    cfg, manifest = coded
    before = files(f"{cfg.output}/{MASK_CODEC}")
    encode(cfg)
    assert "already encoded" in capsys.readouterr().out
    write_good(growing, "train", 2, start=50)
    more = encode(cfg)
    assert more.splits["train"].rows == manifest.splits["train"].rows + 4
    assert files(f"{cfg.output}/{MASK_CODEC}") == before
    with pytest.raises(ValueError, match="another configuration"):
        encode(replace(cfg, mask_codec="anchors", perturbation=Perturbation()))


def test_a_model_labels_synthesizes_and_is_judged_with_it(coded, trained, growing, tmp_path):
    cfg, _ = coded
    assert files(trained / MASK_CODEC) == files(f"{cfg.output}/{MASK_CODEC}")
    model = SemFlow.load(trained)
    assert model.defaults.perturbation == WILD
    assert model.refiner is not None
    photos, actors = growing / "images/val", ModelOptions(batch_size=3)
    options = {"model": str(trained), "actors": actors}
    label(LabelConfig(images=str(photos), output=str(tmp_path / "labels"), **options))
    for photo in photos.iterdir():
        pixels = np.asarray(Image.open(photo).resize((48, 32), Image.Resampling.BICUBIC))
        ids = model.segment(to_tensor(pixels[None].copy())).ids[0].byte().numpy()
        mask = Image.open(tmp_path / "labels/masks" / photo.name).resize((48, 32), 0)
        assert np.mean(np.asarray(mask) == ids) > 0.9  # their sizes differ
    tiled = LabelConfig(images=str(photos), output=str(tmp_path / "tiled"), **options)
    assert label(replace(tiled, tiles=TileOptions(on=True)))["rows"] == 4
    made = SynthesizeConfig(masks=str(growing / "masks/val"), output=str(tmp_path / "images"),
                            samples=2, **options)  # fmt: skip
    assert synthesize(made)["rows"] == 8
    report = evaluate(EvaluateConfig(data=cfg.output, output=str(tmp_path / "report"), **options))
    assert report["segmentation"]["miou"] > 0


def test_a_refiner_that_was_stopped_ends_as_an_undisturbed_one_and_is_not_made_again(
    coded, trained, tmp_path, one_thread
):
    model = SemFlow.load(trained)
    cfg = from_dict(TrainConfig, model.provenance["config"])
    output = str(tmp_path / "run")
    cfg = replace(cfg, output=output)
    weights = cfg.objective.class_weights(coded[1].split("train").frequency).float()
    quiet = tracking.Run(None, "train")
    elsewhere = replace(cfg, output=str(tmp_path / "undisturbed"))
    there = refined(model, elsewhere, coded[1], weights, quiet).refiner.identity()
    storage.write_bytes(storage.join(output, watch.STOP), b"")
    for _ in range(3):  # at each log line, with a step done
        with pytest.raises(watch.Ended):
            refined(model, cfg, coded[1], weights, quiet)
    assert refined(model, cfg, coded[1], weights, quiet).refiner.identity() == there
    storage.remove(storage.join(output, watch.STOP))
    before = storage.read_bytes(storage.join(output, STATE))
    assert refined(model, cfg, coded[1], weights, quiet).refiner.identity() == there
    assert storage.read_bytes(storage.join(output, STATE)) == before
    model.provenance["step"] = 5  # trained on: the old one was for another flow
    assert refined(model, cfg, coded[1], weights, quiet).refiner.identity() == there
    assert storage.read_bytes(storage.join(output, STATE)) != before


def test_couplings_of_such_a_model_keep_it(coded, trained, tmp_path):
    cfg, _ = coded
    coupled = make_couplings(
        str(trained), cfg.output, str(tmp_path / "couplings"),
        CouplingOptions(couplings=4, solver=Solver(steps=1), shard_rows=8, row_group_rows=4),
        gpus=0,
    )  # fmt: skip
    assert maskcodec.of(coupled).identity() == coupled.recipe["mask_codec"]


def test_another_datasets_codec_is_noticed(coded, tmp_path):
    cfg, _ = coded
    shutil.copytree(cfg.output, tmp_path / "data")
    where = tmp_path / "data" / MASK_CODEC / "config.json"
    said = json.loads(where.read_text())
    weights = where.with_name("weights.safetensors")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1  # the last weight is another one
    weights.write_bytes(data)
    assert json.loads(where.read_text()) == said
    with pytest.raises(ValueError, match="not the codec that made its masks' latents"):
        maskcodec.of(read_manifest(str(tmp_path / "data")))
    os.remove(weights)
    with pytest.raises(ValueError, match="no mask codec that can be loaded"):
        maskcodec.of(read_manifest(str(tmp_path / "data")))
