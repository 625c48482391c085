"""Settings: how to solve and perturb with a model, as a search found them.

A small JSON file that label.py, synthesize.py and evaluate.py take with ``--settings``. What it
says goes before the model's own defaults, and the command line goes before both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from infra import storage
from pipelines import config
from semflow import Palette, Perturbation, Solver
from semflow.card import model_card
from semflow.sampler import CARD, INDEX, Defaults


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to use instead of a model's defaults; None leaves them."""

    segment: Solver | None = None
    synthesize: Solver | None = None
    perturbation: Perturbation | None = None
    window: int | None = None

    def over(self, defaults: Defaults) -> Defaults:
        """A model's defaults with these in their place."""
        chosen = {key: value for key, value in self.__dict__.items() if value is not None}
        return replace(defaults, **chosen)


def read_model_index(model: str) -> dict[str, Any]:
    """``model_index.json`` of a model folder.

    Raises:
        ValueError: when there is no model.
    """
    location = storage.join(model, INDEX)
    if not storage.exists(location):
        raise ValueError(f"{model} is no SemFlow model: it has no {INDEX}")
    index: dict[str, Any] = storage.read_json(location)
    return index


def read_defaults(index: dict[str, Any], settings: str | None) -> Defaults:
    """A model's defaults, with those of the settings file at URI ``settings`` in their place.

    Raises:
        ValueError: when that is no settings file, or was found for another model.
    """
    defaults = Defaults.from_json(index["defaults"])
    if not settings:
        return defaults
    if not storage.exists(settings):
        raise ValueError(f"no settings at {settings}; tune/search_solver.py makes such a file")
    data = storage.read_json(settings)
    if not isinstance(data, dict) or "settings" not in data:
        raise ValueError(f"{settings} is no settings file: it has no 'settings'")
    found_for = data.get("found", {}).get("model_fingerprint")
    if found_for and found_for != model_fingerprint(index):
        raise ValueError(
            f"{settings} was found for another model ({data['found'].get('model')}): what suits "
            "one flow need not suit the next. Search again, or remove 'model_fingerprint' from it"
        )
    return config.from_dict(Settings, data["settings"]).over(defaults)


def write(where: str, settings: Settings, found: dict[str, Any]) -> None:
    """Write a settings file; ``found`` says of what model, on what data and how they were found."""
    storage.write_json(where, {"settings": config.to_dict(settings), "found": found})


def write_into_model(model: str, settings: Settings) -> None:
    """Make them the defaults that a model folder carries; its card says so, unless it was edited.

    Raises:
        ValueError: when a perturbation could change a label with the model's palette.
    """
    index = read_model_index(model)
    changed = settings.over(Defaults.from_json(index["defaults"]))
    changed.perturbation.check(Palette.from_json(index["palette"]))
    card, new = storage.join(model, CARD), index | {"defaults": changed.to_json()}
    if storage.exists(card) and storage.read_bytes(card) == model_card(index).encode():
        storage.write_bytes(card, model_card(new).encode())
    storage.write_json(storage.join(model, INDEX), new)


def model_fingerprint(index: dict[str, Any]) -> str:
    """Of what a model was trained to, whatever its defaults."""
    return config.fingerprint([index["palette"], index["provenance"]])
