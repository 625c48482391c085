"""The bad and the odd inputs: each is read rightly or refused with its reason."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pipelines.corpora import Corpus, pixels
from pipelines.corpora.masks import LabelMap
from pipelines.corpora.pixels import BadInput
from tests.pictures import encoded, png_chunk, scene, with_broken_exif

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


def packed(ids, bits):
    """Rows of samples of so few bits."""
    of_each = np.unpackbits(ids[..., None], axis=2)[..., 8 - bits :]
    return np.packbits(of_each.reshape(len(ids), -1), 1)


def grey_png(ids, bits):
    """A grey PNG whose samples of so few bits are the ids, as encoders write it."""
    height, width = ids.shape
    rows = np.packbits(
        np.unpackbits(ids[..., None], axis=2)[..., 8 - bits :].reshape(height, -1), 1
    )
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def grey_tiff(ids, bits, white_is_zero):
    """An uncompressed grey TIFF of so few bits."""
    height, width = ids.shape
    data = packed(ids, bits).tobytes()
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: 0 if white_is_zero else 1,
            273: 8, 277: 1, 278: height, 279: len(data)}  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    where = struct.pack("<I", 8 + len(data))
    return b"II*\0" + where + data + struct.pack("<H", len(tags)) + entries + b"\0" * 4


def pgm(ids, most):
    return f"P5 {ids.shape[1]} {ids.shape[0]} {most}\n".encode() + ids.tobytes()


@pytest.mark.parametrize(
    ("bits", "classes"), [(1, 2), (2, 3), (4, 3), (4, 16), (8, 20)], ids=lambda value: str(value)
)
def test_ids_of_few_bits_are_what_the_file_stores(bits, classes):
    ids = (np.indices((12, 16)).sum(0) % classes).astype(np.uint8)
    labels = LabelMap(classes=max(classes, 20))
    files = [grey_png(ids, bits), pgm(ids, 2**bits - 1), grey_tiff(ids, bits, False),
             grey_tiff(ids, bits, True)]  # fmt: skip
    if bits == 1:
        files += [saved(Image.fromarray(ids.astype(bool))), saved(Image.fromarray(ids > 0), "TIFF")]
    for data in files:
        assert np.array_equal(labels.read(data), ids)


COLOURS = np.array([[0, 0, 0], [255, 255, 255], [170, 170, 170], [224, 224, 192]], np.uint8)
NAMED = ("000000", "255,255,255", "#AAAAAA")


def as_kinds(values, table):
    """One mask as every kind of picture that shows the same colours."""
    shown = table[values]
    backwards = Image.fromarray(len(table) - 1 - values)
    backwards.putpalette(table[::-1].ravel().tolist())
    by_index = Image.fromarray(values)
    by_index.putpalette(table.ravel().tolist())
    alpha = Image.fromarray(shown)
    alpha.putalpha(128)
    kinds = [Image.fromarray(shown), alpha, by_index, backwards]
    if (shown == shown[..., :1]).all():
        kinds += [Image.fromarray(shown[..., 0]), Image.fromarray(shown[..., 0]).convert("LA"),
                  Image.fromarray(shown[..., 0].astype(np.uint16) * 257)]  # fmt: skip
    return kinds


def test_with_colours_every_kind_of_picture_is_read_by_what_it_shows():
    labels = LabelMap(classes=3, colours=NAMED)
    for image in as_kinds(IDS, COLOURS[:3]):
        for kind in ("PNG", "TIFF"):
            assert np.array_equal(labels.read(saved(image, kind)), IDS), (image.mode, kind)
    two = LabelMap(classes=2, colours=("ffffff", "000000"))
    for data in (saved(Image.fromarray(IDS > 0)), grey_png((IDS > 0).astype(np.uint8), 1)):
        assert np.array_equal(two.read(data), IDS == 0)  # 1 bit: white is class 0 here
    few = LabelMap(classes=3, colours=("000000", "555555", "aaaaaa"))
    assert np.array_equal(few.read(grey_png(IDS, 2)), IDS)
    with pytest.raises(BadInput, match="no colours of 8 bits"):
        labels.read(saved(Image.fromarray(IDS.astype(np.uint16))))


def test_with_ids_and_colours_one_channel_is_read_by_value():
    labels = LabelMap(classes=3, ids=(5, 6, 7), colours=NAMED)
    assert np.array_equal(labels.read(encoded(IDS + 5)), IDS)
    assert np.array_equal(labels.read(encoded(COLOURS[IDS])), IDS)


def test_colours_to_ignore_are_ignored_and_a_typo_is_found():
    labels = LabelMap(classes=3, colours=NAMED, ignore_colours=("e0e0c0",))
    values = IDS.copy()
    values[:3] = 3
    expected = np.where(values == 3, 255, values)
    for image in as_kinds(values, COLOURS):
        assert np.array_equal(labels.read(saved(image)), expected), image.mode
    wrong = COLOURS[values]
    wrong[0, 0] = 1, 2, 3
    with pytest.raises(BadInput, match=r"010203.*ignore-colours"):
        labels.read(encoded(wrong))


@pytest.mark.parametrize("colour", ["255,0", "256,0,0", "red", "#12345", "1;2;3"])
def test_what_is_no_colour_is_refused_by_name(colour):
    with pytest.raises(ValueError, match="is no colour: write RRGGBB"):
        Corpus(classes=("a", "b"), colours=("000000", colour))


@pytest.mark.parametrize(
    ("colours", "ignored"), [(("000000", "0,0,0"), ()), (("000000", "010101+#000000"), ()),
                             (("000000", "010101"), ("1,1,1",))],
)  # fmt: skip
def test_a_colour_stands_for_one_thing(colours, ignored):
    with pytest.raises(ValueError, match="is that of"):
        Corpus(classes=("a", "b"), colours=colours, ignore_colours=ignored)


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
