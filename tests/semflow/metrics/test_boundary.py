"""Borders against cases by hand, and distances of SciPy."""

import pytest
import torch

from semflow import IGNORE
from semflow.metrics.boundary import BoundaryScore, border, foreign_ring, within


def split_at(column, width=40, height=20):
    """Class 0 left of a column, class 1 from it on: ``[1, H, W]``."""
    return (torch.arange(width) >= column).long().expand(1, height, width).clone()


def score(predicted, truth, classes=2):
    found = BoundaryScore(classes)
    found.update(predicted, truth)
    return found


@pytest.mark.parametrize(("shift", "f"), [(0, 1), (2, 1), (3, 1), (4, 0), (10, 0)])
def test_a_border_may_be_three_pixels_off(shift, f):
    found = score(split_at(20 + shift), split_at(20))
    assert found.f.tolist() == [f, f]
    assert found.mean_f == f


def test_the_border_is_one_pixel_of_each_class_and_not_the_pictures_edge():
    assert border(split_at(20)).nonzero()[:, 2].unique().tolist() == [19, 20]
    assert not border(torch.zeros(2, 5, 5, dtype=torch.long)).any()
    assert border(torch.tensor([[[0], [1]]])).all()


def test_precision_and_recall_by_hand():
    # The upper half is right; in the lower the border is 10 pixels off.
    truth, predicted = split_at(20), split_at(20)
    predicted[:, 10:] = split_at(30)[:, 10:]
    found = score(predicted, truth)
    # Class 0, predicted: column 19 in rows 0..9, the step in row 10 (columns 20..28), and column 29
    # in rows 10..19. Of the step, columns 20, 21 and 22 lie within 3 of the true column 19.
    assert found.counts[0, :2].tolist() == [29, 13]
    # True: column 19 in all rows. Rows 0..9 are on the predicted one, row 10 beside its step,
    # and rows 11 and 12 within 3 of (10, 20).
    assert found.counts[0, 2:].tolist() == [20, 13]
    precision, recall = 13 / 29, 13 / 20
    assert float(found.f[0]) == pytest.approx(2 * precision * recall / (precision + recall))


def test_a_class_counts_when_it_has_a_border_somewhere():
    # Class 2 is predicted alone, class 3 is nowhere.
    truth, predicted = split_at(20), split_at(20)
    predicted[:, :, 35:] = 2
    found = score(predicted, truth, 4)
    assert found.f[2] == 0
    assert torch.isnan(found.f[3])
    assert found.mean_f == pytest.approx(float(found.f[:3].mean()))
    empty = score(torch.zeros(1, 4, 4), torch.zeros(1, 4, 4))
    assert empty.mean_f != empty.mean_f


def test_borders_that_ignored_pixels_may_hide_do_not_count():
    truth = split_at(20)
    truth[:, :, 18:22] = IGNORE
    assert not border(truth).any()
    # Both predictions lie where the truth says nothing, or within 3 pixels of it.
    for column in (16, 20, 24):
        assert score(split_at(column), truth).counts.sum() == 0
    assert score(split_at(10), truth).counts.tolist() == [[20, 0, 0, 0], [20, 0, 0, 0]]


def test_parts_add_up_and_bad_ones_are_refused():
    random = torch.Generator().manual_seed(0)
    predicted, truth = torch.randint(0, 3, (2, 6, 16, 24), generator=random)
    whole = score(predicted, truth, 3)
    parts = score(predicted[:2], truth[:2], 3) + score(predicted[2:], truth[2:], 3)
    assert torch.equal(parts.counts, whole.counts)
    assert BoundaryScore(3, torch.from_numpy(whole.counts.numpy())).mean_f == whole.mean_f
    with pytest.raises(ValueError, match="beyond the 2 classes"):
        score(predicted, truth, 2)
    with pytest.raises(ValueError, match="shapes differ"):
        score(predicted[:1], truth, 3)
    with pytest.raises(ValueError, match="counts of shape"):
        BoundaryScore(3, torch.zeros(3, 3))


def test_a_prediction_of_no_class_is_a_border_of_none():
    predicted = split_at(20)
    predicted[:, :, 30:] = IGNORE
    found = score(predicted, split_at(20))
    assert found.counts.tolist() == [[20, 20, 20, 20], [40, 20, 20, 20]]
    assert foreign_ring(torch.full_like(predicted, IGNORE), split_at(20)).tolist() == [160, 160]


def test_distances_are_euclidean():
    edt = pytest.importorskip("scipy.ndimage").distance_transform_edt
    places = torch.rand(2, 30, 40, generator=torch.Generator().manual_seed(0)) < 0.01
    for one, found in zip(places, within(places, 4), strict=True):
        assert torch.equal(found, torch.from_numpy(edt(~one.numpy()) <= 4))


def test_foreign_pixels_by_hand():
    truth = split_at(20)
    # From columns 16..23 both classes are within 4 pixels: 8 of each of 20 rows.
    assert foreign_ring(truth, truth).tolist() == [0, 160]
    predicted = truth.clone()
    predicted[:, :, 19:21] = 2  # as a colour between those of 0 and 1 may be
    predicted[:, :, 30:] = 2  # wrong, but far from any border
    assert foreign_ring(predicted, truth).tolist() == [40, 160]
    # The class from across the border is wrong, and not foreign.
    assert foreign_ring(1 - truth, truth).tolist() == [0, 160]
    ignored = truth.clone()
    ignored[:, :5] = IGNORE
    assert foreign_ring(predicted, ignored).tolist() == [30, 120]
    # Beside ignored pixels alone is beside no border.
    assert foreign_ring(predicted, torch.where(truth == 1, IGNORE, truth)).tolist() == [0, 0]
