import math
from dataclasses import replace

import pytest
import torch

from semflow.flow.curvature import Curvature, fit_grid, follow
from semflow.flow.solvers import Solver, integrate


def column(t, x):
    return t.to(x).reshape(-1, 1)


def bend(x, t):
    """x' = 2 t: the way from x to x + 1 is t squared, alike for all."""
    return 2 * column(t, x).expand_as(x)


def turn_late(x, t):
    """Straight but around t = 0.9."""
    return 1 + 20 * torch.exp(-(((column(t, x) - 0.9) / 0.03) ** 2)).expand_as(x)


def start():
    return torch.randn(6, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("ends", [(0.0, 1.0), (1.0, 0.0)])
def test_curvature_of_a_parabola_is_the_closed_form(ends):
    curvature = Curvature.of(follow(bend, start(), *ends, steps=64))
    # the mean of (1 - 2 t)^2 is a third; dv/dt is 2; |x_1 - x_0| is 1
    assert curvature.straightness == pytest.approx(1 / 3, rel=1e-3)
    middles, turning = curvature.by_time
    assert turning == pytest.approx([2.0] * 64, rel=1e-3)
    assert sorted(middles) == pytest.approx([(i + 0.5) / 64 for i in range(64)])
    # Euler from t_i to t_j is off by (t_j - t_i)^2, a trapezoid not at all
    errors = (curvature.euler[0] / 6).sqrt()
    assert errors.tolist() == pytest.approx([(i / 64) ** 2 for i in range(65)], abs=1e-5)
    assert float(curvature.trapezoid.max()) < 1e-10


def test_a_straight_flow_has_no_curvature():
    x = start()
    speed = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    curvature = Curvature.of(follow(lambda x, t: speed, x, 0.0, 1.0, steps=8))
    assert curvature.straightness < 1e-10
    assert max(curvature.by_time[1]) < 1e-4


def test_equal_curvature_asks_for_equal_steps():
    curvature = Curvature.of(follow(bend, start(), 0.0, 1.0, steps=12))
    assert curvature.grid(4) == pytest.approx((0, 0.25, 0.5, 0.75, 1))


@pytest.mark.parametrize("ends", [(0.0, 1.0), (1.0, 0.0)])
def test_a_learned_grid_steps_where_the_flow_turns(ends):
    curvature = Curvature.of(follow(turn_late, start(), *ends, steps=64))
    grid = curvature.grid(4)
    assert (grid[0], grid[-1]) == (0, 1)
    assert sum(0.8 < t < 0.98 for t in grid) >= 2
    exact = 1 + 20 * 0.03 * math.sqrt(math.pi) / 2 * (math.erf(0.1 / 0.03) + math.erf(0.9 / 0.03))
    errors = []
    for solver in (Solver(steps=4), Solver(steps=4, grid=grid)):
        moved = integrate(turn_late, start(), *ends, solver).x - start()
        errors.append(float((moved.abs() - exact).abs().max()))
    assert errors[1] < errors[0] / 3


def test_no_grid_of_as_many_steps_has_a_smaller_cost():
    generator = torch.Generator().manual_seed(3)
    a = torch.randn(3, 3, generator=generator)
    curvature = Curvature.of(
        follow(lambda x, t: torch.sin(x @ a + 3 * column(t, x)), start(), 0.0, 1.0, steps=7)
    )
    cost = curvature.euler.double().sqrt()
    inner = [(i, j) for i in range(1, 7) for j in range(i + 1, 7)]  # all ways to take three steps
    best = min(inner, key=lambda ij: cost[0, ij[0]] + cost[ij[0], ij[1]] + cost[ij[1], 7])
    assert curvature.grid(3) == pytest.approx((0, best[0] / 7, best[1] / 7, 1))


def test_sums_of_parts_are_the_whole():
    whole = Curvature.of(follow(turn_late, start(), 0.0, 1.0, steps=8))
    parts = [Curvature.of(follow(turn_late, part, 0.0, 1.0, steps=8)) for part in start().split(2)]
    total = parts[0] + parts[1] + parts[2]
    assert total.samples == whole.samples == 6
    assert total.straightness == pytest.approx(whole.straightness, rel=1e-5)
    torch.testing.assert_close(total.euler, whole.euler)


def test_what_cannot_be_learned_is_refused():
    curvature = Curvature.of(follow(bend, start(), 0.0, 1.0, steps=4))
    with pytest.raises(ValueError, match="1 to 4 steps"):
        curvature.grid(5)
    with pytest.raises(ValueError, match="different times"):
        curvature + Curvature.of(follow(bend, start(), 1.0, 0.0, steps=4))


@pytest.mark.parametrize("name", ["euler", "midpoint", "reversible-heun"])
@pytest.mark.parametrize("ends", [(0.0, 1.0), (1.0, 0.0)])
def test_a_fitted_grid_ends_nearer_than_equal_steps_and_the_curvatures(name, ends):
    way = follow(turn_late, start(), *ends, steps=64)
    curvature = Curvature.of(way)
    solver = Solver(name=name, steps=3)
    fitted = fit_grid(turn_late, way, curvature, solver)

    def error(grid):
        end = integrate(turn_late, start(), *ends, replace(solver, grid=grid)).x
        return float((end - way.x[-1]).norm())

    assert error(fitted) <= min(error(()), error(curvature.grid(3, solver.order)))
    assert error(fitted) < error(()) / 2
