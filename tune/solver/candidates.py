"""What a search tries: ways to solve in either direction, and ways to perturb."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from semflow import Palette, Perturbation, Solver
from semflow.flow.solvers import SolverName

Direction = Literal["segment", "synthesize", "perturb"]
Grids = dict[str, list[float]]
"""Learned grids by :func:`grid_name`."""

PAPER = Solver(name="euler", steps=25)
PAPER_AMPLITUDE = 0.05
STEPS = (1, 2, 3, 4, 5, 8, 12, 25)
LEARNED_STEPS = (2, 3, 4, 5)
TOLERANCES = (0.1, 0.03)
"""Of dopri5, relative and absolute alike."""
UNIT = math.sqrt(3)
"""Amplitude of uniform noise whose standard deviation is 1, as a code's is."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One trial: what it is called, and what it does."""

    name: str
    direction: Direction
    solver: Solver
    """For masks when it segments, else for images."""
    perturbation: Perturbation = field(default_factory=Perturbation)
    """Of the masks, when images are made."""
    paper: bool = False
    """Whether it is the paper's own setting, which all others are held against."""


def grid_name(direction: Direction, solver: Solver) -> str:
    return f"{direction} {solver.name} {solver.steps}"


def learnable(names: tuple[SolverName, ...], max_nfe: int) -> list[Solver]:
    """Solvers whose grids are worth learning: two to five steps."""
    tried = [Solver(name=name, steps=steps) for name in names if name != "dopri5"
             for steps in LEARNED_STEPS]  # fmt: skip
    return [solver for solver in tried if (solver.nfe or 0) <= max_nfe]


def solvers(
    direction: Direction,
    names: tuple[SolverName, ...],
    max_nfe: int,
    grids: Grids,
    perturbation: Perturbation,
) -> list[Candidate]:
    """Ways to solve, the paper's first, then from few evaluations to many."""
    ways = {}
    for name in names:
        if name == "dopri5":
            for tolerance in TOLERANCES:
                ways[f"dopri5 at {tolerance:g}"] = Solver(name=name, rtol=tolerance, atol=tolerance)
            continue
        for steps in STEPS:
            solver = Solver(name=name, steps=steps)
            if (solver.nfe or 0) > max_nfe:
                continue
            ways[f"{name} {steps}"] = solver
            if grid := grids.get(grid_name(direction, solver)):
                ways[f"{name} {steps} learned"] = Solver(name=name, steps=steps, grid=tuple(grid))
    ways.pop("euler 25", None)
    ordered = sorted(ways.items(), key=lambda way: way[1].nfe or max_nfe)
    paper = Candidate(
        name=f"{direction} euler 25", direction=direction, solver=PAPER, perturbation=perturbation,
        paper=True,
    )  # fmt: skip
    return [paper] + [
        Candidate(name=f"{direction} {name}", direction=direction, solver=solver,
                  perturbation=perturbation)
        for name, solver in ordered
    ]  # fmt: skip


def bearable(palette: Palette) -> float:
    """The amplitude from which on a label could change; where none could, with a mask codec's own
    channels for it, that of noise as wide as the code is."""
    bound, *_ = palette.perturbation_bound()
    return min(bound, UNIT)


def perturbations(
    palette: Palette, solver: Solver, shares: tuple[float, ...], own: Perturbation
) -> list[Candidate]:
    """Ways to perturb: both kinds, at shares of what is bearable; the paper's first.

    All with the spectral exponent of the model's ``own``, and that itself.

    Raises:
        ValueError: for a share that is not in [0, 1): from the bound on, a label could change.
    """
    bound = bearable(palette)
    if not all(0 <= share < 1 for share in shares):
        raise ValueError(
            f"amplitudes are shares in [0, 1) of the bound {bound:.4f}, not {list(shares)}: from "
            "the bound on, a perturbation could turn a class into another"
        )
    ways = [replace(own, kind="uniform", amplitude=min(PAPER_AMPLITUDE, 0.99 * bound))]
    ways += [own] * (own.amplitude > 0)
    ways += [replace(own, amplitude=0.0)] * (0 in shares)
    ways += [
        replace(own, kind=kind, amplitude=round(share * bound, 4))
        for kind in ("uniform", "gaussian")
        for share in sorted(shares)
        if share
    ]
    for way in ways:
        way.check(palette)
    return [
        Candidate(name=f"perturb {way.kind} {way.amplitude:g}", direction="perturb", solver=solver,
                  perturbation=way, paper=number == 0)
        for number, way in enumerate(dict.fromkeys(ways))
    ]  # fmt: skip
