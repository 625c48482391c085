"""Small networks of our own in a folder: a configuration that says their sizes, and safetensors."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from semflow.networks import trusted

CONFIG, WEIGHTS = "config.json", "weights.safetensors"

Network = TypeVar("Network", bound=nn.Module)


def save(folder: str | Path, network: nn.Module, identity: Mapping[str, Any]) -> None:
    """Write a network; ``identity`` has its ``_class_name`` and its sizes."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(weights, Path(folder) / WEIGHTS)
    (Path(folder) / CONFIG).write_text(json.dumps(dict(identity), indent=2) + "\n")


def load(
    folder: str | Path, name: str, what: str, build: Callable[[dict[str, Any]], Network]
) -> Network:
    """A network that :func:`save` wrote, frozen. No memory is taken before its sizes are checked.

    Args:
        folder: of the network.
        name: the class that its configuration has to name.
        what: it is, for messages.
        build: makes one, with weights that are to be set, of its configuration.

    Raises:
        ValueError: when it is none, is damaged, or ``build`` refuses it.
    """
    where = Path(folder) / CONFIG
    config = trusted.read_json(where)
    if config.get("_class_name") != name:
        raise ValueError(f"{where} names {config.get('_class_name')!r}, which is no {what}")
    weights = Path(folder) / WEIGHTS
    try:
        with torch.device("meta"):
            asked = sum(v.numel() for v in build(config).state_dict().values())
        if asked != trusted.values_in([weights]):
            raise ValueError("the weights are of other sizes than config.json says")
        network = build(config)
        network.load_state_dict(load_file(weights))
    except (KeyError, TypeError, RuntimeError, OSError, SafetensorError, ValueError) as error:
        raise ValueError(f"{folder} holds no {what} that can be loaded: {error}") from error
    return network.eval().requires_grad_(False)
