"""Label, synthesize, evaluate: complete, reproducible, and readable by others."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from pycocotools.mask import decode

from pipelines.config import RayOptions
from pipelines.evaluate import evaluate
from pipelines.evaluation.config import EvaluateConfig
from pipelines.evaluation.metricoptions import MetricOptions
from pipelines.inference.predictors import ModelOptions, SolverChoice
from pipelines.label import label
from pipelines.labelling.config import LabelConfig
from pipelines.labelling.tiled import TileOptions
from pipelines.synthesis.config import SynthesizeConfig
from pipelines.synthesis.drafts import sample_seed
from pipelines.synthesize import synthesize
from semflow import SemFlow, segment_tiled
from semflow.metrics.frechet import frechet_distance, pyramid_features
from tests.pictures import encoded, hostile, scene


@pytest.fixture(scope="module")
def labels(ray_session, model, tmp_path_factory):
    photos, output = tmp_path_factory.mktemp("photos"), tmp_path_factory.mktemp("labels") / "out"
    for number in range(10):
        image, _ = scene(number, 40 + number, 60)
        (photos / f"deep {number % 2}").mkdir(exist_ok=True)
        (photos / f"deep {number % 2}/ünï {number}.png").write_bytes(encoded(image))
    for name, data in hostile().items():
        (photos / name).write_bytes(data)
    cfg = LabelConfig(
        model=str(model), images=str(photos), output=str(output), photos_per_shard=6,
        max_bad_share=0.5, actors=ModelOptions(batch_size=3), confidence=True, review=3,
        formats=("png", "coco-panoptic", "coco-rle", "parquet"),
    )  # fmt: skip
    return cfg, photos, label(cfg)


def test_each_photo_has_an_index_mask_of_its_own_size(labels, model):
    cfg, photos, summary = labels
    assert summary["rows"] == 10
    assert [Path(line["file"]).name for line in summary["quarantined"]] == list(hostile())
    semflow = SemFlow.load(model)
    for photo in photos.glob("deep */*.png"):
        mask = Image.open(Path(cfg.output) / "masks" / photo.relative_to(photos))
        assert mask.mode == "P"
        assert mask.size == Image.open(photo).size
        assert np.asarray(mask).max() < 3
        colours = np.asarray(mask.convert("RGB")).reshape(-1, 3)
        assert set(map(tuple, colours.tolist())) <= set(semflow.palette.colours)


def test_masks_are_what_the_model_says(labels, model):
    cfg, photos, _ = labels
    photo = photos / "deep 0/ünï 0.png"
    resized = Image.open(photo).resize((48, 32), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(resized)).movedim(-1, 0)[None] / 127.5 - 1
    ids = SemFlow.load(model).segment(pixels).ids[0].byte().numpy()
    expected = Image.fromarray(ids).resize((60, 40), Image.Resampling.NEAREST)
    written = Image.open(Path(cfg.output) / "masks/deep 0/ünï 0.png")
    assert np.mean(np.asarray(written) == np.asarray(expected)) > 0.999  # rounding at borders


def test_the_table_has_a_row_for_each_mask(labels):
    cfg, _, _ = labels
    table = pq.read_table(Path(cfg.output) / "table").to_pylist()
    assert len(table) == 10
    assert len({row["image"] for row in table}) == 10
    for row in table:
        mask = np.asarray(Image.open(Path(cfg.output) / row["mask"]))
        assert mask.shape == (row["height"], row["width"])
        assert sum(row["class_share"]) == pytest.approx(1)
        assert 0 <= row["mean_margin"] <= 1


def test_where_actors_have_gpus_others_decode_and_write_the_same_files(labels, tmp_path):
    cfg, _, _ = labels
    one = replace(cfg.actors, threads=1)  # as many as an actor has where there is one a core
    gpu = RayOptions(gpus_per_actor=1)  # a number here: the model finds none and takes the CPU
    label(replace(cfg, output=str(tmp_path / "apart"), actors=one, ray=gpu))
    assert contents(tmp_path / "apart") == contents(Path(cfg.output))


def test_a_finished_label_does_nothing_and_another_is_refused(labels, tmp_path, capsys):
    cfg, _, summary = labels
    assert label(cfg) == summary
    assert "nothing to do" in capsys.readouterr().out
    with pytest.raises(ValueError, match="another configuration"):
        label(replace(cfg, solver=SolverChoice(steps=2)))
    elsewhere = shutil.copytree(cfg.images, tmp_path / "another day")
    with pytest.raises(ValueError, match="other inputs"):
        label(replace(cfg, images=str(elsewhere)))


def test_photos_that_come_later_are_labelled_then_and_no_other(ray_session, model, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(5):
        (photos / f"{number}.png").write_bytes(encoded(scene(number)[0]))
    (photos / "5.png").write_bytes(b"still on its way")
    cfg = LabelConfig(
        model=str(model), images=str(photos), output=str(photos / "labels"), photos_per_shard=3,
        max_bad_share=0.5, actors=ModelOptions(batch_size=3), review=4,
        formats=("png", "coco-panoptic"),
    )  # fmt: skip
    first = label(cfg)
    assert (first["rows"], len(first["quarantined"])) == (5, 1)
    before = {path: data for path, data in contents(photos / "labels").items() if "masks/" in path}
    (photos / "5.png").write_bytes(encoded(scene(5)[0]))
    (photos / "0.png").unlink()
    for number, name in ((6, "6.png"), (7, "0.jpg")):
        (photos / name).write_bytes(encoded(scene(number)[0]))
    second = label(cfg)
    assert (second["rows"], second["quarantined"]) == (8, [])
    after = contents(photos / "labels")
    assert before.items() <= after.items()
    assert {path for path in after if path.startswith("masks/")} == {
        f"masks/{name}.png" for name in (*range(7), "0.jpg")
    }
    table = pq.read_table(photos / "labels/table").to_pylist()
    assert sorted(row["image_id"] for row in table) == list(range(1, 9))
    panoptic = json.loads((photos / "labels/coco/panoptic.json").read_text())
    assert {image["id"]: image["file_name"] for image in panoptic["images"]} == {
        row["image_id"]: row["image"] for row in table
    }
    assert (photos / "labels/review.html").read_text().count("<h3>") == 4
    (photos / "1.png").write_bytes(encoded(scene(8)[0]) + b"longer")
    with pytest.raises(ValueError, match=r"1 inputs .* have changed since they were used"):
        label(cfg)


def test_all_forms_say_what_the_masks_say(labels):
    cfg, _, summary = labels
    output = Path(cfg.output)
    table = {row["image_id"]: row for row in pq.read_table(output / "table").to_pylist()}
    panoptic = json.loads((output / "coco/panoptic.json").read_text())
    results = json.loads((output / "coco/rle.json").read_text())
    rows = {row["image_id"]: row for row in pq.read_table(output / "parquet").to_pylist()}
    assert table.keys() == rows.keys() == {image["id"] for image in panoptic["images"]}
    for image, annotation in zip(panoptic["images"], panoptic["annotations"], strict=True):
        row = table[image["id"]]
        ids = np.asarray(Image.open(output / row["mask"]))
        assert image["file_name"] == row["image"] == rows[image["id"]]["image"]
        picture = np.asarray(Image.open(output / "coco/panoptic" / annotation["file_name"]))
        assert np.array_equal(picture[..., 0], ids + 1)
        assert rows[image["id"]]["mask"] == (output / row["mask"]).read_bytes()
        for result in (r for r in results if r["image_id"] == image["id"]):
            assert np.array_equal(decode(result["segmentation"]), ids == result["category_id"])
        confidence = np.asarray(Image.open(output / "confidence" / annotation["file_name"]))
        assert confidence.shape == (32, 48)  # as the model saw it
        assert confidence.mean() / 255 == pytest.approx(row["mean_margin"], abs=2e-3)
    assert summary["files"] == ["coco/panoptic.json", "coco/rle.json", "review.csv", "review.html"]
    worst = sorted(table.values(), key=lambda row: (-row["low_margin_share"], row["mean_margin"]))[
        :3
    ]
    lines = (output / "review.csv").read_text().splitlines()[1:]
    assert [line.split(",")[1] for line in lines] == [row["image"] for row in worst]


def contents(output):
    """Every file but the note of which MLflow run it was."""
    files = (path for path in output.rglob("*") if path.is_file() and path.name != "mlflow.json")
    return {str(path.relative_to(output)): path.read_bytes() for path in files}


def test_a_resumed_label_ends_with_the_bytes_of_an_undisturbed_one(labels, tmp_path):
    cfg, _, _ = labels
    whole, output = contents(Path(cfg.output)), tmp_path / "out"
    # As a kill within the second shard leaves it: files without a record, one of them torn.
    shutil.copytree(cfg.output, output)
    for path in whole:
        merged = path.startswith(("labels.json", "review.", "coco/panoptic.json", "coco/rle.json"))
        if merged or path in ("_progress/table/00001.json", "table/00001.parquet"):
            (output / path).unlink()
    (output / "coco/00001.rle.json").write_bytes(b"[{")
    (output / "_progress/review/00001.parquet").unlink(missing_ok=True)
    label(replace(cfg, output=str(output)))
    assert contents(output) == whole


def test_photos_in_tiles_keep_their_resolution(ray_session, model, labels, tmp_path):
    _, photos, _ = labels
    cfg = LabelConfig(
        model=str(model), images=str(photos), output=str(tmp_path / "out"), photos_per_shard=6,
        max_bad_share=0.5, tiles=TileOptions(on=True, overlap=0.5), formats=("coco-rle", "png"),
        review=2, actors=ModelOptions(batch_size=3),
    )  # fmt: skip
    summary = label(cfg)
    assert summary["rows"] == 10
    assert [Path(line["file"]).name for line in summary["quarantined"]] == list(hostile())
    semflow = SemFlow.load(model)
    for row in pq.read_table(tmp_path / "out/table").to_pylist():
        photo = torch.from_numpy(np.array(Image.open(photos / row["image"]))).movedim(-1, 0)
        expected = segment_tiled(semflow, photo, overlap=0.5, batch_size=3)
        written = np.asarray(Image.open(tmp_path / "out" / row["mask"]))
        assert np.mean(written == expected.ids[0].numpy()) > 0.999
        assert row["mean_margin"] == pytest.approx(float(expected.margin.mean()), abs=1e-3)
    assert (tmp_path / "out/review.html").read_text().count('alt="margin"') == 2


@pytest.fixture(scope="module")
def images(ray_session, model, tmp_path_factory):
    masks, output = tmp_path_factory.mktemp("masks"), tmp_path_factory.mktemp("images") / "out"
    for number in range(3):
        ids = scene(number)[1].copy()
        ids[:3, :5] = 9  # of no class, in the model's corpus
        (masks / f"{number}.png").write_bytes(encoded(ids))
    (masks / "colours.png").write_bytes(encoded(scene(0)[0]))
    cfg = SynthesizeConfig(
        model=str(model), masks=str(masks), output=str(output), samples=3, images_per_shard=4,
        max_bad_share=0.3, masks_are="corpus",
    )  # fmt: skip
    return cfg, masks, synthesize(cfg)


def test_every_image_can_be_made_again_from_its_recorded_seed(images, model):
    cfg, masks, summary = images
    assert summary["rows"] == 9
    assert len(summary["quarantined"]) == 1  # named once, though asked for thrice
    semflow = SemFlow.load(model)
    table = pq.read_table(Path(cfg.output) / "table").to_pylist()
    assert len({row["seed"] for row in table}) == 9
    for row in table[:4]:
        ids = np.asarray(Image.open(Path(cfg.output) / row["mask"]))
        source = Image.open(masks / row["source_mask"]).resize((48, 32), Image.Resampling.NEAREST)
        source = np.asarray(source)
        assert np.array_equal(ids, np.where(source == 9, 255, source))
        again = semflow.synthesize(torch.from_numpy(ids.copy())[None], [row["seed"]]).images[0]
        written = torch.from_numpy(np.array(Image.open(Path(cfg.output) / row["image"])))
        expected = ((again + 1) * 127.5).round().byte().movedim(0, -1)
        assert (expected.int() - written.int()).abs().max() <= 1  # batches round differently


def test_synthesized_images_are_a_corpus(images):
    from pipelines.corpora import Corpus, list_pairs

    cfg, _, _ = images
    pairs, bad, _ = list_pairs(Corpus(root=cfg.output, images="images", masks="masks"), "train")
    assert pairs.num_rows == 9
    assert not bad


def test_the_report_says_what_the_model_does(latents, model, corpus, tmp_path, ray_session):
    photos = corpus / "images/val"
    cfg = EvaluateConfig(
        model=str(model), data=str(latents), output=str(tmp_path), pictures=2,
        metrics=MetricOptions(compute=("frechet-pyramid",), real=str(photos)),
    )  # fmt: skip
    result = evaluate(cfg)
    assert result["images"] == 6
    assert 0 <= result["segmentation"]["miou"] <= 1
    assert result["segmentation"]["nfe"] == 1
    assert result["synthesis"]["nfe"] == 2
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["segmentation"] == result["segmentation"]
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "tree" in page
    assert sum(one["share"] for one in written["segmentation"]["calibration"]["bins"]) == (
        pytest.approx(1)
    )
    # The score is that of the model itself, on the same rows.
    from pipelines.dataset.latents import Rows, read_manifest
    from semflow import ConfusionMatrix

    rows, semflow = Rows(read_manifest(str(latents)), "val", 6), SemFlow.load(model)
    confusion = ConfusionMatrix(3)
    confusion.update(semflow.segment_latents(rows.x_0).ids, rows.ids)
    assert result["segmentation"]["miou"] == pytest.approx(confusion.miou, abs=1e-3)
    # And its images are compared with the photos that were named.
    files = sorted(photos.iterdir())
    small = [Image.open(file).resize((48, 32), Image.Resampling.BICUBIC) for file in files]
    real = torch.from_numpy(np.stack([np.array(photo) for photo in small])).movedim(-1, 1)
    made = semflow.synthesize(rows.ids, [sample_seed(0, name, 0) for name in rows.names]).images
    expected = frechet_distance(pyramid_features(made), pyramid_features(real / 127.5 - 1))
    found = result["image_metrics"]
    assert found["real"] == f"photos of {photos}, resized to 48x32"
    assert found["values"]["frechet_pyramid"] == pytest.approx(expected, rel=0.02)  # 8 bits


def test_a_model_of_other_classes_is_refused(latents, model, tmp_path):
    index = json.loads((model / "model_index.json").read_text())
    index["palette"]["names"] = ["a", "b", "c"]
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="the model knows the classes"):
        evaluate(EvaluateConfig(model=str(tmp_path), data=str(latents), output=str(tmp_path / "o")))
    with pytest.raises(ValueError, match="no SemFlow model"):
        label(LabelConfig(model=str(latents), images=str(latents), output=str(tmp_path / "o")))
