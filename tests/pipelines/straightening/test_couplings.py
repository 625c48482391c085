"""Couplings: each start has the end that its flow gives it, and can be made again."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from pipelines.dataset.latents import Manifest, Shard, Split
from pipelines.straightening.coupler import KEPT, couple
from pipelines.straightening.couplings import fits, places
from pipelines.train import check
from pipelines.training.config import TrainConfig
from semflow import Perturbation, SemFlow, Solver, load_autoencoder, make_palette
from semflow.sampler import Defaults

GROWTH = 0.7
PRECISE = Solver(name="rk4", steps=16)


class Grows(nn.Module):
    """v = a x: whatever is at x is at e^a x a time of 1 later."""

    def __init__(self):
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(GROWTH))

    def forward(self, x, t):
        return self.rate * x


@pytest.fixture(scope="module")
def model():
    defaults = Defaults(height=8, width=12, segment=Solver(steps=1))
    return SemFlow(Grows(), load_autoencoder("space-to-depth"), make_palette("sphere", 4),
                   defaults).requires_grad_(False)  # fmt: skip


@pytest.fixture(scope="module")
def rows():
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 4, (3, 8, 12), generator=generator)
    return ids, torch.randn(3, 48, 2, 3, generator=generator)


def manifest(*groups: tuple[int, ...], **recipe) -> Manifest:
    shards = tuple(
        Shard(f"train/{n:05d}.parquet", sum(rows), 0, "", rows) for n, rows in enumerate(groups)
    )
    split = Split(1, sum(map(sum, groups)), shards, (1, 1, 1, 1))
    palette = make_palette("sphere", 4)
    return Manifest("/data", "f", {"autoencoder": {"stochastic": False}} | recipe, {}, palette,
                    8, 12, {"train": split}, 0, {})  # fmt: skip


def test_from_a_photo_the_mask_is_where_the_flow_ends(model, rows):
    ids, photos = rows
    x_0, x_1 = couple(model, ids, photos, "segment", PRECISE, Perturbation(), [1, 2, 3])
    assert torch.equal(x_0, photos), "photos stay real"
    assert torch.allclose(x_1, math.exp(GROWTH) * photos, rtol=1e-5)


def test_from_a_mask_the_image_is_where_the_flow_ends_and_its_label_is_in_it(model, rows):
    ids, photos = rows
    perturbation = Perturbation(amplitude=0.1)
    x_0, x_1 = couple(model, ids, photos, "synthesize", PRECISE, perturbation, [1, 2, 3])
    assert torch.allclose(x_0, math.exp(-GROWTH) * x_1, rtol=1e-5)
    assert torch.equal(model.palette.decode(model.autoencoder.decode(x_1)).ids, ids)
    clean = model.autoencoder.encode(model.palette.encode(ids)).mean
    assert 0.05 < float((x_1 - clean).abs().max()) <= 0.1 + 1e-6


def test_a_mask_is_perturbed_as_its_seed_says_whatever_stands_beside_it(model, rows):
    ids, photos = rows
    arguments = (PRECISE, Perturbation(amplitude=0.1))
    whole = couple(model, ids, photos, "synthesize", *arguments, [5, 6, 7])
    alone = couple(model, ids[1:2], photos[1:2], "synthesize", *arguments, [6])
    other = couple(model, ids[1:2], photos[1:2], "synthesize", *arguments, [8])
    assert torch.equal(whole[1][1:2], alone[1])
    assert torch.allclose(whole[0][1:2], alone[0], atol=1e-6)
    assert not torch.allclose(other[1], alone[1], atol=0.01)


def test_a_kept_row_is_the_photo_with_its_clean_mask(model, rows):
    ids, photos = rows
    x_0, x_1 = couple(model, ids, photos, KEPT, PRECISE, Perturbation(), [1, 2, 3])
    assert torch.equal(x_0, photos)
    assert torch.equal(x_1, model.autoencoder.encode(model.palette.encode(ids)).mean)


def test_rows_are_drawn_once_each_and_half_of_them_in_each_direction():
    data = manifest((4, 4, 2), (4, 1), (3,))
    table = places(data, "train", 12, ("synthesize", "segment"))
    assert len(set(table["key"].to_pylist())) == 12
    assert table["direction"].to_pylist().count("segment") == 6
    every = places(data, "train", None, ("segment",), seed=3).to_pylist()
    assert len(every) == 18
    where = [(row["source"], row["group"], row["row"]) for row in every]
    assert where == sorted(where)
    assert where[-1] == ("train/00002.parquet", 0, 2)
    assert every[-1]["uri"] == "/data/train/00002.parquet"
    assert places(data, "train", 12, ("segment",), seed=1) != table.drop(["direction"])
    with pytest.raises(ValueError, match="has 18 rows, not 19"):
        places(data, "train", 19, ("segment",))


def test_directions_do_not_follow_the_views_that_follow_one_another():
    """With two views a pair, by turns each direction would have one kind of view alone."""
    table = places(manifest(*[(32,) * 8] * 4), "train", None, ("synthesize", "segment"))
    odd = np.array(table["row"].to_pylist()) % 2 == 1
    segmented = np.array(table["direction"].to_pylist()) == "segment"
    assert segmented.sum() == 512
    assert 0.4 < segmented[odd].mean() < 0.6


def test_a_model_of_another_palette_size_or_autoencoder_is_refused(model, tmp_path):
    model.autoencoder.save(tmp_path / "autoencoder")
    data = manifest((4,), autoencoder={"stochastic": False, **model.autoencoder.identity()})
    index = {"palette": model.palette.to_json(), "defaults": {"height": 8, "width": 12}}
    fits(str(tmp_path), index, data)
    with pytest.raises(ValueError, match="another palette"):
        fits(str(tmp_path), index, replace(data, palette=make_palette("grid", 4)))
    with pytest.raises(ValueError, match=r"pictures of \(8, 12\), the data has \(8, 16\)"):
        fits(str(tmp_path), index, replace(data, width=16))
    with pytest.raises(ValueError, match="another autoencoder"):
        fits(str(tmp_path), index, manifest((4,), autoencoder={"factor": 8, "stochastic": False}))


def test_masks_of_couplings_are_not_encoded_again(tmp_path):
    data = manifest((4,), coupling={"direction": "both"})
    cfg = TrainConfig(data="/data", output=str(tmp_path), batch_size=1)
    check(cfg, data)
    with pytest.raises(ValueError, match=r"holds couplings.*--no-online-masks"):
        check(replace(cfg, online_masks=True), data)
