"""Tiles: one field over the whole photo, whatever it is cut into."""

import pytest
import torch
from torch import nn

from semflow import SemFlow, Solver, load_autoencoder, make_palette, make_velocity
from semflow.flow.solvers import TABLEAUX, integrate
from semflow.masks import decoding
from semflow.masks.decoding import decode
from semflow.sampler import Defaults
from semflow.tiles import Side, Tiles, continued, segment_tiled

FACTOR, TILE = 4, (16, 32)


class Pointwise(nn.Module):
    """A velocity that looks at one latent at a time: what it gives cannot depend on tiles."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Conv2d(48, 48, 1)
        nn.init.normal_(self.mix.weight, std=0.15, generator=torch.Generator().manual_seed(0))

    def forward(self, x, t):
        return torch.tanh(self.mix(x)) * (1 + t[:, None, None, None]) - x


def make_model(velocity):
    defaults = Defaults(height=TILE[0], width=TILE[1], segment=Solver(steps=1))
    palette = make_palette("sphere", ["sky", "road", "tree"])
    return SemFlow(velocity, load_autoencoder(f"space-to-depth:{FACTOR}"), palette, defaults).eval()


@pytest.fixture(scope="module")
def pointwise():
    return make_model(Pointwise())


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return make_model(make_velocity("tiny", 48))


def photo(height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def whole(model, image, solver):
    """The photo as one latent: of the least size that holds it and a tile."""
    height, width = (max(t, -(-s // FACTOR) * FACTOR)
                     for s, t in zip(image.shape[1:], TILE, strict=True))  # fmt: skip
    pixels = continued(image, height, width).float()[None] / 127.5 - 1
    with torch.inference_mode():
        x_0 = model.autoencoder.encode(pixels).mean
        end = integrate(model.field, x_0, 0.0, 1.0, solver)
        return model.autoencoder.decode(end.x)[..., : image.shape[1], : image.shape[2]], end.nfe


SOLVERS = [Solver(name=name, steps=3) for name in (*TABLEAUX, "reversible-heun")]


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: solver.name)
def test_a_pointwise_field_does_not_see_the_tiles_under_any_solver(pointwise, solver):
    image = photo(50, 61)
    expected, nfe = whole(pointwise, image, solver)
    result = segment_tiled(pointwise, image, solver, overlap=0.25, batch_size=3)
    torch.testing.assert_close(result.picture, expected, rtol=0, atol=1e-5)
    assert result.nfe == nfe
    decoded = pointwise.palette.decode(expected)
    assert (result.ids == decoded.ids).float().mean() > 0.999  # rounding on a border
    torch.testing.assert_close(result.margin, decoded.margin, rtol=0, atol=1e-4)


@pytest.mark.parametrize("overlap", [0, 0.1, 0.25, 0.5, 0.8, 0.99])
@pytest.mark.parametrize(
    "size", [(16, 32), (17, 33), (1, 1), (3, 90), (90, 3), (16, 64), (33, 32), (64, 70)]
)
def test_nor_at_any_size_or_overlap(pointwise, size, overlap):
    solver, image = Solver(name="heun", steps=2), photo(*size)
    result = segment_tiled(pointwise, image, solver, overlap=overlap, batch_size=7)
    assert result.ids.shape == result.margin.shape == (1, *size)
    expected, _ = whole(pointwise, image, solver)
    torch.testing.assert_close(result.picture, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("overlap", [0, 0.25, 0.9])
def test_a_photo_of_one_tile_is_segmented_exactly_as_without_tiles(unet, overlap):
    image = photo(*TILE)
    plain = unet.segment(image[None].float() / 127.5 - 1)
    tiled = segment_tiled(unet, image, overlap=overlap)
    assert torch.equal(tiled.picture, plain.picture)
    assert torch.equal(tiled.ids, plain.ids.byte())
    assert torch.equal(tiled.margin, plain.margin)


def test_tiles_of_a_real_unet_are_its_own_where_nothing_overlaps(unet):
    image = photo(32, 64)
    tiled = segment_tiled(unet, image, overlap=0, batch_size=2)
    corner = image[:, 16:, :32]
    plain = unet.segment(corner[None].float() / 127.5 - 1)
    torch.testing.assert_close(tiled.picture[..., 16:, :32], plain.picture, rtol=0, atol=1e-4)


@pytest.mark.parametrize("overlap", [0, 0.1, 0.25, 0.5, 0.75, 0.99])
def test_weights_are_positive_and_sum_to_one_and_tiles_overlap_enough(overlap):
    for tile in (1, 4, 7, 16):
        for length in (*range(tile, 4 * tile), 1000):
            side = Side.cover(length, tile, overlap)
            weights, total = side.weights(), torch.zeros(length)
            assert (weights > 0).all()
            for start, weight in zip(side.starts, weights, strict=True):
                total[start : start + tile] += weight
            torch.testing.assert_close(total, torch.ones(length), rtol=0, atol=1e-5)
            assert (side.starts[0], side.starts[-1]) == (0, length - tile)
            steps = [b - a for a, b in zip(side.starts, side.starts[1:], strict=False)]
            assert all(0 < step <= tile - side.overlap for step in steps)
            # One tile fewer would not do.
            assert not steps or (len(steps) - 1) * (tile - side.overlap) < length - tile


def test_weights_over_the_plane_sum_to_one_at_pixels_as_at_latents():
    tiles = Tiles(Side.cover(23, 8, 0.3), Side.cover(31, 6, 0.5))
    for each in (tiles, tiles.times(8)):
        ones = torch.ones(1, each.down.tile, each.across.tile)
        plane = each.blend(lambda numbers, ones=ones: torch.stack([ones] * len(numbers)), 5)
        torch.testing.assert_close(plane, torch.ones_like(plane), rtol=0, atol=1e-6)


def test_a_batch_of_tiles_decides_nothing_and_is_never_larger_than_asked(unet):
    image, sizes, velocity = photo(40, 60), [], unet.velocity.forward
    unet.velocity.forward = lambda x, t: (sizes.append(len(x)), velocity(x, t))[1]
    try:
        one, many = (segment_tiled(unet, image, batch_size=n).picture for n in (1, 4))
    finally:
        del unet.velocity.forward
    torch.testing.assert_close(one, many, rtol=0, atol=1e-4)
    assert max(sizes) == 4


@pytest.mark.parametrize("window", [1, 3, 7])
def test_strips_change_no_label(pointwise, window, monkeypatch):
    picture = torch.rand(3, 37, 23, generator=torch.Generator().manual_seed(2)) * 2 - 1
    expected = decode(pointwise.palette, picture[None], window)
    monkeypatch.setattr(decoding, "PIXELS", 5 * 23)  # five rows at once
    ids, margin = decode(pointwise.palette, picture[None], window)
    assert torch.equal(ids, expected.ids)
    torch.testing.assert_close(margin, expected.margin)


def test_a_photo_is_continued_by_its_mirror_image():
    row = torch.tensor([[[1, 2, 3]]])
    assert continued(row, 1, 8).tolist() == [[[1, 2, 3, 3, 2, 1, 1, 2]]]
    assert continued(row, 1, 3) is row


def test_what_cannot_be_tiled_is_refused(pointwise):
    with pytest.raises(ValueError, match="overlap by a share"):
        segment_tiled(pointwise, photo(20, 20), overlap=1.0)
    for wrong in (photo(20, 20).float(), photo(20, 20)[None], photo(20, 20)[:1]):
        with pytest.raises(ValueError, match=r"uint8 \[3, H, W\]"):
            segment_tiled(pointwise, wrong)
