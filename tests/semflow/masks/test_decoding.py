"""Class ids of mask pictures, by their neighbours too."""

import pytest
import torch

from semflow import make_palette
from semflow.masks import decoding
from semflow.masks.decoding import decode

PALETTE = make_palette("sphere", 5)


def regions(height=24, width=36):
    """Ids ``[2, H, W]``: rectangles of classes."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 5, (2, height // 12, width // 12), generator=generator)
    return ids.repeat_interleave(12, 1).repeat_interleave(12, 2)


def noisy(ids, deviation):
    noise = torch.randn(len(ids), 3, *ids.shape[1:], generator=torch.Generator().manual_seed(1))
    return PALETTE.encode(ids) + deviation * noise


def test_a_window_of_one_is_the_nearest_anchor():
    pictures = noisy(regions(), 0.5)
    for mine, nearest in zip(decode(PALETTE, pictures), PALETTE.decode(pictures), strict=True):
        assert torch.equal(mine, nearest)


def test_a_wider_window_takes_errors_of_single_pixels_away():
    ids = regions()
    wrong = [(decode(PALETTE, noisy(ids, 0.7), w).ids != ids).float().mean() for w in (1, 3, 5)]
    assert wrong[0] > 0.2
    assert wrong[1] < 0.3 * wrong[0]
    assert wrong[2] < wrong[1]


def test_what_is_exact_stays_so_away_from_borders_and_is_sure():
    ids = torch.zeros(1, 9, 9, dtype=torch.int64)
    ids[:, :, 5:] = 3
    found = decode(PALETTE, PALETTE.encode(ids), 3)
    assert torch.equal(found.ids, ids)  # a straight border stays, too
    assert found.margin[..., :4].min() > 0.9
    assert found.margin[..., 4:6].max() < 0.5
    assert 0 <= found.margin.min()
    assert found.margin.max() <= 1


def test_it_is_the_mean_of_the_trained_posterior_whatever_is_decoded_at_once(monkeypatch):
    pictures = noisy(regions(), 0.4)
    away = torch.stack([(pictures - a[:, None, None]).square().sum(1) for a in PALETTE.anchors], 1)
    posterior = (-away / 0.2).softmax(1)
    expected = torch.zeros_like(posterior)
    for row in range(24):
        for column in range(36):
            window = posterior[..., max(0, row - 2) : row + 3, max(0, column - 2) : column + 3]
            expected[..., row, column] = window.mean((2, 3))
    for at_once in (decoding.PIXELS, 36 * 7, 1):
        monkeypatch.setattr(decoding, "PIXELS", at_once)
        found = decode(PALETTE, pictures, 5)
        assert torch.equal(found.ids, expected.argmax(1))
        first, second = expected.topk(2, 1).values.unbind(1)
        torch.testing.assert_close(found.margin, first - second, rtol=0, atol=1e-6)


@pytest.mark.parametrize("window", [0, 2, -3])
def test_a_window_has_a_middle(window):
    with pytest.raises(ValueError, match=f"odd number, not {window}"):
        decode(PALETTE, noisy(regions(), 0.1), window)
