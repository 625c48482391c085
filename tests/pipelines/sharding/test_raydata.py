"""GPUs that are asked for and not there are said, not waited for."""

import threading

import pytest

from pipelines.config import UserError
from pipelines.sharding import raydata

CPUS, ONE, TWO = {"CPU": 4.0}, {"CPU": 4.0, "GPU": 1.0}, {"GPU": 2.0}


@pytest.mark.parametrize(
    ("nodes", "gpus", "number", "enough"),
    [([CPUS], 0, 8, True), ([CPUS], 1, 1, False), ([ONE], 1, 1, True), ([ONE], 1, 2, False),
     ([ONE], 0.1, 10, True), ([ONE], 0.1, 11, False), ([ONE, ONE], 2, 1, False),
     ([ONE, ONE], 1, 2, True), ([TWO], 2, 1, True), ([ONE, ONE], 0.6, 3, False)],
)  # fmt: skip
def test_gpus_are_counted_machine_by_machine(nodes, gpus, number, enough):
    assert (raydata.lacking_gpus(nodes, gpus, number) == "") == enough


def test_the_sentence_says_what_was_asked_what_there_is_and_the_flag():
    assert raydata.lacking_gpus([CPUS], 1) == (
        "GPUs are asked for, 1 to each, and Ray knows one machine with 0. "
        "--ray.gpus-per-actor 0 runs on CPUs"
    )
    several = raydata.lacking_gpus([ONE, TWO], 1, 8)
    assert "1 to each of 8 workers, and Ray knows 2 machines with 1, 2." in several


@pytest.fixture
def machine(monkeypatch):
    nodes = [CPUS]
    monkeypatch.setattr(raydata, "_nodes", lambda: nodes)
    monkeypatch.setattr(raydata.ray, "is_initialized", lambda: True)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return nodes


def test_a_machine_of_its_own_refuses_at_once(machine):
    raydata.init(None)
    with pytest.raises(UserError, match=r"1 to each.*--ray.gpus-per-actor 0"):
        raydata.init(None, gpus=1)


def waited(patience):
    before = set(threading.enumerate())
    raydata.require_gpus(1, grows=True, patience=patience)
    for timer in set(threading.enumerate()) - before:
        timer.join(10)


def test_a_cluster_that_was_joined_is_waited_for_and_it_is_said_once(machine, capsys):
    raydata.init("auto", gpus=1)  # no error
    waited(0.01)
    assert capsys.readouterr().err.count("still waiting. GPUs are asked for, 1 to each") == 1
    before = set(threading.enumerate())
    raydata.require_gpus(1, grows=True, patience=0.2)
    machine[:] = [ONE]  # it grew
    for timer in set(threading.enumerate()) - before:
        timer.join(10)
    assert capsys.readouterr().err == ""
