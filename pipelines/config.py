"""Configurations: frozen dataclasses on the command line and at Ray's borders.

Each job's configuration stands beside the job. Flags are dotted field names; a preset is the
first word of the line. Endpoints and secrets are never part of one: they come from the standard
environment (``AWS_*``, ``MLFLOW_TRACKING_URI``).
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import tyro
from pydantic import TypeAdapter

from infra import console, credentials, storage

T = TypeVar("T")

VERBOSE = "--verbose"
SAYS = f"{VERBOSE}, anywhere, also shows what Ray, MLflow and other libraries say."


OF_PATHS = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
"""What a wrong path raises: also a file in place of a folder, and the other way round."""


class UserError(RuntimeError):
    """Something that the user can mend; shown as one line."""


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """Where the job runs. Nothing to set on a laptop: Ray is started on this machine."""

    address: str | None = None
    """A cluster to join ('auto' for the one this machine belongs to). None starts Ray here, unless
    RAY_ADDRESS says otherwise, as it does inside a submitted job."""
    gpus_per_actor: float = 0.0
    """GPUs each model actor or training worker takes; 0 runs on CPUs."""


def parse(
    kind: type[T],
    doc: str | None,
    presets: Mapping[str, tuple[str, T]] | None = None,
    args: Sequence[str] | None = None,
) -> T:
    """Read the command line into ``kind``; with presets, the first word chooses one.

    ``doc`` is shown by ``--help``; of what a preset says, its own ``--help`` shows all, and the
    list of presets the first line. A wrong value ends the program with what is wrong.
    """
    options: dict[str, Any] = {"description": f"{doc or ''}\n\n{SAYS}", "args": args}
    options["config"] = (tyro.conf.OmitSubcommandPrefixes,)
    try:
        if presets:
            first = (sys.argv[1:] if args is None else args)[:1]
            shown = {
                name: (about if [name] == list(first) else about.partition("\n")[0], preset)
                for name, (about, preset) in presets.items()
            }
            chosen: T = tyro.extras.overridable_config_cli(shown, **options)
        else:
            chosen = tyro.cli(kind, **options)
        refuse_credentials(to_dict(chosen))
        return chosen
    except ValueError as error:  # from a __post_init__
        sys.exit(f"error: {error}")


def refuse_credentials(data: Any) -> None:
    """Look for credentials in the URIs of a configuration's plain data.

    Raises:
        ValueError: naming the option, and not the URI.
    """
    for option, text in texts(data):
        if found := credentials.carried(text):
            raise ValueError(f"--{option} is a URI with {found}. {credentials.INSTEAD}")


def texts(data: Any, option: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a configuration's plain data, with its option as the command line spells it."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from texts(value, f"{option}.{key}" if option else str(key))
    elif isinstance(data, list | tuple):
        for value in data:
            yield from texts(value, option)
    elif isinstance(data, str):
        yield option.replace("_", "-"), data


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain JSON data."""
    data: dict[str, Any] = TypeAdapter(type(config)).dump_python(config, mode="json")
    return data


def from_dict(kind: type[T], data: dict[str, Any]) -> T:
    """A configuration from plain data; an unknown or mistyped key is refused.

    Raises:
        pydantic.ValidationError: naming the key.
    """
    return TypeAdapter(kind).validate_python(data, extra="forbid")


def flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys: how MLflow and the command line spell them."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def fingerprint(data: Any) -> str:
    """SHA-256 of JSON data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def absolute_paths(config: T, *keys: str) -> T:
    """The configuration with these dotted keys as paths that every worker can read."""
    for key in keys:
        config = _replace(config, key.split("."), storage.absolute)
    return config


def _replace(config: Any, keys: list[str], change: Callable[[str], str]) -> Any:
    value = getattr(config, keys[0])
    new = _replace(value, keys[1:], change) if len(keys) > 1 else value and change(value)
    return replace(config, **{keys[0]: new})


def exit_on_error(main: Callable[[], None]) -> None:
    """Run a job; what the user can mend ends it with one line instead of a traceback.

    The console shows what is for people (:mod:`infra.console`), with --verbose all of it.
    """
    if VERBOSE in sys.argv:
        sys.argv.remove(VERBOSE)
        os.environ[console.VERBOSE] = "1"
    console.quieten()
    try:
        main()
    except Exception as error:
        told = in_words(error)
        if told is None or os.environ.get("SEMFLOW_TRACEBACK"):
            raise
        sys.exit(f"error: {told}")


DISK = {
    errno.ENOSPC: "there is no space left",
    errno.EDQUOT: "the quota is used up",
    errno.EROFS: "it can only be read",
    errno.EACCES: "this user may not write or read there",
    errno.EPERM: "this user may not write or read there",
}


def in_words(error: BaseException) -> str | None:
    """What the user can do about an error, in a sentence; None where it is a fault of ours.

    A disk that is full or closed is found wherever it was met: Ray hands a worker's error on as
    the cause of its own.
    """
    seen: list[BaseException] = []
    inner: BaseException | None = error
    while inner is not None and inner not in seen:
        seen.append(inner)
        if isinstance(inner, OSError) and inner.errno in DISK:
            place = inner.filename or "the output or a temporary folder"
            return (
                f"{DISK[inner.errno]}: {place}. What was finished is kept; make room or give "
                "another place, and the same command goes on"
            )
        if isinstance(inner, OSError) and inner.errno == errno.ENAMETOOLONG:
            return (
                f"a name is longer than the 255 bytes that files may have: {inner.filename}. Give "
                "that file or the output a shorter one"
            )
        cause = getattr(inner, "cause", None)
        inner = cause if isinstance(cause, BaseException) else inner.__cause__ or inner.__context__
    return str(error) if isinstance(error, (UserError, ValueError, *OF_PATHS)) else None
