"""What a folder of photos holds: all that can be opened is taken, and the rest is known by kind."""

import numpy as np
import pytest
from PIL import Image

from pipelines.corpora import PHOTOS, Corpus, pixels
from pipelines.corpora.masks import LabelMap
from pipelines.corpora.pixels import BadInput
from pipelines.corpora.readers.pictures import pictures_below
from pipelines.inference.products import find_inputs
from tests.pictures import encoded, scene

IMAGE, IDS = scene(0)
KINDS = {
    "a.jpg": "JPEG", "UPPER.JPEG": "JPEG", "old.jpe": "JPEG", "saved.jfif": "JPEG", "p.png": "PNG",
    "web.webp": "WEBP", "new.avif": "AVIF", "old.gif": "GIF", "pic.jp2": "JPEG2000",
    "raw.ppm": "PPM", "scan.TIF": "TIFF", "w.bmp": "BMP", "t.tga": "TGA",
}  # fmt: skip
BARE = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "JPEG2000", "TIFF", "BMP")


@pytest.fixture
def folder(tmp_path):
    for name, kind in KINDS.items():
        (tmp_path / name).write_bytes(encoded(IMAGE, kind))
    for kind in BARE:
        (tmp_path / f"5f2c9e{kind}").write_bytes(encoded(IMAGE, kind))
    for name in ("notes.txt", "x.TXT", "README", "clip.mp4"):
        (tmp_path / name).write_bytes(b"no picture at all")
    (tmp_path / ".thumbnails").mkdir()
    (tmp_path / ".thumbnails/a.jpg").write_bytes(encoded(IMAGE, "JPEG"))
    return tmp_path


def test_what_can_be_opened_is_taken_and_the_rest_is_said(folder, capsys):
    found, left = pictures_below(str(folder), PHOTOS)
    assert list(found) == sorted([*KINDS, *(f"5f2c9e{kind}" for kind in BARE)])
    assert sorted(left) == ["README", "clip.mp4", "notes.txt", "x.TXT"]
    for name, size in found.items():
        data = (folder / name).read_bytes()
        assert size == len(data)
        assert pixels.read_photo(data).shape == IMAGE.shape
    assert find_inputs(str(folder), PHOTOS, str(folder / "out")) == found
    said = capsys.readouterr().err.strip()
    others = ["2 .txt, notes.txt for one", "1 .mp4, clip.mp4 for one",
              "1 without a suffix, README for one"]  # fmt: skip
    assert said.endswith(f"not taken are {'; '.join(others)}")


def test_a_folder_without_a_photo_says_what_is_there(tmp_path):
    (tmp_path / "a.cr2").write_bytes(b"raw")
    with pytest.raises(ValueError, match=r"no file in .*not taken are 1 .cr2, a.cr2 for one"):
        find_inputs(str(tmp_path), PHOTOS, str(tmp_path / "out"))


def test_a_photo_of_a_phone_is_opened_or_says_what_it_needs():
    data = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 40
    with pytest.raises(BadInput, match=r"pip install pillow-heif|not a whole image"):
        pixels.read_photo(data)


def test_a_jpeg_is_no_mask_unless_a_threshold_makes_two_classes_of_it():
    grey = (IDS > 0).astype(np.uint8) * 255
    data = encoded(grey, "JPEG", quality=70)
    with pytest.raises(BadInput, match=r"a JPEG, which does not keep .*--corpus.threshold"):
        LabelMap(classes=2, ids=(0, 255), ignore_ids=()).read(data)
    with pytest.raises(BadInput, match="a JPEG"):
        LabelMap(classes=2, colours=("000000", "ffffff")).read(data)
    labels = LabelMap(classes=2, threshold=128)
    for mask in (data, encoded(grey), encoded(Image.fromarray(grey > 0)),
                 encoded(np.stack([grey] * 3, 2)), encoded(grey, "TIFF")):  # fmt: skip
        assert np.array_equal(labels.read(mask), IDS > 0)
    soft = Image.fromarray(grey).resize((32, 24), Image.Resampling.BILINEAR)
    assert set(np.unique(labels.read(encoded(soft)))) == {0, 1}


@pytest.mark.parametrize(
    "options", [{"threshold": 0}, {"threshold": 9, "classes": ("a", "b", "c")}]
)
def test_a_threshold_is_for_two_classes(options):
    with pytest.raises(ValueError, match="threshold lies in"):
        Corpus(**({"classes": ("a", "b")} | options))
