"""Solvers of dx/dt = v(x, t): Runge-Kutta tableaux as data, and one loop that runs them.

Both directions are the same call: 0 -> 1 segments, 1 -> 0 synthesizes. Every evaluation of the
velocity is counted (NFE), and a solver that does not choose its own steps makes exactly
:attr:`Solver.nfe` of them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast, get_args

import torch
from torch import Tensor

from semflow.flow.path import per_sample

SolverName = Literal["euler", "midpoint", "heun", "rk4", "reversible-heun", "dopri5"]
Field = Callable[[Tensor, Tensor], Tensor]
"""``v(x [B, ...], t [B]) -> [B, ...]``."""


MOST_STEPS = 100_000


@dataclass(frozen=True)
class Tableau:
    """A Butcher tableau: stage times, stage weights, step weights and, if any, error weights."""

    order: int
    c: tuple[float, ...]
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    error: tuple[float, ...] = ()
    """b minus the weights of the embedded lower-order solution; empty for a fixed-step solver."""

    @property
    def stages(self) -> int:
        return len(self.b)


_DOPRI_B = (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0.0)
_DOPRI_4 = (5179 / 57600, 0.0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40)

REVERSIBLE: SolverName = "reversible-heun"

TABLEAUX: dict[SolverName, Tableau] = {
    # Euler (1768), the paper's solver.
    "euler": Tableau(1, (0.0,), ((),), (1.0,)),
    # Runge (1895).
    "midpoint": Tableau(2, (0.0, 0.5), ((), (0.5,)), (0.0, 1.0)),
    # Heun (1900), the explicit trapezoid; also EDM's second-order solver (arXiv 2206.00364).
    "heun": Tableau(2, (0.0, 1.0), ((), (1.0,)), (0.5, 0.5)),
    # Kutta (1901).
    "rk4": Tableau(
        4,
        (0.0, 0.5, 0.5, 1.0),
        ((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)),
        (1 / 6, 1 / 3, 1 / 3, 1 / 6),
    ),
    # Dormand and Prince (1980), 5(4); the last stage is the next step's first.
    "dopri5": Tableau(
        5,
        (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0),
        (
            (),
            (1 / 5,),
            (3 / 40, 9 / 40),
            (44 / 45, -56 / 15, 32 / 9),
            (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
            (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
            _DOPRI_B[:6],
        ),
        _DOPRI_B,
        error=tuple(b - d for b, d in zip(_DOPRI_B, _DOPRI_4, strict=True)),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Solver:
    """How to integrate the flow."""

    name: SolverName = "euler"
    """'euler' (1 evaluation a step), 'midpoint' and 'heun' (2), 'rk4' (4), 'reversible-heun' (1,
    and 1 more in all), which can be run back exactly, or 'dopri5', which chooses its own steps for
    the tolerances."""
    steps: int = 25
    """Steps of all solvers but dopri5."""
    grid: tuple[float, ...] = ()
    """Times at which these steps begin and end, from 0 to 1 (to be walked either way); none for
    equal steps."""
    rtol: float = 1e-3
    """Relative tolerance of dopri5."""
    atol: float = 1e-3
    """Absolute tolerance of dopri5, in units of the latents."""
    max_steps: int = 1000
    """dopri5 gives up after so many steps, accepted or not."""

    def __post_init__(self) -> None:
        if self.name not in get_args(SolverName):
            raise ValueError(f"no solver {self.name!r}; there are {get_args(SolverName)}")
        if not (1 <= self.steps <= MOST_STEPS and 1 <= self.max_steps <= MOST_STEPS):
            raise ValueError(f"a solver makes at least one step, and at most {MOST_STEPS}")
        object.__setattr__(self, "grid", tuple(self.grid))  # JSON gives lists
        if self.grid:
            rising = all(a < b for a, b in itertools.pairwise(self.grid))
            if not rising or (self.grid[0], self.grid[-1]) != (0, 1):
                raise ValueError(f"a solver's grid rises from 0 to 1, not {list(self.grid)}")
            if len(self.grid) != self.steps + 1 or self.adaptive:
                raise ValueError(
                    f"a grid of {len(self.grid)} times is {len(self.grid) - 1} steps, "
                    f"not {self.name}'s {'own' if self.adaptive else self.steps}"
                )
        if self.rtol < 0 or self.atol <= 0:
            raise ValueError("dopri5 needs rtol >= 0 and atol > 0")

    @property
    def adaptive(self) -> bool:
        return self.name != REVERSIBLE and bool(TABLEAUX[self.name].error)

    @property
    def order(self) -> int:
        """Of convergence: the error falls as this power of the step."""
        return 2 if self.name == REVERSIBLE else TABLEAUX[self.name].order

    @property
    def nfe(self) -> int | None:
        """Evaluations of the velocity that will be made; None when the solver itself decides."""
        if self.name == REVERSIBLE:
            return self.steps + 1
        return None if self.adaptive else TABLEAUX[self.name].stages * self.steps

    def times(self, t_0: float, t_1: float) -> list[float]:
        """Of the steps from ``t_0`` to ``t_1``: the grid, laid between the two."""
        if not self.grid:
            return cast(
                list[float],
                torch.linspace(t_0, t_1, self.steps + 1, dtype=torch.float64).tolist(),
            )
        grid = self.grid if t_0 < t_1 else self.grid[::-1]
        low, high = min(t_0, t_1), max(t_0, t_1)
        return [low + (high - low) * t for t in grid]


class Solution(NamedTuple):
    """Where the flow ends."""

    x: Tensor  # like the start
    nfe: int  # evaluations of the velocity, each on the whole batch
    steps: int  # steps accepted (of the slowest sample, if adaptive)
    rejected: int  # steps taken back (of all samples)
    twin: Tensor | None = None  # what reversible-heun needs, beside x, to return; float64


def integrate(
    field: Field,
    x: Tensor,
    t_0: float,
    t_1: float,
    solver: Solver,
    twin: Tensor | None = None,
) -> Solution:
    """Solve ``dx/dt = field(x, t)`` from ``x`` ``[B, ...]`` at ``t_0`` to ``t_1`` (either way).

    A sample's result does not depend on its neighbours in the batch: dopri5 keeps a step size for
    each.

    Args:
        field: the velocity.
        x: the start.
        t_0: its time.
        t_1: the time to arrive at.
        solver: how.
        twin: of the solution that arrived at ``x`` by reversible-heun: with it, and the same
            solver, the way back ends where that one began. Others do without.

    Raises:
        RuntimeError: when dopri5 has not arrived after ``solver.max_steps``.
    """
    if solver.name == REVERSIBLE:
        return _reversible(field, x, t_0, t_1, solver, twin)
    tableau = TABLEAUX[solver.name]
    if tableau.error:
        return _adaptive(field, x, t_0, t_1, solver, tableau)
    for t, t_next in itertools.pairwise(solver.times(t_0, t_1)):
        start, step = _at(x, t), t_next - t
        slopes: list[Tensor] = []
        for c, a in zip(tableau.c, tableau.a, strict=True):
            slopes.append(field(_advance(x, step, a, slopes), start + c * step))
        x = _advance(x, step, tableau.b, slopes)
    return Solution(x, nfe=tableau.stages * solver.steps, steps=solver.steps, rejected=0)


def _advance(
    x: Tensor, step: float | Tensor, weights: tuple[float, ...], slopes: list[Tensor]
) -> Tensor:
    """``x + step * sum_i weights_i slopes_i``."""
    for weight, slope in zip(weights, slopes, strict=True):
        if weight:
            x = x + step * weight * slope
    return x


def _reversible(
    field: Field, x: Tensor, t_0: float, t_1: float, solver: Solver, twin: Tensor | None
) -> Solution:
    """Reversible Heun (Kidger et al. 2021, arXiv 2105.13493, algorithm 1, without noise).

    The velocity is only ever asked at the twin, which leaps over the trapezoid that ``x`` takes.
    A step with ``-h`` is the inverse of a step with ``h``, by algebra alone: to return, the same
    loop walks back. The two states are kept in float64, so that rounding, which an unstable flow
    would amplify, does not reach the velocity's float32.
    """
    here, ghost = x.double(), (x if twin is None else twin).double()
    times = solver.times(t_0, t_1)
    slope = field(ghost.to(x.dtype), _at(x, times[0])).double()
    for t, t_next in itertools.pairwise(times):
        ghost = 2 * here - ghost + (t_next - t) * slope
        slope_next = field(ghost.to(x.dtype), _at(x, t_next)).double()
        here = here + (t_next - t) / 2 * (slope + slope_next)
        slope = slope_next
    return Solution(here.to(x.dtype), solver.steps + 1, solver.steps, rejected=0, twin=ghost)


def _at(x: Tensor, t: float) -> Tensor:
    """A time, for each sample."""
    return x.new_full((len(x),), t, dtype=torch.float32)


def _adaptive(
    field: Field, x: Tensor, t_0: float, t_1: float, solver: Solver, tableau: Tableau
) -> Solution:
    """Embedded pair with a step size for each sample (Hairer, Norsett and Wanner, II.4)."""
    direction = math.copysign(1.0, t_1 - t_0)
    t = x.new_full((len(x),), t_0, dtype=torch.float64)
    end = torch.full_like(t, t_1)
    slope = field(x, t.float())
    nfe, rejected = 1, 0
    step = _first_step(x, slope, abs(t_1 - t_0), solver, tableau.order).double()
    accepted = torch.zeros_like(t, dtype=torch.int64)
    for _ in range(solver.max_steps):
        left = (end - t) * direction
        if (left <= 0).all():
            return Solution(x, nfe=nfe, steps=int(accepted.max()), rejected=rejected)
        h = torch.minimum(step, left).clamp_min(0) * direction  # 0 for samples that arrived
        hx = per_sample(h, x).to(x.dtype)
        slopes = [slope]
        for c, a in zip(tableau.c[1:], tableau.a[1:], strict=True):
            x_new = _advance(x, hx, a, slopes)
            slopes.append(field(x_new, (t + c * h).float()))
        nfe += tableau.stages - 1  # the first stage is the last accepted step's last
        scale = solver.atol + solver.rtol * torch.maximum(x.abs(), x_new.abs())
        error = _rms(_advance(torch.zeros_like(x), hx, tableau.error, slopes) / scale).double()
        good = (error <= 1) & (left > 0)
        rejected += int(((error > 1) & (left > 0)).sum())
        accepted += good
        # Landing on the end exactly, not within rounding of it, is what stops the loop.
        t = torch.where(good, torch.where(step >= left, end, t + h), t)
        keep = per_sample(good, x)
        x, slope = torch.where(keep, x_new, x), torch.where(keep, slopes[-1], slope)
        factor = 0.9 * error.clamp_min(1e-10) ** (-1 / tableau.order)
        step = h.abs() * factor.clamp(0.2, 10.0)
    raise RuntimeError(
        f"dopri5 did not reach t = {t_1:g} in {solver.max_steps} steps (now at {t.tolist()}): "
        "loosen rtol and atol, or raise max_steps"
    )


def _rms(x: Tensor) -> Tensor:
    """Root mean square of each sample: ``[B, ...] -> [B]``."""
    return x.flatten(1).square().mean(1).sqrt()


def _first_step(x: Tensor, slope: Tensor, span: float, solver: Solver, order: int) -> Tensor:
    """A step over which an explicit Euler step would change little (ibid., first half)."""
    scale = solver.atol + solver.rtol * x.abs()
    size, speed = _rms(x / scale), _rms(slope / scale)
    guess = torch.where((size < 1e-5) | (speed < 1e-5), 1e-2, size / speed / 10)
    return guess.clamp(1e-4 * span, span / order)
