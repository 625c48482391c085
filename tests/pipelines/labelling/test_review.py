"""What a labelled shard leaves behind, and the list of what to look at first."""

import base64
import csv
import io
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines.corpora import pixels
from pipelines.labelling import review
from pipelines.labelling.labelled import WriteLabels
from semflow import make_palette
from tests.pictures import encoded

PALETTE = make_palette("sphere", ["sky", "road", "<tree>"])
WORST = ["a/5.png", "a/15.png", "a/25.png"]
SIZES = [(40, 60), (400, 330), (64, 64), (3, 200)]


def columns(first, count, *, packed):
    """What the actors hand to the writer; in each shard's sixth photo all is in doubt."""
    rng = np.random.default_rng(first)
    rows = []
    for number in range(first, first + count):
        height, width = SIZES[number % len(SIZES)]
        seen = (height, width) if packed else (32, 48)
        ids = rng.integers(0, 3, seen).astype(np.uint8)
        confidence = rng.integers(0, 256, seen).astype(np.uint8)
        if number % 10 == 5:
            confidence[:] = 0
        rows.append(
            {"name": f"a/{number}", "path": f"a/{number}.png", "image_id": number + 1,
             "width": width, "height": height, "margin": round(number * 7 % 10 / 10, 1),
             "ids": pixels.png(ids) if packed else ids,
             "confidence": pixels.png(confidence) if packed else confidence}
        )  # fmt: skip
    return {key: [row[key] for row in rows] for key in rows[0]}


@pytest.fixture(params=[False, True], ids=["arrays", "packed"])
def labelled(request, tmp_path):
    """Three shards, written as the job does, with the photos beside them."""
    images = tmp_path / "photos"
    (images / "a").mkdir(parents=True)
    for number in range(30):
        height, width = SIZES[number % len(SIZES)]
        (images / f"a/{number}.png").write_bytes(
            encoded(np.full((height, width, 3), number * 8, np.uint8))
        )
    output = str(tmp_path / "out")
    write = WriteLabels(output, PALETTE, "f", images=str(images), confidence=True, review=7)
    made = {n: columns(10 * n, 10, packed=request.param) for n in range(3)}
    shards = [write(f"table/{number:05d}", shard) for number, shard in made.items()]
    return output, shards, images, made


def test_the_table_says_what_the_confidence_pictures_show(labelled):
    output, shards, *_ = labelled
    rows = [row for s in shards for row in pq.read_table(f"{output}/{s['path']}").to_pylist()]
    assert [row["image_id"] for row in rows] == list(range(1, 31))
    for row in rows:
        picture = Image.open(f"{output}/confidence/{row['image'].removesuffix('.png')}.png")
        assert picture.mode == "L"
        margin = np.asarray(picture) / 255
        assert row["low_margin_share"] == pytest.approx((margin < 0.1).mean())
        mask = Image.open(f"{output}/{row['mask']}")
        assert mask.size == (row["width"], row["height"])
        assert sum(row["class_share"]) == pytest.approx(1)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_the_list_is_the_lowest_of_all_worst_first(labelled, count, tmp_path):
    output, shards, images, made = labelled
    output = str(shutil.copytree(output, tmp_path / "copy"))  # what is not shown is removed
    review.publish(output, shards, count, str(images), PALETTE)
    rows = []
    for shard in made.values():
        for margin, number, path, seen in zip(
            *(shard[key] for key in ("margin", "image_id", "path", "confidence")), strict=True
        ):
            picture = pixels.open_image(seen) if isinstance(seen, bytes) else seen
            rows.append((np.mean(np.asarray(picture) / 255 >= 0.1), margin, number, path))
    expected = [(path, pytest.approx(score, abs=1e-6)) for score, _, _, path in sorted(rows)]
    expected = expected[:count]
    assert [path for path, _ in expected][:3] == WORST[:count]
    with open(f"{output}/review.csv") as file:
        found = list(csv.DictReader(file))
    assert [(line["path"], float(line["score"])) for line in found] == expected
    assert [int(line["rank"]) for line in found] == list(range(1, count + 1))
    page = Path(output, "review.html").read_text()
    assert re.findall(r"<h3>\d+\. (.*?)</h3>", page) == [path for path, _ in expected]


def test_only_small_pictures_that_are_shown_stay_and_are_enough_to_go_on(labelled, tmp_path):
    output, shards, images, _ = labelled
    output = str(shutil.copytree(output, tmp_path / "copy"))
    page = review.publish(output, shards, 1, str(images), PALETTE)
    assert len(os.listdir(f"{output}/_progress/review")) == 1
    assert review.publish(output, shards, 1, str(images), PALETTE) == page


def test_the_page_holds_photo_labels_and_margin_of_each(labelled, tmp_path):
    output, shards, images, _ = labelled
    output = str(shutil.copytree(output, tmp_path / "copy"))
    page = review.publish(output, shards, 4, str(images), PALETTE).decode()
    found = re.findall(r'alt="(.*?)" src="data:image/\w+;base64,(.*?)"', page)
    assert [name for name, _ in found] == ["photo", "labels", "margin"] * 4
    shapes = [Image.open(io.BytesIO(base64.b64decode(data))).size for _, data in found]
    for three in zip(*[iter(shapes)] * 3, strict=True):
        assert len(set(three)) == 1  # of one size, whatever the model saw
        assert max(three[0]) <= review.SIDE
    assert "<tree>" not in page
    assert "&lt;tree&gt;" in page
    assert not re.search(r'(src|href)="(?!data:)', page)  # can be sent as it is


def test_a_photo_that_is_gone_is_listed_with_what_there_is(labelled):
    output, shards, images, _ = labelled
    (images / WORST[0]).unlink()
    page = review.publish(output, shards, 1, str(images), PALETTE).decode()
    assert re.findall(r'alt="(.*?)"', page) == ["labels", "margin"]


def test_fewer_photos_than_the_list_has_room_for_are_all_listed(labelled):
    output, shards, *_ = labelled
    found = review.survey(output, shards, 1000)
    assert found.photos == len(found.worst) == found.counts.sum() == 30
    assert found.margin == pytest.approx(sum(row["mean_margin"] for row in found.worst))
