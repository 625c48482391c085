"""A refiner begins as nothing, looks at its neighbourhood alone, and learns from the photo."""

import json

import pytest
import torch
import torch.nn.functional as F

from semflow import make_palette
from semflow.codecs import reading
from semflow.codecs.anchors import Anchors
from semflow.codecs.refiner import Refiner
from semflow.networks.autoencoder import SpaceToDepth

PALETTE = make_palette("sphere", 4)


def random_refiner():
    torch.manual_seed(0)
    refiner = Refiner(4)
    for part in (refiner.last.weight, refiner.log_temperature):
        torch.nn.init.normal_(part, std=0.5)
    return refiner.requires_grad_(False)


def test_it_begins_as_nothing():
    logits, photos = torch.randn(2, 4, 8, 12), torch.rand(2, 3, 8, 12)
    assert torch.equal(Refiner(4)(logits, photos), logits)


def test_it_learns_from_the_photo_what_the_logits_do_not_say():
    torch.manual_seed(0)
    ids = torch.randint(4, (8, 6, 6)).repeat_interleave(4, 1).repeat_interleave(4, 2)
    photos = PALETTE.encode(ids) * 0.5
    logits = 0.1 * torch.randn(8, 4, 24, 24)
    refiner = Refiner(4)
    optimizer = torch.optim.AdamW(refiner.parameters(), 1e-2)
    for _ in range(60):
        loss = F.cross_entropy(refiner(logits, photos), ids)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (refiner(logits, photos).argmax(1) == ids).float().mean() > 0.95


def test_planes_are_read_in_strips_as_they_are_whole(monkeypatch):
    codec, refiner = Anchors(PALETTE, SpaceToDepth()), random_refiner()
    latents, photos = torch.randn(2, 48, 6, 5), torch.rand(2, 3, 24, 20)
    whole = codec.read(latents, 1, refiner, photos)
    assert not torch.equal(whole.ids, codec.read(latents).ids)
    monkeypatch.setattr(reading, "PIXELS", 1)
    strips = codec.read(latents, 1, refiner, photos)
    assert torch.equal(strips.ids, whole.ids)
    torch.testing.assert_close(strips.margin, whole.margin)


def test_a_folder_brings_it_back_and_one_for_other_classes_is_refused(tmp_path):
    refiner = random_refiner()
    refiner.save(tmp_path)
    assert Refiner.load(tmp_path, 4).identity() == refiner.identity()
    with pytest.raises(ValueError, match="for 4 classes, not 5"):
        Refiner.load(tmp_path, 5)
    said = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(said | {"classes": 2**40}))
    with pytest.raises(ValueError, match="no refiner that can be loaded"):
        Refiner.load(tmp_path, 2**40)
