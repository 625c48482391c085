import io
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from pipelines.inference.masks import MaskReader
from pipelines.serving import uploads
from pipelines.serving.config import of_arguments
from pipelines.serving.uploads import Refused
from semflow import make_palette
from semflow.masks.classmap import ClassMap
from semflow.masks.given import GivenMasks
from tests.pictures import bomb, encoded, scene


def refusal(read, *args):
    with pytest.raises(Refused) as caught:
        read(*args)
    return caught.value.status, caught.value.reason


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_photos_of_the_three_kinds_are_read_as_the_jobs_read_them(kind):
    image = scene(0)[0]
    data = encoded(image, kind, quality=95)
    read = uploads.read_photo(data, image.size)
    assert np.array_equal(read, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_a_picture_is_refused_by_its_header_before_it_is_decoded(monkeypatch):
    def decoded(*_):
        raise AssertionError("decoded")

    monkeypatch.setattr(uploads.pixels, "open_image", decoded)
    for side in (1001, 20_000, 2**31 - 1):
        status, reason = refusal(uploads.read_photo, bomb(side, side), 1_000_000)
        assert status == 413
        assert "1000000" in reason


def test_promised_pixels_that_are_not_there_are_no_photo():
    assert refusal(uploads.read_photo, bomb(900, 900), 1_000_000)[0] == 400


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.95])
def test_cut_off_files_are_refused_and_never_raise_anything_else(kind, share):
    data = encoded(scene(1)[0], kind)
    status, reason = refusal(uploads.read_photo, data[: int(len(data) * share)], 10**6)
    assert status in (400, 415)
    assert reason


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_damaged_files_are_read_or_refused(kind):
    data = encoded(scene(2)[0], kind)
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            damaged[place] ^= int(rng.integers(1, 256))
        with suppress(Refused):
            assert uploads.read_photo(bytes(damaged), 10**5).dtype == np.uint8


@pytest.mark.parametrize(
    ("data", "status"),
    [(b"", 400), (b"hello", 415), (encoded(scene(0)[0], "GIF"), 415),
     (encoded(scene(0)[0], "BMP"), 415)],
)  # fmt: skip
def test_what_is_no_photo_is_refused(data, status):
    assert refusal(uploads.read_photo, data, 10**6)[0] == status


def test_masks_are_channels_of_class_ids():
    given = GivenMasks(
        classes=3, corpus=ClassMap(classes=3, ignore_ids=(9, 255)), masks_are="corpus"
    )
    labels, ids = MaskReader(make_palette("sphere", 3), given), scene(0)[1].copy()
    ids[0] = 9
    expected = np.where(ids == 9, 255, ids)
    index = Image.fromarray(ids)
    index.putpalette([0] * 768)
    buffer = io.BytesIO()
    index.save(buffer, "PNG")
    for data in (encoded(ids), buffer.getvalue()):
        assert np.array_equal(uploads.read_mask(data, labels, 10**6), expected)
    for picture, status, reason in (
        (encoded(scene(0)[0]), 400, "one channel"),
        (encoded(ids + 3), 400, r"3 classes"),
        (encoded(ids, "JPEG"), 415, "PNG"),
        (bomb(5000, 5000, grey=True), 413, "smaller"),
    ):
        found = refusal(uploads.read_mask, picture, labels, 10**6)
        assert found[0] == status
        assert reason in found[1]


def test_serves_arguments_are_spelled_as_the_command_lines():
    cfg = of_arguments({"model": "m", "max-batch": "4", "segment.steps": "2", "batch_wait_s": "0"})
    assert (cfg.max_batch, cfg.segment.steps, cfg.batch_wait_s) == (4, 2, 0.0)
    with pytest.raises(ValueError, match="max_bach"):
        of_arguments({"model": "m", "max_bach": "4"})
    with pytest.raises(ValueError, match="host"):
        of_arguments({"model": "m", "host": "0.0.0.0"})
    with pytest.raises(ValueError, match="max_pixels is at least 1"):
        of_arguments({"model": "m", "max_pixels": "0"})
