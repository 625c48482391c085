"""Photos of unlike sizes through the actor, without Ray."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.corpora import pixels
from pipelines.inference.predictors import ModelOptions
from pipelines.labelling.tiled import ReadFile, TileOptions, TileSegmenter
from pipelines.sharding.stages import _column
from semflow import SemFlow, Solver, segment_tiled
from tests.pictures import encoded, scene


def read(folder, files):
    """What the decode stage hands on."""
    rows = []
    for name, data in files.items():
        if data is not None:
            (folder / name).write_bytes(data)
        rows += ReadFile()({"name": name, "source": str(folder / name)})
    return {key: _column([row[key] for row in rows]) for key in rows[0]}


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_each_photo_is_segmented_by_itself_at_its_scale(model, tmp_path, scale):
    sizes = [(40, 60), (33, 100), (5, 7)]
    photos = {f"{n}.png": encoded(scene(n, max(9, h), w)[0][:h]) for n, (h, w) in enumerate(sizes)}
    files = {**photos, "broken.jpg": b"no photo", "empty.png": b"", "gone.png": None}
    options, solver = ModelOptions(batch_size=3), Solver(steps=1)
    actor = TileSegmenter(str(model), options, solver, TileOptions(on=True, scale=scale))
    result = actor(read(tmp_path, files))
    assert [bool(error) for error in result["error"]] == [False] * 3 + [True] * 3
    assert "not there" in result["error"][-1]
    assert result["ids"][-1] == b""
    semflow = SemFlow.load(model)
    for number, (height, width) in enumerate(sizes):
        assert (result["height"][number], result["width"][number]) == (height, width)
        photo = pixels.read_photo(photos[f"{number}.png"])
        if scale != 1:
            photo = pixels.resize_photo(photo, round(width / scale), round(height / scale))
        expected = segment_tiled(semflow, torch.tensor(photo).movedim(-1, 0), solver, batch_size=3)
        ids, confidence = (np.asarray(Image.open(io.BytesIO(result[key][number])))
                           for key in ("ids", "confidence"))  # fmt: skip
        assert np.mean(ids == expected.ids[0].numpy()) > 0.999
        assert np.abs(confidence / 255 - expected.margin[0].numpy()).max() < 0.01
        assert result["margin"][number] == pytest.approx(float(expected.margin.mean()), abs=1e-4)


def test_bytes_are_carried_to_their_last_zero():
    values = [b"\x00ends in zeros\x00\x00", b"", b"\x00"]
    assert _column(values).tolist() == values


def test_options_that_would_do_nothing_or_cannot_be_are_refused():
    with pytest.raises(ValueError, match="need --tiles"):
        TileOptions(scale=2)
    with pytest.raises(ValueError, match=r"lies in \[0, 1\)"):
        TileOptions(on=True, overlap=1)
    with pytest.raises(ValueError, match="positive"):
        TileOptions(on=True, scale=0)
