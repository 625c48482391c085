"""The confusion matrix against the libraries that papers' scores come from."""

import numpy as np
import pytest
import torch

from semflow import IGNORE, ConfusionMatrix

CLASSES = 6


def maps(seed, present=CLASSES):
    """Label maps of ``present`` classes, some pixels ignored, predictions mostly right."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, present, (4, 20, 30))
    predicted = np.where(
        rng.random(truth.shape) < 0.6, truth, rng.integers(0, present, (4, 20, 30))
    )
    truth = np.where(rng.random(truth.shape) < 0.1, IGNORE, truth)
    return torch.from_numpy(predicted), torch.from_numpy(truth)


def confusion(predicted, truth):
    matrix = ConfusionMatrix(CLASSES)
    for one, other in zip(predicted, truth, strict=True):  # image by image, one matrix
        matrix.update(one, other)
    return matrix


@pytest.mark.parametrize("present", [CLASSES, CLASSES - 2])
def test_miou_is_torchmetrics_jaccard_index(present):
    classification = pytest.importorskip("torchmetrics.classification")
    predicted, truth = maps(0, present)
    index = classification.MulticlassJaccardIndex(CLASSES, average=None, ignore_index=IGNORE)
    iou = index(predicted, truth)
    found = confusion(predicted, truth)
    np.testing.assert_allclose(found.iou.nan_to_num(0), iou, rtol=1e-5)
    macro = classification.MulticlassJaccardIndex(CLASSES, average="macro", ignore_index=IGNORE)
    assert found.miou == pytest.approx(float(macro(predicted, truth)), rel=1e-5)


def test_miou_is_scikit_learns_jaccard_score():
    metrics = pytest.importorskip("sklearn.metrics")
    predicted, truth = maps(1)
    scored = truth != IGNORE
    found = confusion(predicted, truth)
    theirs = metrics.jaccard_score(truth[scored], predicted[scored], average=None)
    np.testing.assert_allclose(found.iou, theirs, rtol=1e-12)
    assert found.miou == pytest.approx(theirs.mean(), rel=1e-12)
    assert found.mean_iou(without=[0, 2]) == pytest.approx(theirs[[1, 3, 4, 5]].mean(), rel=1e-12)


def test_a_dropped_class_is_torchmetrics_ignore_index():
    classification = pytest.importorskip("torchmetrics.classification")
    predicted, truth = maps(2)
    truth = torch.where(truth == IGNORE, 0, truth)
    macro = classification.MulticlassJaccardIndex(CLASSES, average="macro", ignore_index=0)
    dropped = confusion(predicted, torch.where(truth == 0, IGNORE, truth))
    expected = float(macro(predicted, truth))
    assert dropped.mean_iou(without=[0]) == pytest.approx(expected, rel=1e-5)


def test_scores_by_name_are_json_and_none_where_a_class_was_not_seen():
    confusion = ConfusionMatrix(3)
    confusion.update(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]))
    assert confusion.scores(["road", "sky", "tree"]) == {
        "miou": 0.5, "accuracy": 2 / 3, "iou": {"road": 0.5, "sky": 0.5, "tree": None},
    }  # fmt: skip
