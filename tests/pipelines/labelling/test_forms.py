"""Forms of masks: what is written is what others' readers read, and says what the ids say."""

import io
import json
import tracemalloc

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pycocotools import mask

from pipelines.labelling.forms import FORMS, CocoPanoptic, CocoRle, Labelled, Parquet, Png
from semflow import Palette

NAMES = tuple(f"class {n}" for n in range(255))
PALETTE = Palette(tuple((n, 255 - n, n // 2) for n in range(255)), NAMES)  # as many as there can be


def labelled(number, height=13, width=17):
    rng = np.random.default_rng(number)
    ids = rng.choice([0, 1, 7, 200, 254], (height, width)).astype(np.uint8)
    ids[2:9, 3:8] = number % 255
    confidence = rng.integers(0, 256, (height, width)).astype(np.uint8)
    name = f"deep/ünï {number}"
    return Labelled(name, f"{name}.jpg", number + 1, ids, ids, confidence)


PHOTOS = [labelled(0), labelled(1, 1, 1), labelled(254, 40, 3), labelled(9)]


def written(form, photos, number="00000"):
    files = {path: data for photo in photos for path, data in form.files(photo).items()}
    return files | form.shard(number, [form.entry(photo) for photo in photos])


def test_png_masks_are_the_ids_and_show_the_anchors():
    files = written(Png(PALETTE), PHOTOS)
    for photo in PHOTOS:
        image = Image.open(io.BytesIO(files[f"masks/{photo.name}.png"]))
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), photo.ids)
        shown = np.asarray(image.convert("RGB"))
        assert np.array_equal(shown, np.array(PALETTE.colours, np.uint8)[photo.ids])


def check_panoptic(data, files, photos):
    """What panopticapi's converter and evaluation demand (utils.rgb2id, evaluation.pq_compute)."""
    categories = {category["id"]: category for category in data["categories"]}
    images = {image["id"]: image for image in data["images"]}
    assert len(images) == len(data["images"]) == len(data["annotations"]) == len(photos)
    for annotation, photo in zip(data["annotations"], photos, strict=True):
        image = images[annotation["image_id"]]
        assert image["file_name"] == photo.path
        picture = Image.open(io.BytesIO(files[f"coco/panoptic/{annotation['file_name']}"]))
        assert (picture.mode, picture.size) == ("RGB", (image["width"], image["height"]))
        red, green, blue = np.moveaxis(np.asarray(picture).astype(int), -1, 0)
        ids = red + 256 * green + 65536 * blue
        found = dict(zip(*np.unique(ids, return_counts=True), strict=True))
        segments = {segment["id"]: segment for segment in annotation["segments_info"]}
        assert len(segments) == len(annotation["segments_info"])
        assert 0 not in found  # COCO's void
        assert found == {number: segment["area"] for number, segment in segments.items()}
        for number, segment in segments.items():
            assert segment["category_id"] in categories
            assert segment["iscrowd"] == 0
            assert np.array_equal(ids == number, photo.ids == segment["category_id"])
            rows, columns = np.nonzero(ids == number)
            box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert segment["bbox"] == box


def test_coco_panoptic_keeps_panopticapis_rules():
    files = written(CocoPanoptic(PALETTE), PHOTOS)
    data = json.loads(files["coco/00000.panoptic.json"])
    check_panoptic(data, files, PHOTOS)
    assert [c["name"] for c in data["categories"]] == list(NAMES)


def test_coco_run_lengths_come_back_through_pycocotools():
    results = json.loads(written(CocoRle(PALETTE), PHOTOS)["coco/00000.rle.json"])
    for photo in PHOTOS:
        mine = [result for result in results if result["image_id"] == photo.image_id]
        back = np.full(photo.ids.shape, 255, np.uint8)
        for result in mine:
            segment = mask.decode(result["segmentation"]).astype(bool)
            assert (back[segment] == 255).all()  # no pixel is of two classes
            back[segment] = result["category_id"]
            assert result["area"] == mask.area(result["segmentation"])
            assert result["bbox"] == mask.toBbox(result["segmentation"]).tolist()
            margin = photo.confidence[segment].mean() / 255
            assert result["score"] == pytest.approx(margin, abs=1e-4)
        assert np.array_equal(back, photo.ids)


def test_parquet_has_the_mask_beside_the_path():
    files = written(Parquet(PALETTE), PHOTOS)
    rows = pq.read_table(io.BytesIO(files["parquet/00000.parquet"])).to_pylist()
    for row, photo in zip(rows, PHOTOS, strict=True):
        assert (row["image"], row["image_id"]) == (photo.path, photo.image_id)
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(row["mask"]))), photo.ids)


@pytest.fixture
def shards(tmp_path):
    """Every form's files of three shards, merged."""
    parts, files = {"00000": PHOTOS[:2], "00003": PHOTOS[2:3], "00004": PHOTOS[3:]}, {}
    for number, photos in parts.items():
        for form in FORMS.values():
            files |= written(form(PALETTE), photos, number)
    for path, data in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    merged = [
        path for form in FORMS.values() for path in form(PALETTE).merge(str(tmp_path), list(parts))
    ]
    return tmp_path, files, merged


def test_what_is_merged_is_what_the_shards_say_in_their_order(shards):
    folder, files, merged = shards
    assert merged == ["coco/panoptic.json", "coco/rle.json"]
    check_panoptic(json.loads((folder / "coco/panoptic.json").read_text()), files, PHOTOS)
    results = json.loads((folder / "coco/rle.json").read_text())
    expected = [json.loads(files[f"coco/{n}.rle.json"]) for n in ("00000", "00003", "00004")]
    assert results == [result for shard in expected for result in shard]


def test_merging_holds_a_few_shards_and_never_all(tmp_path):
    photos = [labelled(n) for n in range(3)]
    shards = {kind: written(form(PALETTE), photos)[f"coco/00000.{kind}.json"]
              for kind, form in (("rle", CocoRle), ("panoptic", CocoPanoptic))}  # fmt: skip
    numbers, total = [f"{n:05d}" for n in range(300)], 0
    (tmp_path / "coco").mkdir()
    slim = json.loads(shards["panoptic"]) | {"categories": []}
    for number in numbers:
        for kind, data in (("rle", shards["rle"]), ("panoptic", json.dumps(slim).encode())):
            (tmp_path / f"coco/{number}.{kind}.json").write_bytes(data)
            total += len(data)
    tracemalloc.start()
    for form in (CocoRle, CocoPanoptic):
        form(PALETTE).merge(str(tmp_path), numbers)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total > 1e6
    assert peak < total / 3  # parsed, the whole would be several times as large as its text
    assert len(json.loads((tmp_path / "coco/panoptic.json").read_text())["images"]) == 900
