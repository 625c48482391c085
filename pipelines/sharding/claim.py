"""An output folder belongs to one job: it is claimed before any work, and nothing else is removed.

``--overwrite`` is the one way in which a job removes what it did not just write. It takes only an
earlier job's output, never what this job reads, and moves it aside until the new work stands.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from infra import storage
from pipelines import config
from pipelines.sharding import driver
from pipelines.sharding.plan import PROGRESS

ASIDE = ".overwritten"
"""How the name of a local output ends while its successor is not there yet."""
MADE = (
    f"{PROGRESS}/plan.json", f"couplings/{PROGRESS}/plan.json", "manifest.json", "labels.json",
    "images.json", "search.json", "reflow.json",
)  # fmt: skip
"""Files that only a job which knows --overwrite writes: its claim, or what an early one ends with.
A training's output has none of them."""


def claim_uri(output: str) -> str:
    return storage.join(output, PROGRESS, "plan.json")


def noted(output: str) -> dict[str, Any]:
    """What was noted when a job claimed this output; nothing if none did."""
    location = claim_uri(output)
    return dict(storage.read_json(location)) if storage.exists(location) else {}


def start(
    output: str, fingerprint: str, cfg: Any, *, note: Mapping[str, Any] | None = None
) -> None:
    """Claim an output folder for a job, or go on with its own unfinished work.

    Called once everything that the job reads has been found and checked. ``note`` is kept for
    :func:`noted`.

    Args:
        output: folder or URI.
        fingerprint: of the job.
        cfg: its configuration, whose other places are not to be removed; with ``overwrite``, if
            it has that, an earlier job's output makes room.
        note: what to keep.

    Raises:
        ValueError: when the folder holds the work of a job with another fingerprint, or removing it
            would remove what the job reads, or what no job made.
        UserError: when another driver is at work there.
    """
    driver.refuse_two(output)
    if getattr(cfg, "overwrite", False):
        make_room(output, cfg)
    elif before := noted(output).get("fingerprint"):
        if before != fingerprint:
            raise ValueError(
                f"{output} holds the work of another configuration or other inputs "
                f"(fingerprint {before[:12]}, this one has {fingerprint[:12]}). Choose another "
                "output, or give --overwrite to remove it and start afresh"
            )
        return
    storage.write_json(claim_uri(output), {"fingerprint": fingerprint, **(note or {})})


def make_room(output: str, cfg: Any) -> None:
    """Take an earlier job's output away: a local one is moved aside until :func:`stands`.

    Raises:
        ValueError: when it is, holds or lies in one of the places that ``cfg`` names, or no job of
            ours made it. Nothing has been removed then.
    """
    keep_apart(output, cfg)
    if not storage.exists(output):
        return
    ours = any(storage.exists(storage.join(output, name)) for name in MADE)
    if not ours and (others := storage.list_files(output)):
        raise ValueError(
            f"--overwrite removes an earlier job's output, and {output} is none: it holds "
            f"{len(others)} files, {others[0]} for one. Choose another output, or remove them "
            "yourself"
        )
    if not storage.is_local(output):
        storage.remove(output)
        return
    aside = _aside(output)
    if storage.exists(aside):  # what came after it never stood
        storage.remove(output)
        return
    storage.move(output, aside)
    print(f"{output} was moved to {aside}, until the new work stands", file=sys.stderr)


def stands(output: str) -> None:
    """The new work has its first shard: what it took the place of can go."""
    if storage.is_local(output):
        storage.remove(_aside(output))


def _aside(output: str) -> str:
    return storage.local_path(output).rstrip("/") + ASIDE


def keep_apart(output: str, cfg: Any) -> None:
    """Refuse to remove an output that is, holds or lies in a place that the job reads.

    Raises:
        ValueError: naming the option and the place.
    """
    for option, place in places(config.to_dict(cfg)):
        if storage.below(place, output) is not None or storage.below(output, place) is not None:
            raise ValueError(
                f"--overwrite would remove {output}, which is, holds or lies in what this job "
                f"reads: --{option} {place}. Choose another output"
            )


def not_in_place_of(output: str, inputs: str) -> None:
    """Refuse an output that has the inputs in it, whether or not anything is removed.

    Raises:
        ValueError: in that case.
    """
    if storage.below(inputs, output) is not None:
        raise ValueError(f"the output {output} would be in place of its inputs, {inputs}, or around"
                         " them: choose another one")  # fmt: skip


def places(data: Any) -> Iterator[tuple[str, str]]:
    """Every place but the output that a configuration names, with its option.

    Options come and go: whatever text is a URI, or a path where there is something, is a place.
    """
    for option, text in config.texts(data):
        if option.rpartition(".")[2] != "output" and (
            "://" in text or (text and os.path.exists(os.path.expanduser(text)))
        ):
            yield option, text
