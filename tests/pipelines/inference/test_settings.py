import json

import pytest
import torch

from pipelines.inference import settings
from pipelines.inference.predictors import PerturbationChoice, SolverChoice
from pipelines.inference.settings import Settings
from semflow import Perturbation, SemFlow, Solver, load_autoencoder, make_palette, make_velocity
from semflow.sampler import Defaults

GRID = Solver(name="reversible-heun", steps=2, grid=(0.0, 0.3, 1.0))


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    made = SemFlow(
        make_velocity("tiny", 48), load_autoencoder("space-to-depth"), make_palette("spread", 3),
        Defaults(height=32, width=32, segment=Solver(steps=3)), {"dataset": "abc"},
    )  # fmt: skip
    made.save(tmp_path / "model")
    return str(tmp_path / "model")


def test_settings_survive_their_file_and_go_before_the_models_own(model, tmp_path):
    index = settings.read_model_index(model)
    found = Settings(segment=GRID, perturbation=Perturbation(amplitude=0.1))
    where = f"{tmp_path}/settings.json"
    about = {"model": model, "model_fingerprint": settings.model_fingerprint(index)}
    settings.write(where, found, about)
    own, new = settings.read_defaults(index, None), settings.read_defaults(index, where)
    assert own.segment == Solver(steps=3)
    assert (new.segment, new.perturbation.amplitude) == (GRID, 0.1)
    assert new.synthesize == own.synthesize


def test_settings_of_another_model_or_of_nothing_are_refused(model, tmp_path):
    index = settings.read_model_index(model)
    where = f"{tmp_path}/settings.json"
    settings.write(where, Settings(), {"model": "out/other", "model_fingerprint": "0"})
    with pytest.raises(ValueError, match="another model"):
        settings.read_defaults(index, where)
    (tmp_path / "settings.json").write_text(json.dumps([1]))
    with pytest.raises(ValueError, match="no settings file"):
        settings.read_defaults(index, where)
    with pytest.raises(ValueError, match=r"search_solver\.py"):
        settings.read_defaults(index, f"{tmp_path}/nowhere.json")
    (tmp_path / "settings.json").write_text(json.dumps({"settings": {"segmentt": None}}))
    with pytest.raises(ValueError, match="segmentt"):
        settings.read_defaults(index, where)


def test_settings_become_a_models_defaults_and_it_stays_the_same_model(model):
    before = settings.model_fingerprint(settings.read_model_index(model))
    settings.write_into_model(model, Settings(segment=GRID))
    assert SemFlow.load(model).defaults.segment == GRID
    assert settings.model_fingerprint(settings.read_model_index(model)) == before
    with pytest.raises(ValueError, match="could turn class"):
        settings.write_into_model(model, Settings(perturbation=Perturbation(amplitude=1.9)))
    assert SemFlow.load(model).defaults.perturbation == Perturbation()


def test_the_card_follows_the_defaults_unless_a_person_has_edited_it(model, tmp_path):
    card = tmp_path / "model" / "README.md"
    settings.write_into_model(model, Settings(segment=GRID))
    assert "reversible-heun, 2 steps of its own grid" in card.read_text()
    card.write_text(card.read_text() + "license: mine\n")
    edited = card.read_text()
    settings.write_into_model(model, Settings(segment=Solver(steps=9)))
    assert card.read_text() == edited


def test_a_choice_of_other_steps_drops_the_grid_of_the_default():
    assert SolverChoice(steps=5).over(GRID) == Solver(name="reversible-heun", steps=5)
    assert SolverChoice(grid=(0.0, 0.5, 0.9, 1.0)).over(Solver()).steps == 3
    assert SolverChoice(rtol=0.5).over(GRID).grid == GRID.grid
    assert PerturbationChoice(amplitude=0.2).over(Perturbation(kind="gaussian")) == Perturbation(
        kind="gaussian", amplitude=0.2
    )
