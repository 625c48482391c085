import pytest
import torch

from semflow import RectifiedFlow


def test_point_and_target_are_the_formulas_of_the_released_code():
    x_0, x_1, t = torch.randn(5, 4, 6, 8), torch.randn(5, 4, 6, 8), torch.rand(5)
    sample = RectifiedFlow().sample(x_0, x_1, t)
    for i in range(5):
        by_hand = t[i] * x_1[i] + (1 - t[i]) * x_0[i]
        torch.testing.assert_close(sample.x_t[i], by_hand, rtol=0, atol=1e-6)
    assert torch.equal(sample.velocity, x_1 - x_0)


def test_the_line_through_a_point_leads_back_to_both_ends():
    x_0, x_1, t = torch.randn(3, 4, 5, 5), torch.randn(3, 4, 5, 5), torch.tensor([0.0, 0.3, 1.0])
    flow = RectifiedFlow()
    sample = flow.sample(x_0, x_1, t)
    start, end = flow.end_points(sample.x_t, t, sample.velocity)
    torch.testing.assert_close(start, x_0)
    torch.testing.assert_close(end, x_1)


def test_ends_of_different_shape_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        RectifiedFlow().sample(torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 4, 2), torch.zeros(1))


def test_uniform_times_are_the_uniform_numbers_themselves():
    uniform = torch.rand(100)
    assert torch.equal(RectifiedFlow().times(uniform), uniform)


@pytest.mark.parametrize("kind", ["uniform", "logit-normal", "ends"])
def test_times_stay_in_the_unit_interval_and_are_symmetric(kind):
    times = RectifiedFlow(time_sampling=kind).times(torch.linspace(0, 1, 10_001))
    assert times.min() >= 0
    assert times.max() <= 1
    assert (times.diff() >= 0).all()
    middle = times[1:-1]  # the very ends of a normal are cut, within float rounding
    torch.testing.assert_close(middle, 1 - middle.flip(0), rtol=0, atol=1e-4)


def test_times_at_the_ends_have_the_shares_asked_for():
    flow = RectifiedFlow(at_image=0.5, at_mask=0.1)
    times = flow.times(torch.rand(100_000, generator=torch.Generator().manual_seed(0)))
    assert (times == 0).double().mean() == pytest.approx(0.5, abs=0.01)
    assert (times == 1).double().mean() == pytest.approx(0.1, abs=0.01)
    inside = times[(times > 0) & (times < 1)]
    assert inside.mean() == pytest.approx(0.5, abs=0.01)
    with pytest.raises(ValueError, match="shares"):
        RectifiedFlow(at_image=0.7, at_mask=0.5)


def test_a_shift_moves_times_towards_the_mask():
    uniform = torch.linspace(0, 1, 10_001, dtype=torch.float64)
    times = RectifiedFlow(shift=4.0).times(uniform)
    assert (times[0], times[-1]) == (0, 1)
    assert torch.allclose(times[5000], torch.tensor(0.8, dtype=torch.float64))
    # The odds of the mask's end are multiplied.
    inner = uniform[1:-1]
    assert torch.allclose(times[1:-1] / (1 - times[1:-1]), 4 * inner / (1 - inner))
    at_ends = RectifiedFlow(shift=4.0, at_image=0.5).times(uniform)
    assert (at_ends == 0).float().mean() == pytest.approx(0.5, abs=1e-3)
    with pytest.raises(ValueError, match="shift"):
        RectifiedFlow(shift=0.0)


def test_all_times_can_be_at_one_end():
    assert (RectifiedFlow(at_image=1.0).times(torch.rand(50)) == 0).all()
