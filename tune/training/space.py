"""Dimensions of a training search: any key of the configuration, with a checked domain.

Written ``KEY=LOW..HIGH`` (equally likely), ``KEY=LOW..HIGH:log`` (every scale equally likely) or
``KEY=A,B,C``. Keys are those of the command line, dotted: ``lr``, ``path.at_image``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from ray import tune

from pipelines import config
from pipelines.training.config import TrainConfig

RANGE = re.compile(r"([^.:]+(?:\.\d+)?(?:e[-+]?\d+)?)\.\.(.+?)(:log)?")


@dataclass(frozen=True)
class Dimension:
    """One key and the values it may take."""

    key: str
    values: tuple[Any, ...] = ()
    """To choose from; if none, it is a range."""
    low: float = 0
    high: float = 0
    log: bool = False
    whole: bool = False
    """Whether only integers are meant; then ``high`` is one of them."""

    @property
    def domain(self) -> Any:
        """Ray Tune's."""
        if self.values:
            return tune.choice(list(self.values))
        if self.whole:
            low, end = int(self.low), int(self.high) + 1
            return tune.lograndint(low, end) if self.log else tune.randint(low, end)
        return (tune.loguniform if self.log else tune.uniform)(self.low, self.high)

    @property
    def ends(self) -> tuple[Any, ...]:
        """Values that must be allowed if all are to be."""
        if self.values:
            return self.values
        return (int(self.low), int(self.high)) if self.whole else (self.low, self.high)


def parse(words: Sequence[str], base: TrainConfig) -> list[Dimension]:
    """Dimensions from words of the command line, checked against a configuration.

    Raises:
        ValueError: for what cannot be read, an unknown key, or a value the key does not take.
    """
    found = [parse_one(word, base) for word in words]
    keys = [one.key for one in found]
    if len(set(keys)) < len(keys):
        raise ValueError(f"a key is there twice: {', '.join(sorted(keys))}")
    for one in found:
        for value in one.ends:
            try:
                changed(base, {one.key: value})
            except ValidationError as error:
                why = error.errors()[0]["msg"]
                raise ValueError(f"{one.key} cannot be {value!r}: {why}") from error
    return found


def parse_one(word: str, base: TrainConfig) -> Dimension:
    """One word; ``base`` says whether a range is of integers."""
    key, equals, text = word.partition("=")
    key = key.replace("-", "_")
    flat = config.flatten(config.to_dict(base))
    if not equals or not text:
        raise ValueError(f"{word!r} is no dimension: write KEY=LOW..HIGH, with :log, or KEY=A,B,C")
    if key not in flat:
        raise ValueError(f"there is no {key!r} to search; there are {', '.join(flat)}")
    if not (matched := RANGE.fullmatch(text)):
        return Dimension(key, values=tuple(literal(part) for part in text.split(",")))
    try:
        low, high = float(matched[1]), float(matched[2])
    except ValueError:
        raise ValueError(f"{word!r}: a range is of two numbers, LOW..HIGH") from None
    log = bool(matched[3])
    if not low < high or (log and low <= 0):
        raise ValueError(f"{word!r}: a range rises{', and above 0 with :log' if log else ''}")
    now = flat[key]
    return Dimension(key, low=low, high=high, log=log,
                     whole=isinstance(now, int) and not isinstance(now, bool))  # fmt: skip


def literal(text: str) -> Any:
    """A number, true, false or null as such; else the text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def changed(base: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    """A configuration with dotted keys changed.

    Raises:
        pydantic.ValidationError: for a key or a value it does not take.
    """
    data = config.to_dict(base)
    for key, value in values.items():
        *path, last = key.split(".")
        inner = data
        for part in path:
            inner = inner[part]
        inner[last] = value
    return config.from_dict(TrainConfig, data)


def current(base: TrainConfig, dimensions: Sequence[Dimension]) -> dict[str, Any]:
    """What the configuration itself has for the keys that are searched."""
    flat = config.flatten(config.to_dict(base))
    return {one.key: flat[one.key] for one in dimensions}


def flags(values: Mapping[str, Any]) -> str:
    """Values as options of train.py."""
    words = []
    for key, value in values.items():
        name = key.replace("_", "-")
        if isinstance(value, bool):
            *path, last = name.split(".")
            words.append("--" + ".".join([*path, last if value else f"no-{last}"]))
        else:
            words.append(f"--{name} {value:.4g}" if isinstance(value, float) else
                         f"--{name} {value}")  # fmt: skip
    return " ".join(words)
