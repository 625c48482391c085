"""Image metrics and scores of labels: the same by Ray as in plain Python."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from ray import cloudpickle

from pipelines.config import UserError
from pipelines.corpora import Corpus
from pipelines.dataset.latents import Rows, read_manifest
from pipelines.evaluate import evaluate
from pipelines.evaluation.config import EvaluateConfig, ScoreConfig
from pipelines.evaluation.imagemetrics import Networks
from pipelines.evaluation.metricoptions import MetricOptions
from pipelines.inference.predictors import ModelOptions
from pipelines.score import score
from pipelines.synthesis.drafts import sample_seed
from semflow import ConfusionMatrix, SemFlow
from semflow.metrics.frechet import Gaussian
from semflow.metrics.kernel import kernel_distance
from tests import standins
from tests.pictures import CLASSES, encoded, scene
from tests.runs import logged
from tests.standins import Shades


def to_bytes(images):
    return ((images.clamp(-1, 1) + 1) * 127.5).round().byte()


@pytest.fixture(scope="module")
def evaluated(latents, model, tmp_path_factory):
    """By one actor, and by two."""
    cloudpickle.register_pickle_by_value(standins)  # the workers do not know tests/
    found = {}
    for actors in (1, 2):
        cfg = EvaluateConfig(
            model=str(model), data=str(latents), pictures=1, samples=2,
            output=str(tmp_path_factory.mktemp("report")),
            metrics=MetricOptions(diversity_masks=5),
            actors=ModelOptions(actors=actors, batch_size=3),
        )  # fmt: skip
        networks = Networks({"inception": Shades(), "shades": Shades()}, None, {"lpips": "why"})
        found[actors] = cfg, evaluate(cfg, networks)["image_metrics"]
    cloudpickle.unregister_pickle_by_value(standins)
    return found


def test_two_actors_find_what_one_finds(evaluated):
    one, two = (evaluated[actors][1] for actors in (1, 2))
    assert one["values"] == pytest.approx(two["values"], rel=1e-6)
    assert one["values"].keys() == {"fid", "kid", "kid_std", "frechet_shades", "pixel_diversity"}


def test_and_plain_python_too(evaluated, latents, model):
    semflow, rows = SemFlow.load(model), Rows(read_manifest(str(latents)), "val", 6)
    seeds = [sample_seed(0, name, 0) for name in rows.names]
    made, real = (
        semflow.synthesize(rows.ids, seeds).images,
        semflow.autoencoder.decode(rows.x_0),
    )
    one, other = (Shades()(to_bytes(x)) for x in (made, real))
    found = evaluated[2][1]["values"]
    fid = Gaussian.of(one).distance(Gaussian.of(other), unbiased=True)
    # Batches of another size may round a pixel otherwise.
    assert found["fid"] == pytest.approx(fid, rel=1e-3)
    assert found["kid"] == pytest.approx(kernel_distance(one, other).mean, rel=1e-3)
    away = []
    for ids, name in zip(rows.ids[:5], rows.names, strict=False):
        seeds = [sample_seed(0, name, n) for n in (0, 1)]
        first, second = semflow.synthesize(ids[None].expand(2, -1, -1), seeds).images
        away.append(float((first - second).square().mean().sqrt()))
    assert found["pixel_diversity"] == pytest.approx(np.mean(away), rel=1e-4)


def test_scores_and_what_is_unavailable_are_in_the_report_and_in_mlflow(evaluated):
    cfg, found = evaluated[1]
    output = Path(cfg.output)
    written = json.loads((output / "report.json").read_text())["image_metrics"]
    assert written == found
    page = (output / "report.html").read_text()
    assert "unavailable" in page
    assert "why" in page
    assert f"{found['values']['fid']:.4g}" in page
    assert logged(output, "fid")[0] == pytest.approx(found["values"]["fid"])


@pytest.fixture(scope="module")
def labels(corpus, tmp_path_factory):
    """Predictions for the validation photos: one wrong band, one at half the size, one missing."""
    folder = tmp_path_factory.mktemp("predictions")
    for number in range(100, 105):
        ids = scene(number)[1].copy()
        ids[:8] = 2
        if number == 101:
            ids = ids[::2, ::2]
        (folder / f"{number:04d}.png").write_bytes(encoded(ids))
    return folder


def config(corpus, labels, output, **options):
    of = Corpus(root=str(corpus), classes=CLASSES)
    return ScoreConfig(corpus=of, labels=str(labels), output=str(output), **options)


def test_labels_are_scored_at_the_resolution_of_the_truth(ray_session, corpus, labels, tmp_path):
    result = score(config(corpus, labels, tmp_path, allow_missing=True))
    assert result["missing"] == ["0105"]
    assert (result["pairs"], result["scored"], result["resized"]) == (6, 5, 1)
    matrix = ConfusionMatrix(3)
    for number in range(100, 105):
        truth = scene(number)[1]
        mask = Image.open(labels / f"{number:04d}.png").resize((64, 48), Image.Resampling.NEAREST)
        matrix.update(torch.tensor(np.asarray(mask)), torch.tensor(truth))
    assert result["confusion"] == matrix.counts.tolist()
    assert result["miou"] == pytest.approx(matrix.miou)
    assert "0105" in (tmp_path / "scores.html").read_text()
    assert json.loads((tmp_path / "scores.json").read_text()) == result
    assert logged(tmp_path, "miou")[0] == pytest.approx(result["miou"])
    some = score(config(corpus, labels, tmp_path / "some", allow_missing=True,
                        ignore_classes=("sky",), ignore_pixels=True))  # fmt: skip
    assert some["pixels"] == matrix.counts[1:].sum()


def test_a_missing_prediction_ends_the_job_with_its_name(corpus, labels, tmp_path):
    with pytest.raises(UserError, match="1 photos have no prediction: 0105"):
        score(config(corpus, labels, tmp_path))
    with pytest.raises(ValueError, match="--ignore-classes"):
        score(config(corpus, labels, tmp_path, ignore_classes=("sea",)))
