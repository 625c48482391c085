"""How straight a flow is, and the time grid on which few steps follow it best.

Both are read from a reference trajectory: many small steps of Heun's method, with the velocity at
each of its times. Shapes: B batch, N steps of the reference, ``...`` that of the latents.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from semflow.flow.solvers import Field, Solver, integrate


class Trajectory(NamedTuple):
    """A flow's way through a batch, from its start to its end."""

    times: list[float]  # [N + 1], rising or falling
    x: Tensor  # [N + 1, B, ...]
    v: Tensor  # [N + 1, B, ...], the velocity there


def follow(field: Field, x: Tensor, t_0: float, t_1: float, steps: int = 32) -> Trajectory:
    """The trajectory of ``x`` ``[B, ...]`` from ``t_0`` to ``t_1`` in ``steps`` steps of Heun."""
    times = Solver(name="heun", steps=steps).times(t_0, t_1)
    states, slopes = [x], [field(x, x.new_full((len(x),), t_0, dtype=torch.float32))]
    for t, t_next in itertools.pairwise(times):
        x = integrate(field, x, t, t_next, Solver(name="heun", steps=1)).x
        states.append(x)
        slopes.append(field(x, x.new_full((len(x),), t_next, dtype=torch.float32)))
    return Trajectory(times, torch.stack(states), torch.stack(slopes))


@dataclass
class Curvature:
    """Measures of a flow, as sums over samples that can be added up.

    All are relative to the mean square distance from start to end, so that 1 is as far off as the
    way is long.
    """

    times: list[float]
    samples: int
    distance: Tensor  # [], of start and end, squared
    off_chord: Tensor  # [N + 1], of the velocity and the straight way's, squared
    turning: Tensor  # [N], of dv/dt between two times, squared
    euler: Tensor  # [N + 1, N + 1], error of one Euler step from time i to time j, squared
    trapezoid: Tensor  # likewise of one that takes the mean of both ends' velocities

    @classmethod
    def of(cls, way: Trajectory) -> Curvature:
        """Measure a batch's trajectory."""
        times = torch.tensor(way.times, dtype=way.x.dtype)
        span = way.times[-1] - way.times[0]
        chord = (way.x[-1] - way.x[0]) / span
        euler, trapezoid = (torch.zeros(len(times), len(times)) for _ in range(2))
        for i in range(len(times) - 1):
            h = (times[i + 1 :] - times[i]).reshape(-1, *[1] * (way.x.ndim - 1)).to(way.x)
            rest = way.x[i + 1 :] - way.x[i]
            euler[i, i + 1 :] = _squares(rest - h * way.v[i])
            trapezoid[i, i + 1 :] = _squares(rest - h * (way.v[i] + way.v[i + 1 :]) / 2)
        step = times.diff().reshape(-1, *[1] * (way.x.ndim - 1)).to(way.x)
        return cls(
            way.times, way.x.shape[1], _squares((chord * span)[None])[0], _squares(way.v - chord),
            _squares(way.v.diff(dim=0) / step), euler, trapezoid,
        )  # fmt: skip

    def __add__(self, other: Curvature) -> Curvature:
        if self.times != other.times:
            raise ValueError("curvatures measured at different times cannot be added")
        return Curvature(
            self.times, self.samples + other.samples, self.distance + other.distance,
            self.off_chord + other.off_chord, self.turning + other.turning,
            self.euler + other.euler, self.trapezoid + other.trapezoid,
        )  # fmt: skip

    @property
    def straightness(self) -> float:
        """S of rectified flow (Liu et al. 2022, arXiv 2209.03003, section 2.2): the time mean of
        ``|(x_1 - x_0) - v|^2``, here over ``|x_1 - x_0|^2``; 0 when all ways are straight."""
        times = torch.tensor(self.times, dtype=torch.float64)
        off = self.off_chord.double()
        whole = torch.trapezoid(off, times) / (times[-1] - times[0])
        return float(whole / self.distance.double())

    @property
    def by_time(self) -> tuple[list[float], list[float]]:
        """Middles of the N steps, and how fast the velocity turns there: root mean square of
        dv/dt over that of ``x_1 - x_0``."""
        middles = [(a + b) / 2 for a, b in itertools.pairwise(self.times)]
        turning: list[float] = (self.turning / self.distance).sqrt().tolist()
        return middles, turning

    def grid(self, steps: int, order: int = 1) -> tuple[float, ...]:
        """Times of ``steps`` steps, from 0 to 1, that leave the least error along the way.

        The choice among the reference's times that minimizes the sum of the steps' errors (root
        mean squares; a bound of the whole error but for how the flow itself spreads or gathers),
        found by dynamic programming.

        Args:
            steps: at most the reference's.
            order: 1 for Euler's errors, else those of a trapezoid, which stand for any second
                order.

        Raises:
            ValueError: for too many steps.
        """
        known = len(self.times) - 1
        if not 1 <= steps <= known:
            raise ValueError(f"a grid of 1 to {known} steps can be learned, not of {steps}")
        cost = (self.euler if order == 1 else self.trapezoid).double().sqrt()
        cost = torch.where(cost.new_ones(cost.shape).triu(1).bool(), cost, torch.inf)
        best, before = cost[0], []
        for _ in range(steps - 1):
            best, source = (best[:, None] + cost).min(0)
            before.append(source)
        path = [known]
        for source in reversed(before):
            path.append(int(source[path[-1]]))
        chosen = [self.times[i] for i in [0, *reversed(path)]]
        low, high = min(self.times[0], self.times[-1]), max(self.times[0], self.times[-1])
        return tuple(sorted((t - low) / (high - low) for t in chosen))


def fit_grid(
    field: Field, way: Trajectory, curvature: Curvature, solver: Solver, rounds: int = 4
) -> tuple[float, ...]:
    """The grid of ``solver.steps`` steps whose end is nearest to the reference's.

    With few steps the errors are no longer small, and what each does to the end is no sum any more.
    So from equal steps or from :meth:`Curvature.grid`, whichever ends nearer, each time is moved
    towards its neighbours, by ever smaller shares, for as long as the end comes nearer.
    """

    def error(grid: Sequence[float]) -> float:
        tried = replace(solver, grid=tuple(grid))
        end = integrate(field, way.x[0], way.times[0], way.times[-1], tried).x
        return float((end - way.x[-1]).float().square().mean())

    equal = Solver(steps=solver.steps).times(0, 1)
    starts = [equal, list(curvature.grid(solver.steps, solver.order))]
    best, grid = min((error(start), start) for start in starts)
    for number in range(rounds):
        share = 0.5 * 0.6**number
        for i in range(1, solver.steps):
            for neighbour in (i - 1, i + 1):
                moved = [*grid[:i], grid[i] + share * (grid[neighbour] - grid[i]), *grid[i + 1 :]]
                if (found := error(moved)) < best:
                    best, grid = found, moved
                    break
    return tuple(grid)


def _squares(x: Tensor) -> Tensor:
    """``[M, B, ...]`` to ``[M]``: the mean square of a sample, summed over the batch."""
    return x.float().flatten(2).square().mean(2).sum(1).cpu()
