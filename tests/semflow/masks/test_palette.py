import json

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.corpora import pixels
from semflow import IGNORE, Palette, make_palette
from semflow.masks.palette import grid


def test_the_papers_grid_is_its_definition_for_all_classes_up_to_216():
    palette = grid(216)
    for c in range(216):
        assert palette.colours[c] == (50 * (c // 36), 50 * (c % 36 // 6), 50 * (c % 6))
    for count in (2, 19, 171):
        assert grid(count).colours == palette.colours[:count]
    assert palette.ignore_colour == (255, 255, 255)


def test_217_classes_do_not_fit_the_papers_grid():
    with pytest.raises(ValueError, match="216 classes, not 217"):
        grid(217)


def test_the_papers_bound_on_its_grid_is_half_a_step():
    bound, one, other = grid(19).perturbation_bound()
    assert bound == pytest.approx(25 / 127.5)
    assert one != other


@pytest.mark.parametrize("kind", ["grid", "spread", "sphere"])
@pytest.mark.parametrize("count", [2, 11, 19, 171])
def test_ids_survive_encode_and_decode(kind, count):
    palette = make_palette(kind, count)
    ids = torch.randint(0, count, (2, 9, 13))
    decoded = palette.decode(palette.encode(ids))
    assert torch.equal(decoded.ids, ids)
    assert decoded.margin.min() > 0.99  # on the anchor, and the nearest pair is half the unit away


def test_spread_anchors_are_as_far_apart_as_known_optima():
    assert make_palette("spread", 2).min_distance == pytest.approx(2 * 3**0.5, abs=0.02)
    assert make_palette("spread", 8).min_distance == pytest.approx(2, abs=0.02)
    assert make_palette("spread", 11).min_distance > 3 * grid(11).min_distance


def test_no_sphere_anchor_lies_between_others():
    """On a sphere the anchor with the largest projection on a direction is the nearest to it."""
    palette = make_palette("sphere", 11)
    between = (palette.anchors[:, None] + palette.anchors[None, :]) / 2
    pairs = [(i, j) for i in range(11) for j in range(i)]
    pictures = torch.stack([between[i, j] for i, j in pairs])[:, :, None, None]
    margins = palette.decode(pictures).margin
    for (i, j), picture in zip(pairs, pictures, strict=True):
        away = (palette.anchors - picture[:, 0, 0]).norm(dim=1)
        assert away.min() > 0.2, (i, j)
    assert margins.max() < 1


def test_margin_is_the_distance_to_the_border_in_halves_of_the_least_distance():
    palette = Palette(((0, 0, 0), (255, 0, 0)), ("a", "b"))
    for share in (0.0, 0.1, 0.4, 0.5, 0.9):
        picture = torch.tensor([-1 + 2 * share, -1.0, -1.0]).reshape(1, 3, 1, 1)
        decoded = palette.decode(picture)
        assert decoded.margin.item() == pytest.approx(abs(1 - 2 * share), abs=1e-5)
        if share != 0.5:
            assert decoded.ids.item() == (share > 0.5)


def test_decode_is_the_nearest_anchor_by_brute_force():
    palette, pictures = make_palette("spread", 19), torch.rand(2, 3, 8, 8) * 2.4 - 1.2
    away = (pictures[:, None] - palette.anchors[None, :, :, None, None]).square().sum(2)
    assert torch.equal(palette.decode(pictures).ids, away.argmin(1))
    soft = palette.logits(pictures, temperature=0.5)
    assert torch.equal(soft.argmax(1), away.argmin(1))


def test_ids_beyond_the_palette_are_refused_and_ignored_ones_are_painted():
    palette = make_palette("grid", 3)
    with pytest.raises(ValueError, match=r"\[3, 200\].*3 classes"):
        palette.encode(torch.tensor([[[0, 3, 200, IGNORE]]]))
    assert (palette.encode(torch.tensor([[[IGNORE]]])) == 1).all()  # white


def test_an_index_png_keeps_its_ids_and_shows_the_anchors():
    palette = make_palette("spread", 11)
    ids = np.random.default_rng(0).integers(0, 11, (7, 5)).astype(np.uint8)
    image = pixels.open_image(pixels.png(ids, palette.png_palette()))
    assert image.mode == "P"
    assert np.array_equal(np.asarray(image), ids)
    shown = np.asarray(image.convert("RGB"))
    assert np.array_equal(shown, np.array(palette.colours, np.uint8)[ids])
    assert isinstance(image, Image.Image)


def test_a_palette_survives_json():
    palette = make_palette("sphere", ["sky", "road", "tree"])
    assert Palette.from_json(json.loads(json.dumps(palette.to_json()))) == palette


@pytest.mark.parametrize(
    ("colours", "names"),
    [
        (((0, 0, 0),), ("a",)),
        (((0, 0, 0),) * 2, ("a", "b")),
        (((0, 0, 0), (0, 0, 256)), ("a", "b")),
    ],
)
def test_a_wrong_palette_is_refused(colours, names):
    with pytest.raises(ValueError, match=r"classes|colour"):
        Palette(colours, names)
