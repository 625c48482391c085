"""Photos that store 16 bits and use fewer are as bright as those of 8."""

import io
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from pipelines.corpora import Corpus, list_splits, pixels
from pipelines.corpora.pixels import BadInput
from pipelines.corpora.readers.orientation import as_found, white
from pipelines.dataset.config import EncodeConfig, recipe
from semflow import make_palette
from tests.pictures import encoded, png_chunk, write_pair

GREY = np.arange(24 * 32, dtype=np.uint8).reshape(24, 32)  # 0..255 three times
COLOURS = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], 2)
IDS = (GREY > 99).astype(np.uint8)
BITS = {8: 255, 10: 1023, 12: 4095, 14: 16383, 16: 65535}


def samples(picture, bits):
    """What a camera of so many bits stores for it, exactly."""
    return np.round(picture.astype(np.float64) * BITS[bits] / 255).astype(np.uint16)


def png(values, significant=None):
    """A PNG of 16 bits, grey or colours, with or without the chunk that says how many are used."""
    colour = 2 if values.ndim == 3 else 0
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    if significant:
        chunks.insert(1, (b"sBIT", bytes([significant] * (3 if colour else 1))))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def tiff(values, tag=None, said=0):
    info = TiffImagePlugin.ImageFileDirectory_v2()
    if tag:
        info[tag] = said
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "TIFF", tiffinfo=info)
    return buffer.getvalue()


def colour_tiff(values, order):
    """An uncompressed TIFF of 16 bits a colour, in either order of bytes."""
    height, width, _ = values.shape
    data = values.astype(f"{order}u2").tobytes()
    bits = struct.pack(f"{order}3H", 16, 16, 16)
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, 8), (259, 4, 1, 1), (262, 4, 1, 2),
            (273, 4, 1, 14), (277, 4, 1, 3), (278, 4, 1, height),
            (279, 4, 1, len(data))]  # fmt: skip
    entries = b"".join(struct.pack(f"{order}HHII", *entry) for entry in tags)
    sign = {"<": b"II*\0", ">": b"MM\0*"}[order]
    where = struct.pack(f"{order}I", 14 + len(data))
    count = struct.pack(f"{order}H", len(tags))
    return sign + where + bits + data + count + entries + b"\0" * 4


def alike(photo, picture):
    """Within what rounding to more bits and cutting back to 8 may lose."""
    shown = np.repeat(picture[..., None], 3, 2) if picture.ndim == 2 else picture
    return np.abs(photo.astype(int) - shown).max() <= 1


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("picture", [GREY, COLOURS], ids=["grey", "colours"])
def test_every_depth_is_read_to_its_white(picture, bits):
    values = samples(picture, bits)
    kinds = [png(values)]
    kinds += [tiff(values)] if values.ndim == 2 else [colour_tiff(values, order) for order in "<>"]
    for data in kinds:
        assert alike(pixels.fit_photo(data, IDS, white=BITS[bits]), picture)
        if bits in (8, 12, 16):
            assert alike(pixels.read_photo(data), picture)


@pytest.mark.parametrize("bits", [10, 14])
def test_a_photo_alone_is_read_by_its_tags(bits):
    grey = samples(GREY, bits)
    files = [png(grey, bits), tiff(grey, 50717, BITS[bits]), tiff(grey, 281, BITS[bits] - 9)]
    for data in files:
        assert alike(pixels.read_photo(data), GREY)
    assert alike(pixels.read_photo(png(samples(COLOURS, bits), bits)), COLOURS)


def test_significant_bits_at_the_upper_end_are_left_there():
    upper = samples(GREY, 12) << 4  # as the standard of PNG has it
    assert alike(pixels.read_photo(png(upper, 12)), GREY)


def test_a_tag_below_the_largest_sample_does_not_count():
    assert alike(pixels.read_photo(tiff(samples(GREY, 16), 281, 255)), GREY)
    assert alike(pixels.read_photo(tiff(samples(GREY, 12), 281, 300)), GREY)


def test_a_sample_above_white_is_a_reason():
    with pytest.raises(BadInput, match=r"a sample of 65535, where white is 4095: --corpus.white"):
        pixels.fit_photo(png(samples(GREY, 16)), IDS, white=4095)
    clipped = pixels.fit_photo(png(samples(GREY, 12)), IDS, white=3000)
    assert clipped.max() == 255
    assert (clipped == 255).mean() > 0.2


def test_32_bits_are_taken_where_white_is_given():
    wide = encoded(Image.fromarray(samples(GREY, 8).astype(np.int32)), "TIFF")
    with pytest.raises(BadInput, match="32 bits"):
        pixels.fit_photo(wide, IDS)
    assert alike(pixels.fit_photo(wide, IDS, white=255), GREY)


def test_a_turned_photo_stays_turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(np.rot90(samples(GREY, 12))).save(buffer, "PNG", exif=exif)
    assert alike(pixels.read_photo(buffer.getvalue()), GREY)


def corpus_of(root, files):
    for number, data in enumerate(files):
        write_pair(root, "train", f"{number}", data, encoded(IDS), "png")
    return Corpus(root=str(root), splits=("train",), classes=("a", "b"))


def test_a_corpus_has_one_white_and_says_it(tmp_path, capsys):
    dark = samples(GREY // 8, 12)  # alone it would be taken for one of 10 bits
    corpus = corpus_of(tmp_path, [png(dark), png(samples(GREY, 12)), encoded(COLOURS)])
    listings = list_splits(corpus)
    assert white(corpus, listings) == 4095
    told = capsys.readouterr().err
    assert "2 of 3 photos store 16 bits" in told
    assert "White is taken to be 4095; --corpus.white" in told
    assert white(replace(corpus, white=1023), listings) == 1023


@pytest.mark.parametrize(
    ("file", "taken"),
    [(png(samples(GREY // 8, 12), 12), 4095), (png(samples(GREY, 10)), 1023),
     (png(samples(COLOURS, 14)), 16383), (png(samples(GREY, 16)), None), (encoded(GREY), None)],
    ids=["tag", "10", "14", "16", "8"],
)  # fmt: skip
def test_white_of_a_corpus_is_in_the_recipe_where_it_changes_something(tmp_path, file, taken):
    corpus = corpus_of(tmp_path, [file])
    found = as_found(corpus, list_splits(corpus))
    assert found.white == taken
    made = recipe(EncodeConfig(corpus=found), make_palette("grid", ("a", "b")))
    assert made["labels"].get("white") == taken
    assert ("white" in made["labels"]) == (taken is not None)


@pytest.mark.parametrize("value", [0, -1, 65536])
def test_white_is_a_sample_of_16_bits(value):
    with pytest.raises(ValueError, match=r"--corpus.white is a sample of 16 bits, 1..65535"):
        Corpus(white=value)
