"""What a product job takes: which files, under which names."""

import errno

import numpy as np
import pyarrow as pa
import pytest

from infra import storage
from pipelines import config
from pipelines.corpora import parts, pixels
from pipelines.inference.products import find_inputs
from pipelines.labelling.photos import DecodePhoto, listing
from pipelines.labelling.tiled import ReadFile
from tests.pictures import encoded


def test_an_output_in_the_inputs_folder_is_no_input(tmp_path):
    images = str(tmp_path)
    for path in ("a.png", "b/c.png", "labels/masks/a.png", "labels-2/d.png"):
        storage.write_bytes(f"{images}/{path}", b"x" * len(path))
    found = find_inputs(images, [".png"], f"{images}/labels")
    assert found == {"a.png": 5, "b/c.png": 7, "labels-2/d.png": 14}
    assert len(find_inputs(images, [".png"], f"{images}-elsewhere")) == 4
    for output in (images, str(tmp_path.parent), f"{images}/"):
        with pytest.raises(ValueError, match="in place of its inputs"):
            find_inputs(images, [".png"], output)
    with pytest.raises(ValueError, match=r"no file in .* is one of .jpg"):
        find_inputs(images, [".jpg"], "s3://elsewhere")


def test_a_photo_keeps_its_name_and_id_whatever_comes_and_goes():
    first = list(listing("dir", {"a.jpg": 1, "b.png": 2}, None))
    assert [(row["name"], row["image_id"]) for row in first] == [("a", 1), ("b", 2)]
    assert first[0] == {
        "name": "a", "path": "a.jpg", "source": "dir/a.jpg", "image_id": 1, "bytes": 1
    }  # fmt: skip
    there = {"a.png": 3, "b.png": 2, "c.png": 4}  # a.jpg is gone, its labels are not
    later = list(listing("dir", there, pa.Table.from_pylist(first)))
    assert [(row["name"], row["image_id"]) for row in later] == [("a.png", 3), ("b", 2), ("c", 4)]


def test_a_file_that_may_not_be_read_has_that_as_its_reason(monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(storage, "read_bytes", refuse)
    with pytest.raises(pixels.BadInput, match=r"may not be read: .*Permission denied"):
        parts.read("s3://bucket/a.jpg")


def test_a_name_that_no_output_can_have_is_a_reason(tmp_path):
    data = encoded(np.zeros((8, 8, 3), np.uint8))
    decode = DecodePhoto(8, 8, 64)
    for name, fits in (("a" * 251, True), ("a" * 252, False), ("é" * 126, False)):
        path = tmp_path / name
        path.write_bytes(data)
        row = {"name": f"below/{name}", "source": str(path)}
        for read in (decode, ReadFile()):
            (found,) = read(row)
            assert (found["error"] == "") == fits
            assert fits or "255 are the most" in found["error"]
        if fits:  # and the output's own partial file is no longer
            storage.write_bytes(f"{tmp_path}/out/{row['name']}.png", b"x")
    told = config.in_words(OSError(errno.ENAMETOOLONG, "File name too long", "b" * 300))
    assert "longer than the 255 bytes" in told
