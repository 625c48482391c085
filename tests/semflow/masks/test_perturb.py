import pytest
import torch

from semflow import Perturbation, make_palette


@pytest.mark.parametrize("kind", ["uniform", "gaussian"])
def test_draws_are_bounded_centred_and_reproducible(kind):
    perturbation = Perturbation(kind=kind, amplitude=0.05)
    draw = perturbation.draw((3, 200, 200), seed=7)
    assert draw.abs().max() <= 0.05
    assert draw.mean().abs() < 1e-3
    assert torch.equal(draw, perturbation.draw((3, 200, 200), seed=7))
    assert not torch.equal(draw, perturbation.draw((3, 200, 200), seed=8))


def test_spreads_are_those_of_the_distributions():
    uniform = Perturbation(amplitude=0.1).draw((300_000,), 0)
    assert uniform.std() == pytest.approx(0.1 / 3**0.5, rel=0.01)
    # A normal truncated at two deviations has a deviation of 0.8796 of the untruncated one's.
    gaussian = Perturbation(kind="gaussian", amplitude=0.1).draw((300_000,), 0)
    assert gaussian.std() == pytest.approx(0.05 * 0.8796, rel=0.01)


def many(perturbation, height, width, count=400):
    return torch.stack([perturbation.draw((3, height, width), seed) for seed in range(count)])


@pytest.mark.parametrize(("height", "width"), [(16, 16), (15, 24), (9, 5)])
def test_a_spectrum_leaves_each_pixel_its_distribution(height, width):
    draws = many(Perturbation(amplitude=0.2, exponent=2.0), height, width, 2000)
    assert draws.abs().max() <= 0.2
    shares = torch.linspace(0.05, 0.95, 19)
    found = torch.quantile(draws[:, :, height // 2, width // 2].flatten(), shares)
    assert torch.allclose(found, 0.2 * (2 * shares - 1), atol=0.015)
    spread = draws.std((0, 1))
    assert torch.allclose(spread, torch.full_like(spread, 0.2 / 3**0.5), rtol=0.06)
    gaussian = many(Perturbation(kind="gaussian", amplitude=0.2, exponent=2.0), height, width)
    assert gaussian.abs().max() <= 0.2
    assert gaussian.std() == pytest.approx(0.1 * 0.8796, rel=0.06)


@pytest.mark.parametrize("exponent", [1.0, 2.0])
def test_amplitudes_fall_with_frequency_by_the_exponent(exponent):
    draws = many(Perturbation(amplitude=0.05, exponent=exponent), 32, 32)
    normal = torch.special.ndtri(((draws / 0.05 + 1) / 2).clamp(1e-6, 1 - 1e-6))
    power = torch.fft.rfft2(normal).abs().square().mean((0, 1))
    for k in (2, 4, 8):
        fall = (power[0, 1] + power[1, 0]) / (power[0, k] + power[k, 0])
        assert fall.sqrt() == pytest.approx(k**exponent, rel=0.1)
    white = many(Perturbation(amplitude=0.05), 32, 32)
    # Of white noise the mean says nothing: it is 32 times less than a pixel.
    assert white.mean((2, 3)).std() < 0.05 * white.std()
    assert draws.mean((2, 3)).std() > 0.1 * exponent * draws.std()


def test_a_picture_is_perturbed_alike_whatever_its_batch():
    pictures = torch.zeros(3, 3, 4, 4)
    for perturbation in (Perturbation(), Perturbation(exponent=2.0)):
        together = perturbation.apply(pictures, [1, 2, 3])
        assert torch.equal(together[1:2], perturbation.apply(pictures[1:2], [2]))


@pytest.mark.parametrize("palette", ["grid", "spread", "sphere"])
@pytest.mark.parametrize("classes", [2, 11, 19, 171])
def test_no_label_changes_below_the_bound_and_one_can_at_it(palette, classes):
    palette = make_palette(palette, classes)
    bound, one, other = palette.perturbation_bound()
    # The worst change: every channel by the whole amplitude, towards the other class.
    worst = (palette.anchors[other] - palette.anchors[one]).sign()[None, :, None, None]
    ids = torch.tensor([[[one]]])
    below = palette.encode(ids) + 0.999 * bound * worst
    beyond = palette.encode(ids) + 1.001 * bound * worst
    assert palette.decode(below).ids.item() == one
    assert palette.decode(beyond).ids.item() != one
    everywhere = torch.arange(classes).reshape(1, 1, -1).expand(1, 64, -1)
    noisy = Perturbation(amplitude=0.999 * bound).apply(palette.encode(everywhere), [3])
    assert torch.equal(palette.decode(noisy).ids, everywhere)


def test_an_amplitude_that_could_change_a_label_is_refused_with_the_numbers():
    palette = make_palette("grid", ["road", "sky", "tree"])
    Perturbation(amplitude=0.19).check(palette)
    with pytest.raises(ValueError, match=r"0\.2 .*road.*sky.*below 0\.1961.*25\.0 of 255"):
        Perturbation(amplitude=0.2).check(palette)


@pytest.mark.parametrize("amplitude", [-0.1, float("nan"), float("inf")])
def test_a_wrong_amplitude_is_refused(amplitude):
    with pytest.raises(ValueError, match="amplitude"):
        Perturbation(amplitude=amplitude)


def test_a_wrong_exponent_is_refused():
    with pytest.raises(ValueError, match="spectral exponent"):
        Perturbation(exponent=-1.0)


def test_no_amplitude_is_no_perturbation():
    pictures = torch.rand(1, 3, 4, 4)
    assert torch.equal(Perturbation(amplitude=0).apply(pictures, [5]), pictures)
