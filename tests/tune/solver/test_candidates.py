import numpy as np
import pytest

from pipelines.evaluation.scores import Scored
from semflow import Perturbation, Solver, make_palette
from tune.solver.candidates import Candidate, learnable, perturbations, solvers
from tune.solver.front import choose, dominates, pareto
from tune.solver.hopeless import Hopeless, settled
from tune.solver.trial import trial_file

OWN, SMOOTH = Perturbation(), Perturbation(amplitude=0.2, exponent=2.0)


def trial(right, n=32, seed=0):
    """Two classes of 100 pixels a sample, of which about a share is right."""
    rng = np.random.default_rng(seed)
    counts = np.zeros((n, 2, 3), int)
    for i in range(n):
        hit = rng.binomial(100, right, 2)
        counts[i, [0, 1], [0, 1]], counts[i, [0, 1], [1, 0]] = hit, 100 - hit
    return counts


def candidate(name, nfe, paper=False):
    return Candidate(name=name, direction="segment", solver=Solver(steps=nfe), paper=paper)


def test_candidates_begin_with_the_paper_and_stay_within_their_evaluations():
    grids = {"segment euler 3": [0.0, 0.2, 0.4, 1.0]}
    found = solvers("segment", ("euler", "midpoint", "reversible-heun"), 6, grids, OWN)
    assert (found[0].name, found[0].paper) == ("segment euler 25", True)
    assert max(one.solver.nfe for one in found[1:]) <= 6
    assert len({one.name for one in found}) == len(found)
    learned = {one.name: one.solver for one in found}["segment euler 3 learned"]
    assert (learned.steps, learned.grid) == (3, (0.0, 0.2, 0.4, 1.0))
    wanted = learnable(("euler", "midpoint", "dopri5"), 6)
    assert {(one.name, one.steps) for one in wanted} == {
        ("euler", 2), ("euler", 3), ("euler", 4), ("euler", 5), ("midpoint", 2), ("midpoint", 3)
    }  # fmt: skip


def test_no_perturbation_can_be_tried_from_the_bound_on():
    palette = make_palette("spread", 5)
    bound, *_ = palette.perturbation_bound()
    found = perturbations(palette, Solver(), (0.0, 0.5, 0.99), SMOOTH)
    assert max(one.perturbation.amplitude for one in found) < bound
    assert sum(one.perturbation.amplitude == 0 for one in found) == 1
    assert SMOOTH in [one.perturbation for one in found]
    assert {one.perturbation.exponent for one in found} == {2.0}
    for share in (1.0, 1.5, -0.1, float("nan")):
        with pytest.raises(ValueError, match="shares in"):
            perturbations(palette, Solver(), (share,), OWN)


def test_a_front_is_what_nothing_beats():
    trials = [{"miou": m, "nfe": n} for m, n in [(0.5, 1), (0.7, 2), (0.6, 3), (0.7, 4), (0.9, 25)]]
    assert pareto(trials, "segment") == [0, 1, 4]
    assert not dominates(trials[0], trials[0], {"miou": 1, "nfe": -1})


def test_the_cheapest_that_is_safely_no_worse_is_chosen():
    found = {
        "paper": (candidate("paper", 25, paper=True), Scored(trial(0.9), nfe=25)),
        "bad": (candidate("bad", 1), Scored(trial(0.7), nfe=1)),
        "unsure": (candidate("unsure", 2), Scored(trial(0.885, seed=1), nfe=2)),
        "good": (candidate("good", 3), Scored(trial(0.92, seed=2), nfe=3)),
        "dear": (candidate("dear", 8), Scored(trial(0.99, seed=3), nfe=8)),
    }
    strict = choose(found, "segment", tolerance=0.01, frechet_tolerance=0.1)
    assert strict.candidate.name == "good"
    assert strict.good == ["dear", "good", "paper"]
    assert strict.difference["miou"].low > -0.01
    loose = choose(found, "segment", tolerance=0.1, frechet_tolerance=0.1)
    assert loose.candidate.name == "unsure"
    assert choose(found, "synthesize", tolerance=0.01, frechet_tolerance=0.1) is None


def test_the_paper_is_taken_when_all_else_is_worse():
    found = {
        "paper": (candidate("paper", 25, paper=True), Scored(trial(0.9), nfe=25)),
        "bad": (candidate("bad", 1), Scored(trial(0.7), nfe=1)),
    }
    assert choose(found, "segment", tolerance=0, frechet_tolerance=0).candidate.name == "paper"


def report(one, right, n, seed=0):
    found = Scored(trial(right, n, seed), nfe=float(one.solver.nfe))
    return {"name": one.name, **found.summary(), "spent_nfe": found.nfe * n}


def test_only_what_is_beaten_by_more_than_chance_is_stopped(tmp_path):
    paper, cheap, dear = candidate("paper", 25, paper=True), candidate("a", 1), candidate("b", 4)
    watch = Hopeless(str(tmp_path), [paper, cheap, dear], [16, 32], None)
    assert not watch("1", report(cheap, 0.9, 16))
    assert not watch("2", report(dear, 0.905, 16, seed=1)), "not beaten"
    assert watch("2", report(dear, 0.7, 16, seed=1)), "dearer and worse"
    assert not watch("3", report(paper, 0.5, 16, seed=2)), "all are held against it"
    assert not watch("1", report(cheap, 0.3, 32)), "cheaper: on the front however bad"


def test_what_is_reported_does_not_depend_on_who_came_first():
    cheap, dear, paper = candidate("a", 1), candidate("b", 4), candidate("p", 25, paper=True)
    good, bad = Scored(trial(0.9), nfe=1), Scored(trial(0.7, seed=1), nfe=4)
    late = {"a": (cheap, good), "b": (dear, bad), "p": (paper, Scored(trial(0.6), nfe=25))}
    early = late | {"b": (dear, bad.first(16))}
    one, other = (
        {name: len(scored) for name, (_, scored) in settled(found, [16, 32]).items()}
        for found in (late, early)
    )
    assert one == other == {"a": 32, "b": 16, "p": 32}


def test_a_search_that_goes_on_knows_what_trials_had_found(tmp_path):
    cheap, dear = candidate("a", 1), candidate("b", 4)
    Scored(trial(0.9, 32), nfe=1).save(trial_file(str(tmp_path), "a"))
    watch = Hopeless(str(tmp_path), [cheap, dear], [16, 32], budget=100)
    assert not watch.stop_all(), "32 samples of 1 evaluation"
    assert watch("2", report(dear, 0.7, 16, seed=1))
    assert not watch.stop_all(), "and 16 of 4: 96"
    assert watch("2", report(dear, 0.7, 32, seed=1))
    assert watch.stop_all()
