"""What a model's folder may say and name: the one place where its files are believed.

A folder comes from anywhere. Its JSON names classes, files and sizes, and each of the three could
run code, read a pickle or take all memory. Here a class is one of those listed, a file is JSON or
safetensors, and a number is one that a network could have.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

WEIGHTS = "diffusion_pytorch_model.safetensors"
UNETS = ("UNet2DModel", "UNet2DConditionModel")
AUTOENCODERS = ("AutoencoderKL", "AutoencoderTiny", "AutoencoderDC")
"""Classes of diffusers that a configuration may name; no other is ever looked up by its name."""

MOST_BYTES = 16 * 2**20
"""Of a JSON file: an honest one has kilobytes."""
MOST, MOST_LAYERS, MOST_ENTRIES = 2**16, 64, 1024
"""Of any number in a network's configuration, of a number of layers, of a list or table: the
largest published networks are far below."""


def read_json(path: str | Path) -> dict[str, Any]:
    """The JSON object in a file of a model's folder.

    Raises:
        ValueError: when there is none, naming the file.
    """
    path = Path(path)
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size} bytes, more than any model's JSON")
    try:
        data = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} cannot be read as JSON ({type(error).__name__}: {error}): it was cut or "
            "changed; copy the model's folder again"
        ) from error
    if not isinstance(data, dict):
        raise ValueError(f"{path} holds a {type(data).__name__} where an object was expected")
    return data


def class_named(config: Mapping[str, Any], allowed: tuple[str, ...], path: str | Path) -> Any:
    """The class of diffusers that a configuration names.

    Args:
        config: what ``path`` holds.
        allowed: names to choose from.
        path: for the message.

    Raises:
        ValueError: when it names none, another one, or sizes that no network has.
    """
    name = config.get("_class_name")
    if name not in allowed:
        raise ValueError(
            f"{path} names the class {name!r}; what is loaded here is one of {', '.join(allowed)}"
        )
    _check_sizes(config, str(path))
    import diffusers

    return getattr(diffusers, cast(str, name))


def _check_sizes(value: Any, where: str, key: str = "", depth: int = 0) -> None:
    """Refuse numbers, lists and nestings that are out of any network's range."""
    children: list[tuple[str, Any]] = []
    if isinstance(value, Mapping):
        children = [(str(k), v) for k, v in value.items()]
    elif isinstance(value, list | tuple):
        children = [(key, v) for v in value]
    most = MOST_LAYERS if "layers" in key else MOST
    wrong = (
        depth > 8
        or len(children) > MOST_ENTRIES
        or (isinstance(value, int | float) and not -most <= value <= most)
    )
    if wrong:
        shown = str(value)[:60]
        raise ValueError(f"{where}: {key or 'the whole'} is out of range for a network: {shown}")
    for name, child in children:
        _check_sizes(child, where, name, depth + 1)


def network_from(kind: Any, config: Mapping[str, Any], folder: str | Path) -> Any:
    """A network of class ``kind`` with the weights in ``folder``, which fit its configuration.

    Nothing but safetensors is opened. Shapes are compared before memory is taken for them.

    Raises:
        ValueError: when files are missing, damaged or no safetensors, or do not fit.
    """
    import torch

    there = values_in(weight_files(folder))
    try:
        with torch.device("meta"):
            asked = sum(v.numel() for v in kind.from_config(config).state_dict().values())
        if asked != there:
            raise ValueError(f"config.json asks for {asked} values, the weights have {there}")
        network, info = kind.from_pretrained(
            folder, use_safetensors=True, low_cpu_mem_usage=False, output_loading_info=True
        )
        if wrong := [*info["missing_keys"], *info["unexpected_keys"]]:  # diffusers only warns
            raise ValueError(f"tensors have other names than config.json has: {wrong[:3]}, ...")
    except Exception as error:  # whatever a strange configuration lets its class raise
        raise ValueError(
            f"{folder} holds no {kind.__name__} that can be loaded: {error}"
        ) from error
    return network


def weight_files(folder: str | Path) -> list[Path]:
    """The files of a network's weights: one, or the parts that an index names.

    Raises:
        ValueError: when there are none, or a part is no safetensors file beside the index.
    """
    whole, index = Path(folder) / WEIGHTS, Path(folder) / f"{WEIGHTS}.index.json"
    if not index.is_file():
        if not whole.is_file():
            raise ValueError(f"{folder} has no {WEIGHTS}: only safetensors are read")
        return [whole]
    parts = read_json(index).get("weight_map")
    names = set(map(str, parts.values())) if isinstance(parts, dict) else set()
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ValueError(
                f"{index} names {name!r} as a part of the weights: parts are .safetensors files "
                "beside it"
            )
    if not names:
        raise ValueError(f"{index} names no parts of the weights")
    return [Path(folder) / name for name in sorted(names)]


def values_in(files: list[Path]) -> int:
    """How many values the tensors in safetensors files have, from their headers alone.

    Raises:
        ValueError: when one cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    count = 0
    for path in files:
        try:
            with safe_open(path, "pt") as file:
                shapes = (file.get_slice(name).get_shape() for name in file.keys())  # noqa: SIM118
                count += sum(math.prod(shape) for shape in shapes)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} is missing or damaged: {error}") from error
    return count


def digests(folder: str | Path) -> dict[str, str]:
    """SHA-256 of each safetensors file below a folder, by its path there."""
    found = {}
    for path in sorted(Path(folder).rglob("*.safetensors")):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        found[path.relative_to(folder).as_posix()] = digest
    return found


def check_digests(folder: str | Path, said: Any) -> None:
    """Compare a folder's weights with the digests that were written with them.

    Args:
        folder: of the model.
        said: what its index says: digests by path; None for a folder of an earlier version.

    Raises:
        ValueError: naming the file that is another one than was written.
    """
    if said is None:
        return
    if not isinstance(said, dict):
        raise ValueError(f"{folder}: the digests of the weights are no table")
    found = digests(folder)
    for name in sorted(said.keys() | found.keys()):
        if said.get(name) != found.get(name):
            raise ValueError(
                f"{Path(folder) / name} is not the file that was saved with this model: its "
                "SHA-256 differs. It is damaged, or was exchanged; copy the model's folder again"
            )
