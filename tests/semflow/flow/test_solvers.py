import math
from typing import get_args

import pytest
import torch

from semflow import Solver, integrate
from semflow.flow.solvers import TABLEAUX, SolverName

NAMES = get_args(SolverName)
FIXED = [name for name in NAMES if not Solver(name=name).adaptive]


def field(x, t):
    """dx/dt = x cos t, whose solution is x(0) exp(sin t): not linear in t, not autonomous."""
    return x * torch.cos(t).reshape(-1, 1).to(x.dtype)


def exact(x, t_0, t_1):
    return x * math.exp(math.sin(t_1) - math.sin(t_0))


def start():
    return torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=torch.float64)


def precise(x, t):
    """The same field with times in float64: solvers hand over float32, which ends at 1e-7."""
    return x * torch.cos(t.double()).reshape(-1, 1)


def slope_of(errors, steps):
    """Observed order: the slope of log error over log step size."""
    x = -torch.tensor(steps, dtype=torch.float64).log()
    y = torch.tensor(errors, dtype=torch.float64).log()
    return float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())


@pytest.mark.parametrize("ends", [(0.0, 1.0), (1.0, 0.0)])
@pytest.mark.parametrize("name", FIXED)
def test_order_of_convergence_is_the_theory(name, ends):
    steps = {"euler": [64, 128, 256, 512], "rk4": [4, 6, 8, 12]}.get(name, [16, 32, 64, 128])
    errors = [
        float(
            (
                integrate(precise, start(), *ends, Solver(name=name, steps=n)).x
                - exact(start(), *ends)
            )
            .abs()
            .max()
        )
        for n in steps
    ]
    assert slope_of(errors, steps) == pytest.approx(Solver(name=name).order, abs=0.1)


@pytest.mark.parametrize("name", [name for name in FIXED if name != "reversible-heun"])
def test_forth_and_back_returns_to_the_start_at_the_solvers_order(name):
    steps = {"euler": [64, 128, 256, 512], "rk4": [4, 6, 8, 12]}.get(name, [16, 32, 64, 128])
    errors = []
    for n in steps:
        solver = Solver(name=name, steps=n)
        there = integrate(precise, start(), 0.0, 1.0, solver).x
        back = integrate(precise, there, 1.0, 0.0, solver).x
        errors.append(float((back - start()).abs().max()))
    # Symmetric error terms may cancel forth and back: never worse than the order, sometimes better.
    assert slope_of(errors, steps) > Solver(name=name).order - 0.1


@pytest.mark.parametrize("ends", [(0.0, 1.0), (1.0, 0.0)])
@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-6])
def test_dopri5_meets_its_tolerance(tolerance, ends):
    solver = Solver(name="dopri5", rtol=tolerance, atol=tolerance)
    solution = integrate(precise, start(), *ends, solver)
    error = (solution.x - exact(start(), *ends)).abs()
    # The tolerance bounds each step; over a unit of time a few steps' errors add up.
    assert (error <= 5 * tolerance * (1 + start().abs() * math.e)).all()


def test_dopri5_takes_more_evaluations_for_a_smaller_tolerance():
    nfe = [
        integrate(precise, start(), 0.0, 1.0, Solver(name="dopri5", rtol=tol, atol=tol)).nfe
        for tol in (1e-2, 1e-5, 1e-8)
    ]
    assert nfe == sorted(nfe)
    assert nfe[0] < nfe[-1]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [1, 7, 25, 30, 60])
def test_evaluations_are_counted_and_as_many_as_asked(name, steps):
    calls = 0

    def counting(x, t):
        nonlocal calls
        calls += 1
        assert t.shape == (2,)
        return field(x, t)

    solver = Solver(name=name, steps=steps)
    solution = integrate(counting, start().float(), 0.0, 1.0, solver)
    assert solution.nfe == calls
    if not solver.adaptive:
        stages = {"midpoint": 2, "heun": 2, "rk4": 4}.get(name, 1)
        assert calls == solver.nfe == steps * stages + (name == "reversible-heun")


@pytest.mark.parametrize("name", NAMES)
def test_a_constant_velocity_is_solved_exactly_in_one_step(name):
    x, v = torch.randn(3, 4, 5, 5), torch.randn(3, 4, 5, 5)
    solution = integrate(lambda x, t: v, x, 0.0, 1.0, Solver(name=name, steps=1))
    torch.testing.assert_close(solution.x, x + v, rtol=1e-5, atol=1e-5)


