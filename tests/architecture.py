"""How the project is built, read off its imports: order of the rooms, circles, width of folders."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

FLOORS: tuple[tuple[str, ...], ...] = (
    ("semflow.version", "infra"),
    ("semflow.masks", "semflow.networks", "semflow.card"),
    ("semflow.codecs",),
    ("semflow.flow", "semflow.metrics"),
    ("semflow.sampler",),
    ("semflow.tiles", "semflow.released", "semflow.hub"),
    ("semflow",),
    ("pipelines.config",),
    ("pipelines.corpora",),
    ("pipelines.sharding", "pipelines.pages"),
    ("pipelines.dataset",),
    ("pipelines.inference",),
    ("pipelines.training", "pipelines.serving", "pipelines.synthesis", "pipelines.labelling"),
    ("pipelines.evaluation",),
    ("pipelines.straightening", "pipelines.presets"),
    ("pipelines",),  # the jobs
    ("tune.fit", "tune.nested"),
    ("tune.solver", "tune.training"),
    ("tune",),
)
"""Rooms, lowest first. A file belongs to the longest name that it begins with."""

WIDTH = 14
"""Most files of ours in a folder."""


def modules(root: Path, tops: Sequence[str]) -> dict[str, Path]:
    """Every module below the top levels, by its dotted name."""
    found = {}
    for top in tops:
        for path in sorted((root / top).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """Modules of ours that a file names, also inside functions and under TYPE_CHECKING.

    Raises:
        AssertionError: for a relative import.
    """
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            named = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            named = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for dotted in named:
            while dotted and dotted not in known:
                dotted = dotted.rpartition(".")[0]
            if dotted and dotted != name:
                yield dotted


def graph(root: Path, tops: Sequence[str]) -> dict[str, set[str]]:
    """What each module imports of the others."""
    known = modules(root, tops)
    return {name: set(imports(name, path, known)) for name, path in known.items()}


def room(name: str, floors: Sequence[Sequence[str]]) -> tuple[int, str]:
    """The floor of a module, and the room there that it belongs to.

    Raises:
        AssertionError: when no room is named for it.
    """
    place = [
        (len(one), floor, one)
        for floor, rooms in enumerate(floors)
        for one in rooms
        if name == one or name.startswith(f"{one}.")
    ]
    assert place, f"{name} is in no room"
    return max(place)[1:]


def running_up(arrows: Mapping[str, set[str]], floors: Sequence[Sequence[str]]) -> list[str]:
    """Imports that go up, or across a floor to another room."""
    wrong = []
    for name, targets in arrows.items():
        floor, own = room(name, floors)
        for target in sorted(targets):
            above, other = room(target, floors)
            if above > floor or (above == floor and other != own):
                wrong.append(f"{name} -> {target}")
    return wrong


def circle(arrows: Mapping[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle; nothing if none do."""
    done: set[str] = set()
    trail: list[str] = []

    def visit(name: str) -> list[str]:
        if name in trail:
            return [*trail[trail.index(name) :], name]
        if name in done:
            return []
        trail.append(name)
        for target in sorted(arrows.get(name, ())):
            if found := visit(target):
                return found
        trail.pop()
        done.add(name)
        return []

    return next((found for name in arrows if (found := visit(name))), [])


def wide(root: Path, tops: Sequence[str], width: int = WIDTH) -> list[str]:
    """Folders with more files than ``width``."""
    folders = [f for top in tops for f in [root / top, *(root / top).rglob("*")] if f.is_dir()]
    counts = {
        folder: sum(1 for file in folder.iterdir() if file.is_file())
        for folder in folders
        if folder.name != "__pycache__"
    }
    return [f"{folder}: {count} files" for folder, count in counts.items() if count > width]
