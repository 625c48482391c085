import io
from contextlib import suppress
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image

from pipelines.inference.masks import MaskReader
from pipelines.serving import service
from pipelines.serving.config import of_arguments
from pipelines.serving.decoding import jobs, pictures
from pipelines.serving.decoding.forms import Upload
from pipelines.serving.refused import Refused
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
    read = pictures.read_photo(data, image.size)
    assert np.array_equal(read, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_a_picture_is_refused_by_its_header_before_it_is_decoded(monkeypatch):
    def decoded(*_):
        raise AssertionError("decoded")

    monkeypatch.setattr(pictures.pixels, "open_image", decoded)
    for side in (1001, 20_000, 2**31 - 1):
        status, reason = refusal(pictures.read_photo, bomb(side, side), 1_000_000)
        assert status == 413
        assert "1000000" in reason


def test_promised_pixels_that_are_not_there_are_no_photo():
    assert refusal(pictures.read_photo, bomb(900, 900), 1_000_000)[0] == 400


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.95])
def test_cut_off_files_are_refused_and_never_raise_anything_else(kind, share):
    data = encoded(scene(1)[0], kind)
    status, reason = refusal(pictures.read_photo, data[: int(len(data) * share)], 10**6)
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
            assert pictures.read_photo(bytes(damaged), 10**5).dtype == np.uint8


@pytest.mark.parametrize(
    ("data", "status"),
    [(b"", 400), (b"hello", 415), (encoded(scene(0)[0], "GIF"), 415),
     (encoded(scene(0)[0], "BMP"), 415)],
)  # fmt: skip
def test_what_is_no_photo_is_refused(data, status):
    assert refusal(pictures.read_photo, data, 10**6)[0] == status


SIZE = (24, 16)
CORPUS = ClassMap(
    classes=3, ids=(1, 2, 3), ignore_ids=(0, 255), colours=("ff0000", "00ff00", "0000ff")
)
GREY = replace(CORPUS, colours=())


def read_mask(data, masks_are="classes", corpus=CORPUS):
    """A mask from the file to class numbers, as a request's goes."""
    given = GivenMasks(classes=3, corpus=corpus, masks_are=masks_are)
    reader = MaskReader(make_palette("sphere", 3), given)
    info, picture = jobs.mask(True, Upload(data), 10**6, SIZE, reader.takes_colours)
    found = service.read_mask(reader, picture, info["above"])
    assert found.shape == SIZE[::-1]
    return found


def small(ids):
    return np.asarray(Image.fromarray(ids).resize(SIZE, Image.Resampling.NEAREST))


def test_masks_are_values_whose_meaning_the_model_knows():
    ids = scene(0)[1].copy()
    ids[0] = 255
    index = Image.fromarray(ids)
    index.putpalette(make_palette("sphere", 3).png_palette())
    buffer = io.BytesIO()
    index.save(buffer, "PNG")
    for data in (encoded(ids), encoded(ids.astype(np.uint16)), buffer.getvalue()):
        assert np.array_equal(read_mask(data), small(ids))
    assert np.array_equal(read_mask(buffer.getvalue(), None), small(ids))  # ours, by its colours
    raw = np.where(ids == 255, 0, ids + 1).astype(np.uint8)
    assert np.array_equal(read_mask(encoded(raw), "corpus", GREY), small(ids))
    shown = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)[ids % 3]
    assert np.array_equal(read_mask(encoded(shown), "corpus"), small(ids % 3))


def test_masks_that_cannot_be_used_are_refused_with_the_reason():
    ids = scene(0)[1].copy()
    one = ids.copy()
    one[0, 0] = 77  # where the small mask does not look
    assert 77 not in small(one)
    noise = np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)
    for data, status, reason, more in (
        (encoded(scene(0)[0]), 400, "one channel", {}),
        (encoded(one), 400, "77", {}),
        (encoded(np.clip(ids, 1, 2)), 400, "--masks-are", {"masks_are": None, "corpus": GREY}),
        (encoded(noise), 400, "colours", {"masks_are": "corpus"}),
        (encoded(ids, "JPEG"), 415, "PNG", {}),
        (bomb(5000, 5000, grey=True), 413, "smaller", {}),
    ):
        found = refusal(partial(read_mask, **more), data)
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


def test_sides_have_a_limit_whatever_the_pixels():
    for width, height in ((1, 49_000_000), (49_000_000, 1), (2, 65_536)):
        for read, more in ((pictures.read_photo, ()), (pictures.read_mask, (False,))):
            status, reason = refusal(read, bomb(width, height, grey=True), *more, 50_000_000)
            assert status == 413
            assert "65535 a side" in reason


def test_what_is_more_than_quick_is_said_by_the_header():
    with pytest.raises(pictures.Slow):
        pictures.read_photo(bomb(50, 50), 10_000, 2_000)
