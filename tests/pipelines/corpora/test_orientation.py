"""Masks lie on photos as these are stored or upright; the 90-degree ones tell it for all."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageOps

from pipelines.corpora import Corpus, list_splits, pixels
from pipelines.corpora.readers.orientation import drawn
from pipelines.corpora.truth import read_mask
from tests.pictures import encoded, write_pair

IDS = np.zeros((24, 32), np.uint8)
IDS[:10, 20:] = 1
SQUARE = IDS[:, :24].copy()
SQUARE[:5, 15:] = 1


def photo(ids, turn):
    """Bright where the class is 1, stored as ``ids`` lie, with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = turn
    buffer = io.BytesIO()
    Image.fromarray(np.stack([ids * 255] * 3, 2)).save(buffer, "PNG", exif=exif)
    return buffer.getvalue()


def shown(ids, turn):
    image = Image.fromarray(ids)
    image.getexif()[0x0112] = turn
    return np.asarray(ImageOps.exif_transpose(image))


def corpus_of(root, how, turns=(1, 2, 3, 4, 5, 6, 7, 8)):
    for turn in turns:
        for name, ids in (("wide", IDS), ("square", SQUARE)):
            mask = ids if how == "stored" else shown(ids, turn)
            data = photo(ids, turn)
            write_pair(root, "train", f"{name}{turn}", data, encoded(mask), "png")
    return Corpus(root=str(root), splits=("train",), classes=("a", "b"))


@pytest.mark.parametrize("how", ["stored", "upright"])
def test_every_turn_lies_on_its_mask_and_is_scored_upright(tmp_path, how, capsys):
    corpus = corpus_of(tmp_path, how)
    listings = list_splits(corpus)
    assert drawn(corpus, listings) == how
    assert f"Taken as {how}" in capsys.readouterr().err
    for row in listings["train"].pairs.to_pylist():
        ids, turn = read_mask(corpus, row["mask"], ""), int(row["id"][-1])
        data = photo(SQUARE if "square" in row["id"] else IDS, turn)
        fitted = pixels.fit_photo(data, ids, stored=how == "stored")
        assert np.array_equal(fitted[..., 0] > 127, ids == 1), row["id"]
        upright = pixels.read_photo(data)[..., 0] > 127
        assert np.array_equal(pixels.upright_ids(ids, data, stored=how == "stored"), upright)


def test_where_nobody_can_tell_it_is_said_and_the_flag_counts(tmp_path, capsys):
    corpus = corpus_of(tmp_path, "stored", turns=(1, 3))
    listings = list_splits(corpus)
    assert drawn(corpus, listings) == "upright"
    assert "2 do not tell. Taken as upright; --corpus.masks-drawn" in capsys.readouterr().err
    assert drawn(replace(corpus, masks_drawn="stored"), listings) == "stored"
