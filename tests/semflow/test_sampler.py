import json

import pytest
import torch

from semflow import (
    Perturbation,
    SemFlow,
    Solver,
    Velocity,
    load_autoencoder,
    make_palette,
    make_velocity,
)
from semflow.masks.decoding import decode
from semflow.networks.autoencoder import SpaceToDepth
from semflow.networks.precondition import Preconditioning
from semflow.networks.taef2 import TAEF2
from semflow.sampler import Defaults


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    defaults = Defaults(
        height=32, width=48, segment=Solver(steps=1), synthesize=Solver(name="heun", steps=3)
    )
    return SemFlow(
        make_velocity("tiny", 48), load_autoencoder("space-to-depth"),
        make_palette("sphere", ["sky", "road", "tree"]), defaults, {"step": 7},
    ).eval()  # fmt: skip


def images(count=2):
    return torch.rand(count, 3, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_segment_uses_the_models_solver_or_the_callers(model):
    result = model.segment(images())
    assert result.ids.shape == (2, 32, 48)
    assert result.nfe == 1
    assert model.segment(images(), Solver(name="rk4", steps=2)).nfe == 8
    x_0 = model.autoencoder.encode(images()).mean
    with torch.inference_mode():  # one Euler step, by hand
        expected = model.autoencoder.decode(x_0 + model.velocity(x_0, torch.zeros(2)))
    torch.testing.assert_close(result.picture, expected)


def test_an_image_can_be_made_again_from_its_seed_alone(model):
    ids = torch.randint(0, 3, (2, 32, 48))
    together = model.synthesize(ids, [11, 12])
    alone = model.synthesize(ids[1:], [12])
    torch.testing.assert_close(together.images[1:], alone.images, rtol=0, atol=1e-5)
    other = model.synthesize(ids[1:], [13]).images
    assert not torch.allclose(alone.images, other, atol=1e-3)
    assert together.nfe == 6
    assert together.images.abs().max() <= 1


def test_a_model_survives_its_folder(model, tmp_path):
    model.save(tmp_path)
    again = SemFlow.load(tmp_path)
    assert torch.equal(model.segment(images()).ids, again.segment(images()).ids)
    assert again.defaults == model.defaults
    assert again.palette == model.palette
    assert again.provenance == {"step": 7}
    assert {p.suffix for p in tmp_path.rglob("*") if p.is_file()} == {
        ".json",
        ".md",
        ".safetensors",
    }


def test_a_model_reads_masks_by_the_window_that_its_folder_names(model, tmp_path):
    wide = model.with_defaults(window=5)
    wide.save(tmp_path)
    found, nearest = SemFlow.load(tmp_path).segment(images()), model.segment(images())
    torch.testing.assert_close(found.picture, nearest.picture)
    assert torch.equal(found.ids, decode(model.palette, found.picture, 5).ids)
    assert not torch.equal(found.ids, nearest.ids)
    assert "5x5 pixels around it" in (tmp_path / "README.md").read_text()
    with pytest.raises(ValueError, match="odd number, not 4"):
        model.with_defaults(window=4)


def test_a_model_takes_the_place_of_one_of_another_kind(model, tmp_path):
    before = SemFlow(
        Velocity(model.velocity.unet, preconditioning=Preconditioning((0.5,), (1.0,))),
        SpaceToDepth(4), model.palette, model.defaults,
    )  # fmt: skip
    before.save(tmp_path)
    assert SemFlow.load(tmp_path).velocity.preconditioning
    model.save(tmp_path)
    assert torch.equal(SemFlow.load(tmp_path).segment(images()).ids, model.segment(images()).ids)
    TAEF2().save(tmp_path / "other")
    names = {path.name for path in (tmp_path / "other").iterdir()}
    other = SemFlow(make_velocity("tiny", 32), TAEF2(), model.palette, model.defaults)
    other.save(tmp_path)
    assert {path.name for path in (tmp_path / "autoencoder").iterdir()} == names
    assert isinstance(SemFlow.load(tmp_path).autoencoder, TAEF2)


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no model_index\.json"):
        SemFlow.load(tmp_path)
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "SemFlow", "format": 99}))
    with pytest.raises(ValueError, match="format 99"):
        SemFlow.load(tmp_path)


def test_an_unsafe_perturbation_or_size_is_refused(model):
    with pytest.raises(ValueError, match="could turn class"):
        model.synthesize(torch.zeros(1, 32, 48), [0], perturbation=Perturbation(amplitude=0.9))
    with pytest.raises(ValueError, match="could turn class"):
        model.with_defaults(perturbation=Perturbation(amplitude=0.9))
    with pytest.raises(ValueError, match="divide"):
        model.with_defaults(height=30)
