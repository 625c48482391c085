"""Ends trials that can no longer win, and searches whose budget is spent."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ray import tune

from pipelines.evaluation.scores import Scored
from tune.solver.candidates import Candidate
from tune.solver.front import OBJECTIVES, dominates
from tune.solver.trial import recall


class Hopeless(tune.Stopper):
    """Stops a trial that another one beats, on the same samples, by more than chance.

    Beaten is: worse in nothing that a front is made of, and in mIoU better by more than twice the
    standard error of the two. The paper's settings are never stopped: all are held against them.
    """

    def __init__(
        self, output: str, candidates: list[Candidate], rungs: list[int], budget: float | None
    ) -> None:
        self.output, self.rungs, self.budget = output, rungs, budget
        self.candidates = {candidate.name: candidate for candidate in candidates}
        self.seen: dict[int, dict[str, Mapping[str, float]]] | None = None
        self.spent: dict[str, float] = {}

    def _recall(self) -> dict[int, dict[str, Mapping[str, float]]]:
        """What trials found before an interruption, as they would have reported it."""
        if self.seen is None:
            self.seen = {rung: {} for rung in self.rungs}
            for name in self.candidates:
                scored = None
                with suppress(ValueError):  # the trial itself will say so
                    scored = recall(self.output, name)
                if scored:
                    self.spent[name] = scored.nfe * len(scored)
                    for rung in self.rungs:
                        if rung <= len(scored):
                            self.seen[rung][name] = scored.first(rung).summary()
        return self.seen

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether to stop a trial that has reported ``result``."""
        name, rung = result["name"], int(result["samples"])
        peers = self._recall()[rung]
        peers[name] = result
        self.spent[name] = result["spent_nfe"]
        return beaten(name, peers, self.candidates)

    def stop_all(self) -> bool:
        """Whether the evaluations that were allowed are spent."""
        self._recall()
        return self.budget is not None and sum(self.spent.values()) >= self.budget


def settled(
    found: Mapping[str, tuple[Candidate, Scored]], rungs: list[int]
) -> dict[str, tuple[Candidate, Scored]]:
    """Trials with what they had found when they first were hopeless, had all run side by side.

    Which trials are ended while a search runs depends on who came first, and that on the machine.
    What is reported shall not: a trial that went on, since the one that beats it came later, is
    cut to the look at which it was beaten.
    """
    candidates = {name: candidate for name, (candidate, _) in found.items()}
    ended: dict[str, int] = {}
    for rung in rungs:
        peers = {
            name: scored.first(rung).summary()
            for name, (_, scored) in found.items()
            if name not in ended and len(scored) >= rung
        }
        ended |= {name: rung for name in peers if beaten(name, peers, candidates)}
    return {
        name: (candidate, scored.first(ended.get(name, len(scored))))
        for name, (candidate, scored) in found.items()
    }


def beaten(
    name: str, peers: Mapping[str, Mapping[str, float]], candidates: Mapping[str, Candidate]
) -> bool:
    """Whether one of its peers, after as many samples, leaves a trial no hope."""
    mine = candidates[name]
    return not mine.paper and any(
        candidates[other].direction == mine.direction and beats(theirs, peers[name], mine)
        for other, theirs in peers.items()
        if other != name
    )


def beats(one: Mapping[str, float], other: Mapping[str, float], candidate: Candidate) -> bool:
    """Whether ``one`` leaves ``other`` no hope."""
    gap = one["miou"] - other["miou"]
    noise = (one["miou_se"] ** 2 + other["miou_se"] ** 2) ** 0.5
    return gap > 2 * noise and dominates(one, other, OBJECTIVES[candidate.direction])
