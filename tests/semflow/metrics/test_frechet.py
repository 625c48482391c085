import numpy as np
import pytest
import scipy.linalg
import torch
import torch.nn.functional as F

from semflow.metrics.frechet import Gaussian, frechet_distance, pyramid_features
from tests.standins import Shades


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


def test_the_distance_of_gaussians_is_the_closed_form():
    # Diagonal covariances commute: |m|^2 and the distance of the deviations remain.
    mean, one, other = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([1.0, 4.0, 9.0]), 2.0
    first = Gaussian(10, torch.zeros(3).double(), torch.diag(one).double())
    second = Gaussian(10, mean.double(), other * torch.eye(3).double())
    expected = mean.square().sum() + (one.sqrt() - other**0.5).square().sum()
    assert first.distance(second) == pytest.approx(float(expected), rel=1e-7)
    assert first.distance(second, unbiased=True) == pytest.approx(
        float(mean.square().sum() + (one.sqrt() - other**0.5).square().sum() * 10 / 9), rel=1e-7
    )


def test_statistics_of_parts_add_up_to_those_of_the_whole():
    x = 5 + draw(500, 3, dims=8, scale=20)
    whole = Gaussian.of(x)
    parts = [Gaussian.of(part) for part in x.split([1, 99, 250, 150])]
    merged = parts[2] + (parts[0] + parts[3]) + parts[1]
    assert merged.count == whole.count == 500
    torch.testing.assert_close(merged.mean, whole.mean, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(merged.covariance, whole.covariance, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(whole.covariance, torch.cov(x.double().T, correction=0))
    other = Gaussian.of(draw(500, 4, dims=8))
    assert merged.distance(other) == pytest.approx(whole.distance(other), rel=1e-6)


def test_fewer_images_than_features_have_a_distance():
    x = draw(12, 5, dims=64)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-5)
    assert frechet_distance(x, x + 1) == pytest.approx(64, rel=1e-6)
    with pytest.raises(ValueError, match="set of one"):
        Gaussian.of(x[:1]).distance(Gaussian.of(x), unbiased=True)
    with pytest.raises(ValueError, match="N at least 1"):
        Gaussian.of(x[:0])


def test_it_is_torchmetrics_frechet_inception_distance_of_the_same_network():
    fid = pytest.importorskip("torchmetrics.image.fid", exc_type=ImportError)
    generator = torch.Generator().manual_seed(1)
    real = torch.randint(0, 256, (60, 3, 16, 16), generator=generator, dtype=torch.uint8)
    made = real[:50] // 2 + torch.randint(0, 100, (50, 3, 16, 16), generator=generator).byte()
    network = Shades()
    theirs = fid.FrechetInceptionDistance(feature=network, input_img_size=(3, 16, 16))
    theirs.set_dtype(torch.float64)
    theirs.update(real, real=True)
    theirs.update(made, real=False)
    one, other = (Gaussian.of(network(images)) for images in (made, real))
    assert one.distance(other, unbiased=True) == pytest.approx(float(theirs.compute()), rel=1e-5)
