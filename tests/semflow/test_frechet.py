import numpy as np
import pytest
import scipy.linalg
import torch
import torch.nn.functional as F

from semflow.frechet import frechet_distance, pyramid_features


def draw(n, seed, shift=0.0, scale=1.0, dims=5):
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(dims, dims, generator=torch.Generator().manual_seed(7))
    return torch.randn(n, dims, generator=generator) @ mix * scale + shift


def test_the_distance_is_scipys():
    one, other = draw(400, 0).numpy(), draw(300, 1, shift=0.5, scale=1.5).numpy()
    means, covs = zip(*((x.mean(0), np.cov(x.T, bias=True)) for x in (one, other)), strict=True)
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(
        covs[0] + covs[1] - 2 * scipy.linalg.sqrtm(covs[0] @ covs[1]).real
    )
    found = frechet_distance(torch.from_numpy(one), torch.from_numpy(other))
    assert found == pytest.approx(expected, rel=1e-5)


def test_the_distance_of_moved_and_stretched_points_is_the_closed_form():
    x = draw(200, 2)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, x + 2) == pytest.approx(5 * 4, rel=1e-5)
    spread = float(x.double().var(0, correction=0).sum())
    stretched = (x.double() - x.double().mean(0)) * 3 + x.double().mean(0)
    assert frechet_distance(x, stretched) == pytest.approx(4 * spread, rel=1e-6)


def test_features_tell_blur_noise_and_tint():
    generator = torch.Generator().manual_seed(0)
    images = F.interpolate(torch.rand(64, 3, 8, 8, generator=generator), size=32) * 2 - 1
    blurred = F.avg_pool2d(images, 5, 1, 2)
    noisy = images + 0.2 * torch.randn(images.shape, generator=generator)
    features = pyramid_features(images)
    assert features.shape == (64, 42)
    same = frechet_distance(features[:32], features[32:])
    for changed in (blurred, noisy, images * 0.7 + 0.3):
        assert frechet_distance(features[:32], pyramid_features(changed)[32:]) > 5 * same
