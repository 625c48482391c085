"""What evaluate says of confidence and borders: of a model's photos, batch by batch, to a page."""

import json

import numpy as np
import pytest
import torch

from pipelines.evaluate import summarize
from pipelines.evaluation import confidence, report
from pipelines.evaluation.config import EvaluateConfig
from pipelines.evaluation.evaluator import Evaluator, accumulate
from pipelines.evaluation.imagemetrics import Collected, Networks
from pipelines.evaluation.judging import confusions
from semflow import IGNORE, SemFlow
from semflow.sampler import Segmentation

NAMES = ["sky", "road", "tree"]
PARTS = slice(0, 4), slice(4, 6)


def segmentation(ids, margin):
    return Segmentation(torch.tensor(ids), torch.tensor(margin), torch.zeros(0), 1)


@pytest.fixture(scope="module")
def evaluated(model):
    """Sums, rows and tiles of six photos, in batches of 4 and 2, as an actor and the driver add."""
    evaluator = Evaluator(
        EvaluateConfig(model=str(model)), SemFlow.load(model).defaults, Networks()
    )
    random = torch.Generator().manual_seed(0)
    x_0 = torch.randn(6, 48, 8, 12, generator=random)
    ids = torch.randint(0, 3, (6, 4, 6), generator=random).repeat_interleave(8, 1)
    ids = ids.repeat_interleave(8, 2)
    ids[0, :4] = IGNORE
    sums, collected, tiles = {}, Collected(), []
    for number, part in enumerate(PARTS):
        scores, shown, rows = evaluator.score(x_0[part], ids[part], [0] * len(ids[part]))
        accumulate(sums, scores)
        collected.take(number, rows)
        tiles.append(shown)
    photos = torch.cat(collected.parts("photos", "review")).numpy()
    return evaluator, x_0, ids, sums, photos, np.concatenate(tiles)


def test_batches_add_up_to_the_whole(evaluated):
    evaluator, x_0, ids, sums, photos, _ = evaluated
    of_parts = [evaluator.model.segment_latents(x_0[part]) for part in PARTS]
    segmented = Segmentation(
        *(torch.cat(both) for both in list(zip(*of_parts, strict=True))[:3]), 1
    )
    whole = confidence.measure(segmented, ids, 3)
    for name, value in whole.items():
        np.testing.assert_allclose(sums[name], value, rtol=1e-9, err_msg=name)
    rows = confidence.photo_rows(segmented, confusions(segmented.ids, ids, 3))
    np.testing.assert_allclose(photos, rows, rtol=1e-6)
    assert sums["calibration"][0].sum() == (ids != IGNORE).sum()


def test_the_report_has_a_diagram_and_its_figures(evaluated):
    evaluator, _, _, sums, photos, tiles = evaluated
    found = summarize(sums, photos, NAMES)
    of_masks = found["segmentation"]
    assert json.loads(json.dumps(of_masks)) == of_masks
    assert 0 <= of_masks["calibration"]["ece"] <= 1
    assert len(of_masks["calibration"]["bins"]) == 15
    assert sum(one["share"] for one in of_masks["calibration"]["bins"]) == pytest.approx(1)
    assert set(of_masks["boundary_f_by_class"]) == set(NAMES)
    result = found | {
        "image_metrics": {"values": {}, "notes": {}, "unavailable": {}, "real": ""},
        "codec_ceiling": {"miou": 1.0, "iou": dict.fromkeys(NAMES, 1.0)}, "split": "val",
        "model": "", "data": "", "provenance": {}, "config": {}, "defaults": {},
    }  # fmt: skip
    headline = report.headline(result)
    assert headline["ece"] == of_masks["calibration"]["ece"]
    assert headline["boundary_f"] == of_masks["boundary_f"]
    page, images = report.render(result, {"tiles": tiles}, evaluator.model.palette)
    assert images["reliability"].startswith(b"\x89PNG")
    assert f"{headline['ece']:.3f}" in page


def test_what_cannot_be_scored_is_none_and_a_dash():
    ids = [[[0, 0], [0, 0]]]
    segmented = segmentation(ids, [[[1.0, 1.0], [1.0, 1.0]]])
    sums = confidence.measure(segmented, segmented.ids, 3)
    rows = confidence.photo_rows(segmented, confusions(segmented.ids, segmented.ids, 3))
    found = confidence.summarize(sums, rows, NAMES)
    assert found["calibration"]["ece"] == 0
    assert found["calibration"]["bins"][0]["accuracy"] is None
    assert found["review_rank_correlation"] == {"score": None, "mean_margin": None}
    assert [found[name] for name in ("wrong_pixels_aupr", "boundary_f", "foreign_share")] == (
        [None] * 3
    )


def test_a_photo_s_row_is_its_iou_and_what_a_review_lists_it_by():
    # 0.05 is below what counts as low, 0.1 is not: in 8 bits, as label.py has it.
    segmented = segmentation([[[0, 1], [1, 1]]], [[[0.05, 0.1], [0.45, 1.0]]])
    truth = torch.tensor([[[0, 1], [1, 2]]])
    ((iou, score, margin),) = confidence.photo_rows(segmented, confusions(segmented.ids, truth, 3))
    assert iou == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert score == 0.75
    assert margin == pytest.approx(0.4)


def test_rank_correlation_leaves_out_photos_without_a_score():
    rising = np.array([0.1, 0.2, 0.5, 0.3])
    assert confidence.rank_correlation(rising, rising**3) == pytest.approx(1)
    assert confidence.rank_correlation(rising, -rising) == pytest.approx(-1)
    holed = np.array([0.1, 0.2, np.nan, 0.3])
    assert confidence.rank_correlation(rising, holed) == pytest.approx(1)
    assert confidence.rank_correlation(rising, np.ones(4)) is None
    assert confidence.rank_correlation(rising[:2], rising[:2]) is None
