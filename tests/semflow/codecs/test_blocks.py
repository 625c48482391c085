"""A code for masks of their own: what it keeps, what it refuses, and how it is read."""

import json
from dataclasses import replace

import pytest
import torch

from semflow import IGNORE, Perturbation, SemFlowPipeline, Solver, make_palette, make_velocity
from semflow.codecs import reading
from semflow.codecs.blocks import Blocks, Shape
from semflow.codecs.fit import fit
from semflow.codecs.refiner import Refiner
from semflow.networks.autoencoder import SpaceToDepth
from semflow.sampler import Defaults, SemFlow
from semflow.tiles import segment_tiled


def scenes(classes, count=24, height=32, width=48, seed=0):
    """Ids ``[N, H, W]``: discs of classes on a ground, with a band that is ignored."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    ids = torch.randint(classes, (count, 1, 1), generator=generator).repeat(1, height, width)
    for number in range(count):
        for _ in range(4):
            top, left, radius, one = (
                int(torch.randint(*between, (), generator=generator))
                for between in ((0, height), (0, width), (4, 12), (0, classes))
            )
            ids[number][(y - top) ** 2 + (x - left) ** 2 < radius**2] = one
    ids[:, :2] = IGNORE
    return ids.to(torch.uint8)


def shape(classes, *, factor=4, channels=48, width=0):
    return Shape(classes=classes, channels=channels, factor=factor, width=width)


def with_style(classes, size):
    return replace(make_palette("sphere", classes), style=size.style)


@pytest.fixture(scope="module")
def linear():
    size = shape(5)
    return fit(scenes(5), with_style(5, size), size, steps=0)


def right(codec, ids):
    known = ids != IGNORE
    return float((codec.read(codec.encode(ids)).ids == ids)[known].float().mean())


def test_few_classes_come_back_from_the_linear_code_and_ignored_pixels_do_no_harm(linear):
    ids = scenes(5, seed=1)
    assert right(linear, ids) > 0.99
    latents = linear.encode(ids)
    assert latents.shape == (24, 48, 8, 12)
    assert latents.dtype == torch.float32
    code = latents[:, : linear.shape.coded, 1:]
    assert abs(float(code.mean())) < 0.1
    assert 0.5 < float(code.std()) < 1.5


def test_its_networks_learn_what_many_classes_lose_in_the_linear_code():
    size, ids = shape(40, factor=8, channels=24, width=32), scenes(40, count=64)
    palette, told = with_style(40, size), []
    plain = fit(ids, palette, shape(40, factor=8, channels=24), steps=0)
    learned = fit(ids, palette, size, steps=60, told=told.append)
    assert told == list(range(1, 61))
    unseen = scenes(40, seed=2)
    assert right(learned, unseen) > right(plain, unseen) + 0.005
    again = fit(ids, palette, size, steps=60)
    assert again.identity() == learned.identity()
    assert fit(ids, palette, size, steps=60, seed=1).identity() != learned.identity()


def test_halfway_between_two_masks_there_is_no_third_class(linear):
    one, other = (torch.full((1, 8, 8), number) for number in (1, 3))
    ends = linear.encode(one), linear.encode(other)
    for share in torch.linspace(0, 1, 21):
        ids = linear.read((1 - share) * ends[0] + share * ends[1]).ids
        assert set(ids.unique().tolist()) <= {1, 3}


def test_no_perturbation_changes_what_is_read_and_seeds_give_it_again(linear):
    ids = scenes(5, count=2, seed=3)
    wild = Perturbation(amplitude=100.0, exponent=1.0)
    wild.check(linear.palette)
    clean, drawn = linear.encode(ids), linear.encode(ids, wild, [7, 8])
    assert not torch.equal(clean, drawn)
    assert torch.equal(linear.logits(clean), linear.logits(drawn))
    assert torch.equal(drawn, linear.encode(ids, wild, [7, 8]))
    assert not torch.equal(drawn[1], linear.encode(ids, wild, [7, 9])[1])
    assert clean[:, linear.shape.coded :].abs().max() == 0


def test_a_code_without_channels_for_it_refuses_every_perturbation():
    size = shape(5, channels=4, factor=8)
    palette = with_style(5, size)
    Perturbation(amplitude=0.0).check(palette)
    with pytest.raises(ValueError, match="no channel for a perturbation"):
        Perturbation(amplitude=0.001).check(palette)


def test_a_plane_is_read_in_strips_as_it_is_whole(linear, monkeypatch):
    latents = linear.encode(scenes(5, count=2, seed=4)) + 0.3 * torch.randn(2, 48, 8, 12)
    for window in (1, 5):
        whole = linear.read(latents, window)
        monkeypatch.setattr(reading, "PIXELS", 1)
        strips = linear.read(latents, window)
        monkeypatch.undo()
        assert torch.equal(strips.ids, whole.ids)
        torch.testing.assert_close(strips.margin, whole.margin)
        torch.testing.assert_close(strips.picture, whole.picture)


def test_ids_beyond_the_classes_are_refused(linear):
    with pytest.raises(ValueError, match=r"\[5\] are beyond the 5 classes"):
        linear.encode(torch.full((1, 8, 8), 5))


def model_of(codec, refiner=None):
    torch.manual_seed(0)
    solver = Solver(steps=1)
    defaults = Defaults(height=32, width=48, segment=solver, synthesize=solver,
                        perturbation=Perturbation(amplitude=1.0), window=3)  # fmt: skip
    velocity = make_velocity("tiny", 48)
    return SemFlow(velocity, SpaceToDepth(), codec.palette, defaults, codec=codec,
                   refiner=refiner).eval()  # fmt: skip


@pytest.mark.parametrize("refining", [False, True])
def test_a_model_carries_its_parts_through_its_folder_and_photos_of_any_size(
    linear, tmp_path, refining
):
    refiner = Refiner(5).requires_grad_(False)
    torch.nn.init.normal_(refiner.last.weight)
    model = model_of(linear, refiner if refining else None)
    model.save(tmp_path)
    again = SemFlow.load(tmp_path)
    photos = torch.rand(2, 3, 32, 48) * 2 - 1
    for one, other in zip(model.segment(photos), again.segment(photos), strict=True):
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))
    ids = scenes(5, count=2)
    assert torch.equal(model.synthesize(ids, [1, 2]).images, again.synthesize(ids, [1, 2]).images)
    photo = (torch.rand(3, 32, 48) * 255).byte()
    pipe = SemFlowPipeline.of(again)
    assert (pipe.refiner is not None) == refining
    assert torch.equal(pipe.semflow.segment(photos).ids, model.segment(photos).ids)
    tiled, plain = segment_tiled(model, photo), model.segment(photo[None] / 127.5 - 1)
    assert torch.equal(tiled.ids, plain.ids.byte())
    large = segment_tiled(model, (torch.rand(3, 71, 50) * 255).byte())
    assert large.ids.shape == large.margin.shape == (1, 71, 50)
    assert "mask codec" in (tmp_path / "README.md").read_text()


def test_a_folder_that_was_tampered_with_is_refused(linear, tmp_path):
    linear.save(tmp_path)
    assert Blocks.load(tmp_path, linear.palette).identity() == linear.identity()
    said = json.loads((tmp_path / "config.json").read_text())
    for change in ({"classes": 2**40}, {"channels": "48"}, {"width": 64}, {"_class_name": "Evil"}):
        (tmp_path / "config.json").write_text(json.dumps(said | change))
        with pytest.raises(ValueError, match="codec"):
            Blocks.load(tmp_path, linear.palette)
    (tmp_path / "config.json").write_text(json.dumps(said))
    (tmp_path / "weights.safetensors").write_bytes(b"no weights")
    with pytest.raises(ValueError, match="no mask codec that can be loaded"):
        Blocks.load(tmp_path, linear.palette)


def test_parts_that_do_not_fit_are_refused(linear):
    model = model_of(linear)
    with pytest.raises(ValueError, match="for blocks of 4 pixels, the autoencoder 12 for 2"):
        SemFlow(model.velocity, SpaceToDepth(2), linear.palette, model.defaults, codec=linear)
    with pytest.raises(ValueError, match="a mask codec is missing"):
        SemFlow(model.velocity, SpaceToDepth(), linear.palette, model.defaults)
