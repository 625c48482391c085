"""The bad and the odd inputs: each is read rightly or refused with its reason."""

import io

import numpy as np
import pytest
from PIL import Image

from pipelines.corpora import pixels
from pipelines.corpora.masks import LabelMap
from pipelines.corpora.pixels import BadInput
from tests.pictures import encoded, scene, with_broken_exif

IMAGE, IDS = scene(0)


def read(image: bytes, mask: bytes, ignore=(255,)):
    ids = LabelMap(classes=3, ignore_ids=ignore).read(mask)
    return pixels.fit_photo(image, ids), ids


def saved(image: Image.Image, kind="PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def test_a_good_pair_comes_as_it_is():
    photo, ids = read(encoded(IMAGE), encoded(IDS))
    assert np.array_equal(photo, IMAGE)
    assert np.array_equal(ids, IDS)


@pytest.mark.parametrize(
    ("image", "mask", "reason"),
    [
        (b"", encoded(IDS), "empty"),
        (encoded(IMAGE, "JPEG")[:900], encoded(IDS), "not a whole image"),
        (b"hello, I am no image", encoded(IDS), "not a whole image"),
        (encoded(IMAGE), b"", "empty"),
        (encoded(IMAGE), encoded(IDS)[:60], "not a whole image"),
        (encoded(IMAGE), encoded(IDS[:40]), "sizes differ: the photo is 64x48, its mask 64x40"),
        (encoded(IMAGE), encoded(IDS + 2), r"values \[3, 4\] are beyond the 3 classes"),
        (encoded(IMAGE), encoded(IMAGE), "mode RGB with 3 channels"),
    ],
    ids=[
        "zero bytes",
        "truncated",
        "no image",
        "empty mask",
        "cut mask",
        "sizes",
        "ids",
        "colours",
    ],
)
def test_what_cannot_be_used_says_why(image, mask, reason):
    with pytest.raises(BadInput, match=reason):
        read(image, mask)


def test_ignored_ids_become_255():
    ids = IDS.copy()
    ids[:5], ids[5:9] = 11, 255
    _, read_ids = read(encoded(IMAGE), encoded(ids), ignore=(11, 255))
    assert (read_ids[:9] == 255).all()
    assert np.array_equal(read_ids[9:], IDS[9:])


def test_palette_masks_are_read_by_index():
    mask = Image.fromarray(IDS)
    mask.putpalette([7, 7, 7] * 256)  # all alike: only the indices tell the classes apart
    _, ids = read(encoded(IMAGE), saved(mask))
    assert np.array_equal(ids, IDS)


def test_16_bit_masks_are_read_by_value():
    _, ids = read(encoded(IMAGE), saved(Image.fromarray(IDS.astype(np.uint16))))
    assert np.array_equal(ids, IDS)
    with pytest.raises(BadInput, match=r"\[300\]"):
        read(encoded(IMAGE), saved(Image.fromarray(np.full((48, 64), 300, np.uint16))))


def test_grey_cmyk_16_bit_and_transparent_photos_become_rgb():
    grey = np.asarray(Image.fromarray(IMAGE).convert("L"))
    photo, _ = read(encoded(grey), encoded(IDS))
    assert np.array_equal(photo, np.repeat(grey[..., None], 3, 2))
    photo, _ = read(saved(Image.fromarray(grey.astype(np.uint16) * 257)), encoded(IDS))
    assert np.array_equal(photo, np.repeat(grey[..., None], 3, 2))
    photo, _ = read(saved(Image.fromarray(IMAGE).convert("RGBA")), encoded(IDS))
    assert np.array_equal(photo, IMAGE)
    cmyk = saved(Image.fromarray(IMAGE).convert("CMYK"), "JPEG", quality=100)
    photo, _ = read(cmyk, encoded(IDS))
    assert photo.shape == IMAGE.shape
    assert np.abs(photo.astype(int) - IMAGE).mean() < 12


def rotated() -> bytes:
    """A photo stored on its side, with the EXIF orientation that turns it upright."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    on_its_side = Image.fromarray(IMAGE).transpose(Image.Transpose.ROTATE_90)
    return saved(on_its_side, "PNG", exif=exif)


def test_an_exif_rotated_photo_is_turned_upright_to_its_mask():
    photo, _ = read(rotated(), encoded(IDS))
    assert np.array_equal(photo, IMAGE)


def test_a_mask_drawn_on_the_unturned_pixels_keeps_the_photo_unturned():
    sideways = np.ascontiguousarray(np.rot90(IDS))
    photo, ids = read(rotated(), encoded(sideways))
    assert np.array_equal(photo, np.rot90(IMAGE))
    assert np.array_equal(ids, sideways)


def test_a_decompression_bomb_is_refused_by_its_header():
    with pytest.raises(BadInput, match="too large an image: 64x48 are more than 3071 pixels"):
        pixels.read_photo(encoded(IMAGE), max_pixels=64 * 48 - 1)
    assert pixels.read_photo(encoded(IMAGE), max_pixels=64 * 48).shape == IMAGE.shape


def test_a_broken_exif_block_is_a_reason_and_no_crash():
    broken = with_broken_exif(encoded(IMAGE))
    for read_it in (pixels.read_photo, lambda data: read(data, encoded(IDS))):
        with pytest.raises(BadInput, match="EXIF block is broken"):
            read_it(broken)


@pytest.mark.parametrize("values", [IDS / 11, IDS.astype(np.int32), IDS.astype(np.int32) * 10**7])
def test_pixels_of_32_bits_are_refused_where_nothing_says_which_is_white(values):
    wide = saved(Image.fromarray(values.astype(np.float32 if values.dtype == float else np.int32)),
                 "TIFF")  # fmt: skip
    with pytest.raises(BadInput, match="32 bits"):
        pixels.read_photo(wide)


def test_only_formats_that_pillow_reads_itself_are_opened():
    with pytest.raises(BadInput, match="of no kind that is known"):
        pixels.read_photo(saved(Image.fromarray(IMAGE), "EPS"))


def test_the_first_view_is_the_whole_and_every_second_is_mirrored():
    views = pixels.plan_views(64, 48, count=9, min_scale=0.5, aspect=1.0, seed=[1, 2])
    assert views == pixels.plan_views(64, 48, count=9, min_scale=0.5, aspect=1.0, seed=[1, 2])
    assert views[0] == pixels.View(0, 0, 64, 48, False)
    assert [view.flip for view in views] == [False, True] * 4 + [False]
    for view in views[1:]:
        assert view.width == view.height  # the aspect asked for
        assert 24 <= view.width <= 48
        assert 0 <= view.left <= 64 - view.width
        assert 0 <= view.top <= 48 - view.height


def test_views_cut_photo_and_mask_alike():
    checker = np.kron(np.indices((6, 8)).sum(0) % 2, np.ones((8, 8))).astype(np.uint8)
    photo = np.repeat(checker[..., None] * 255, 3, 2)
    for view in pixels.plan_views(64, 48, count=6, min_scale=0.5, aspect=4 / 3, seed=[3]):
        image, ids = pixels.cut(photo, checker, view, 64, 48)
        assert ((image[..., 0] > 127) == ids).mean() > 0.9
    flipped, _ = pixels.cut(IMAGE, IDS, pixels.View(0, 0, 64, 48, True), 64, 48)
    assert np.array_equal(flipped, IMAGE[:, ::-1])
