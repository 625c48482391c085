import numpy as np
import pytest
import torch

from pipelines.evaluation.judging import confusions
from pipelines.evaluation.scores import Scored, compare, joined, resamples
from semflow import ConfusionMatrix


def scored(seed, n=40, right=0.7, **options):
    rng = np.random.default_rng(seed)
    truth = torch.from_numpy(np.random.default_rng(9).integers(0, 3, (n, 6, 6)))
    noise = torch.from_numpy(rng.integers(0, 3, (n, 6, 6)))
    hit = torch.from_numpy(rng.random((n, 6, 6)) < right)
    predicted = torch.where(hit, truth, noise)
    return Scored(confusions(predicted, truth, 3), nfe=4.0, seconds=0.01, **options), (
        predicted,
        truth,
    )


def test_miou_of_samples_is_that_of_all_their_pixels_together():
    one, (predicted, truth) = scored(0)
    whole = ConfusionMatrix(3)
    whole.update(predicted, truth)
    assert one.miou()[0] == pytest.approx(whole.miou)


def test_resamples_draw_as_many_as_there_are_and_spread_as_the_samples_do():
    one, _ = scored(1)
    weights = resamples(40, 200)
    assert (weights.sum(1) == 40).all()
    drawn = one.miou(weights)
    assert abs(drawn.mean() - one.miou()[0]) < 0.01
    halves = [one.first(20).miou()[0], Scored(one.confusion[20:]).miou()[0]]
    assert 0.1 < drawn.std() / (abs(halves[0] - halves[1]) / 2 + 0.003) < 10


def test_a_better_trial_is_better_and_equal_ones_are_equal():
    base, _ = scored(2, right=0.6)
    better, _ = scored(3, right=0.8)
    assert compare(better, base)["miou"].low > 0
    same = compare(base, base)["miou"]
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_pairing_tells_apart_what_the_samples_alone_would_hide():
    base, _ = scored(4)
    almost = Scored(base.confusion.copy())
    almost.confusion[:, 0, 0] += 1  # one more right pixel in each
    gap = compare(almost, base)["miou"]
    assert 0 < gap.low < gap.high < base.summary()["miou_se"] * 4


def test_scores_survive_their_file(tmp_path):
    rng = np.random.default_rng(0)
    one, _ = scored(5, features=rng.random((40, 4)), real=rng.random((40, 4)),
                    diversity=rng.random(40))  # fmt: skip
    where = f"{tmp_path}/a b.npz"
    one.save(where)
    again = Scored.load(where)
    assert again.summary() == one.summary()
    assert again.first(10).summary()["samples"] == 10


def test_batches_joined_are_the_whole():
    one, _ = scored(6)
    parts = [Scored(one.confusion[:30], 2.0, 0.1), Scored(one.confusion[30:], 6.0, 0.3)]
    both = joined(parts)
    assert both.miou()[0] == one.miou()[0]
    assert both.nfe == pytest.approx((30 * 2 + 10 * 6) / 40)