def test_an_adaptive_result_does_not_depend_on_the_batch():
    def stiff(x, t):  # each row has a speed of its own
        return -x * torch.tensor([[1.0], [40.0]], dtype=x.dtype)[: len(x)]

    solver = Solver(name="dopri5", rtol=1e-4, atol=1e-4)
    both = integrate(stiff, start(), 0.0, 1.0, solver)
    alone = integrate(stiff, start()[:1], 0.0, 1.0, solver)
    torch.testing.assert_close(both.x[:1], alone.x, rtol=0, atol=0)
    assert both.steps > alone.steps


def test_dopri5_says_when_it_gives_up():
    solver = Solver(name="dopri5", rtol=1e-10, atol=1e-10, max_steps=3)
    with pytest.raises(RuntimeError, match="in 3 steps"):
        integrate(precise, start(), 0.0, 1.0, solver)


@pytest.mark.parametrize("name", list(TABLEAUX))
def test_tableaux_are_consistent(name):
    tableau = TABLEAUX[name]
    assert sum(tableau.b) == pytest.approx(1)
    for c, a in zip(tableau.c, tableau.a, strict=True):
        assert sum(a) == pytest.approx(c)
    assert sum(tableau.error) == pytest.approx(0)


def network():
    """A field as uneven as a network's, with a slope of about 7."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(8, 8, generator=generator) for _ in range(2))

    def field(x, t):
        return torch.tanh(x @ a.to(x) + t.reshape(-1, 1).to(x)) @ b.to(x)

    return field, torch.randn(5, 8, generator=generator)


def round_trip(name, steps):
    """Relative error after 0 -> 1 -> 0, in float32."""
    field, x = network()
    solver = Solver(name=name, steps=steps)
    there = integrate(field, x, 0.0, 1.0, solver)
    back = integrate(field, there.x, 1.0, 0.0, solver, there.twin).x
    return float((back - x).norm() / x.norm())


@pytest.mark.parametrize("steps", [1, 5, 25])
def test_reversible_heun_returns_to_rounding_where_euler_does_not(steps):
    assert round_trip("reversible-heun", steps) < 1e-5
    assert round_trip("euler", steps) > 1e-2


def test_reversible_heun_returns_along_a_grid():
    field, x = network()
    solver = Solver(name="reversible-heun", steps=3, grid=(0.0, 0.1, 0.7, 1.0))
    there = integrate(field, x, 0.0, 1.0, solver)
    back = integrate(field, there.x, 1.0, 0.0, solver, there.twin).x
    torch.testing.assert_close(back, x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("ends", [(0.0, 1.0), (1.0, 0.0), (0.0, 0.5)])
@pytest.mark.parametrize("name", FIXED)
def test_an_equal_grid_is_no_grid(name, ends):
    plain = Solver(name=name, steps=4)
    grid = Solver(name=name, steps=4, grid=(0.0, 0.25, 0.5, 0.75, 1.0))
    one, other = (integrate(precise, start(), *ends, solver).x for solver in (plain, grid))
    torch.testing.assert_close(one, other, rtol=1e-12, atol=0)


def test_a_grid_is_walked_at_its_own_times_either_way():
    seen = []

    def looking(x, t):
        seen.append(float(t[0]))
        return field(x, t)

    solver = Solver(steps=2, grid=(0.0, 0.9, 1.0))
    integrate(looking, start(), 0.0, 1.0, solver)
    integrate(looking, start(), 1.0, 0.0, solver)
    assert seen == pytest.approx([0.0, 0.9, 1.0, 0.9])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 2, "grid": (0.0, 1.0)}, "1 steps"),
        ({"steps": 2, "grid": (0.0, 0.6, 0.9)}, "from 0 to 1"),
        ({"steps": 2, "grid": (0.0, 0.0, 1.0)}, "from 0 to 1"),
        ({"name": "dopri5", "steps": 1, "grid": (0.0, 1.0)}, "own"),
        ({"name": "leapfrog"}, "reversible-heun"),
        ({"steps": 0}, "at least one step"),
        ({"atol": 0.0}, "atol"),
    ],
)
def test_a_wrong_solver_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Solver(**options)
