"""Calibration against closed forms, a case by hand, and scikit-learn's average precision."""

import numpy as np
import pytest
import torch

from semflow import IGNORE
from semflow.metrics.calibration import FINE, Calibration


def found(confidence, right):
    """Of pixels that are right or not: class 1 is predicted, and true where right."""
    calibration = Calibration()
    right = torch.as_tensor(right).long()[None, None]
    confidence = torch.as_tensor(confidence)[None, None]
    calibration.update(confidence, torch.ones_like(right), right)
    return calibration


def drawn(seed, n=20_000):
    """Confidences, and pixels that are right as often as their confidence says."""
    random = torch.Generator().manual_seed(seed)
    confidence = torch.rand(n, generator=random)
    return confidence, torch.rand(n, generator=random) < confidence


def test_pixels_that_are_right_as_often_as_they_claim_are_calibrated():
    confidence, right = drawn(0, 300_000)
    assert found(confidence, right).ece() < 0.005
    # Twice as sure as it is right, on [0, 1/2]: off by the confidence itself, in the mean 1/4.
    assert found(confidence / 2, torch.zeros_like(right)).ece() == pytest.approx(0.25, abs=0.002)


def test_a_case_by_hand():
    # Bins of a third: (0.2, 0.3: one of two right), (0.5: right), (0.9, 0.9, 1.0: two of three)
    calibration = found([0.2, 0.3, 0.5, 0.9, 0.9, 1.0], [1, 0, 1, 1, 0, 1])
    share, accuracy, confidence = calibration.diagram(3)
    np.testing.assert_allclose(share, [2 / 6, 1 / 6, 3 / 6])
    np.testing.assert_allclose(accuracy, [1 / 2, 1, 2 / 3])
    np.testing.assert_allclose(confidence, [0.25, 0.5, 2.8 / 3], rtol=1e-6)
    expected = 2 / 6 * 0.25 + 1 / 6 * 0.5 + 3 / 6 * (2.8 / 3 - 2 / 3)
    assert calibration.ece(3) == pytest.approx(expected)
    # Wrong ones stand second, and fourth or fifth (which share a place): precision 1/2, then 2/5.
    assert calibration.wrong_pixels_aupr == pytest.approx((1 / 2 + 2 / 5) / 2)
    assert calibration.diagram().shape == (3, 15)
    with pytest.raises(ValueError, match="7 bins do not divide"):
        calibration.ece(7)


def test_bins_are_closed_above_and_hold_both_ends():
    at = found(torch.tensor([0.0, 0.5, 0.5 + 1e-9, 1.0], dtype=torch.float64), [1] * 4).counts[0]
    assert at.nonzero().flatten().tolist() == [0, FINE // 2 - 1, FINE // 2, FINE - 1]


def test_aupr_is_scikit_learns_average_precision():
    metrics = pytest.importorskip("sklearn.metrics")
    confidence, right = drawn(1)
    expected = metrics.average_precision_score(~right, 1 - confidence)
    assert found(confidence, right).wrong_pixels_aupr == pytest.approx(expected, abs=1e-3)
    coarse = (confidence * 50).ceil() / 50 - 0.01  # in the middle of bins, so nothing is rounded
    expected = metrics.average_precision_score(~right, 1 - coarse)
    assert found(coarse, right).wrong_pixels_aupr == pytest.approx(expected, rel=1e-9)


def test_chance_finds_as_many_wrong_pixels_as_there_are():
    confidence, _ = drawn(2, 100_000)
    right = torch.rand(100_000, generator=torch.Generator().manual_seed(3)) < 0.8
    assert found(confidence, right).wrong_pixels_aupr == pytest.approx(0.2, abs=0.01)


def test_parts_add_up_to_the_whole():
    confidence, right = drawn(4)
    parts = found(confidence[:7000], right[:7000]) + found(confidence[7000:], right[7000:])
    whole = found(confidence, right)
    torch.testing.assert_close(parts.counts, whole.counts)
    assert parts.ece() == pytest.approx(whole.ece())
    again = Calibration(torch.from_numpy(whole.counts.numpy()))
    assert again.wrong_pixels_aupr == whole.wrong_pixels_aupr


def test_ignored_pixels_do_not_count_and_no_class_is_wrong():
    calibration = Calibration()
    truth = torch.tensor([[[0, 1, IGNORE]]])
    calibration.update(torch.tensor([[[0.9, 0.8, 0.1]]]), torch.tensor([[[0, IGNORE, 0]]]), truth)
    assert calibration.counts.sum(1)[:2].tolist() == [2, 1]
    nothing = Calibration()
    nothing.update(torch.ones(1, 1, 3), truth, torch.full_like(truth, IGNORE))
    assert nothing.ece() != nothing.ece()
    assert nothing.wrong_pixels_aupr != nothing.wrong_pixels_aupr


@pytest.mark.parametrize("wrong", [1.5, -0.5, float("nan")])
def test_what_is_no_confidence_is_refused(wrong):
    with pytest.raises(ValueError, match="beyond"):
        found([0.5, wrong], [1, 1])
    with pytest.raises(ValueError, match="shapes differ"):
        Calibration().update(torch.ones(1, 2, 2), torch.ones(1, 2, 3), torch.ones(1, 2, 2))
    with pytest.raises(ValueError, match="counts of shape"):
        Calibration(torch.zeros(3, 15))
