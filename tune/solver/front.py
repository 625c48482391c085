"""Which trials are worth looking at, and which one to take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.evaluation.scores import Difference, Scored, compare
from tune.solver.candidates import Candidate, Direction

OBJECTIVES: dict[Direction, dict[str, int]] = {
    "segment": {"miou": 1, "nfe": -1},
    "synthesize": {"miou": 1, "frechet": -1, "nfe": -1},
    "perturb": {"miou": 1, "frechet": -1, "diversity": 1},
}
"""What a front is made of: 1 for more, -1 for less. ``miou`` is agreement for synthesized images;
time is left out, since on a busy machine it is noise, and evaluations are most of it."""


def dominates(
    one: Mapping[str, float], other: Mapping[str, float], objectives: Mapping[str, int]
) -> bool:
    """Whether ``one`` is nowhere worse and somewhere better."""
    gains = [sign * (one[name] - other[name]) for name, sign in objectives.items()]
    return all(gain >= 0 for gain in gains) and any(gain > 0 for gain in gains)


def pareto(trials: Sequence[Mapping[str, float]], direction: Direction) -> list[int]:
    """Indices of the trials that no other dominates."""
    objectives = OBJECTIVES[direction]
    return [
        i for i, trial in enumerate(trials)
        if not any(dominates(other, trial, objectives) for other in trials)
    ]  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """The trial that is taken, and how it differs from the paper's setting."""

    candidate: Candidate
    summary: dict[str, float]
    paper: dict[str, float]
    difference: dict[str, Difference]
    good: list[str]
    """Names of all that are no worse than the paper's."""


def choose(
    found: Mapping[str, tuple[Candidate, Scored]],
    direction: Direction,
    *,
    tolerance: float,
    frechet_tolerance: float,
) -> Choice | None:
    """The cheapest way to solve, or the most diverse way to perturb, that is no worse.

    No worse is a claim about what could be, not about the estimate: the lower end of the 95 %
    interval of the difference in mIoU from the paper's setting lies above ``-tolerance``, and the
    upper end of that in Fréchet distance below ``frechet_tolerance`` of the paper's distance.

    Args:
        found: trials that saw all samples, by name.
        direction: of those to choose from.
        tolerance: of mIoU.
        frechet_tolerance: of the Fréchet distance, as a share.
    """
    mine = {name: pair for name, pair in found.items() if pair[0].direction == direction}
    papers = [pair for pair in mine.values() if pair[0].paper]
    if not papers:
        return None
    paper, base = papers[0]
    limit = frechet_tolerance * base.frechet()
    good: dict[str, dict[str, Difference]] = {}
    for name, (_, scored) in mine.items():
        difference = compare(scored, base)
        better = difference["miou"].low >= -tolerance
        if better and ("frechet" not in difference or difference["frechet"].high <= limit):
            good[name] = difference
    good.setdefault(paper.name, compare(base, base))
    summaries = {name: mine[name][1].summary() for name in good}

    def rank(name: str) -> Any:
        summary = summaries[name]
        if direction == "perturb":
            return (-summary["diversity"],)
        return (summary["nfe"], -summary["miou"])

    best = min(good, key=rank)
    return Choice(mine[best][0], summaries[best], base.summary(), good[best], sorted(good))
