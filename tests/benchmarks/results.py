"""What reading.py measured, as Markdown."""

from __future__ import annotations

import statistics
from typing import Any

from tests.benchmarks.readers import LIBRARIES

TITLES = {"local": "From the local disk", "s3": "From S3 on loopback"}
COLUMNS = {
    "first": ("first batch, s", 2, 1),
    "rate": ("rows/s, epoch", 0, 1),
    "steady": ("rows/s after the first batch", 0, 1),
    "cpu": ("CPU, µs a row", 0, 1e6),
}
"""What is timed: its title, its decimals, and what it is multiplied with."""


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """A reader's line: its best number of workers, with the median and range of what was timed."""
    wrong = sorted({text for run in runs if (text := run.get("error") or run["wrong"])})
    timed: dict[int, list[dict[str, Any]]] = {}
    for run in runs:
        if not run["check"] and "error" not in run:
            timed.setdefault(run["workers"], []).append(run)
    line: dict[str, Any] = {"wrong": "; ".join(wrong)}
    if timed:
        line["workers"], best = max(
            timed.items(), key=lambda item: statistics.median(run["rate"] for run in item[1])
        )
        for key in COLUMNS:
            values = [run[key] for run in best]
            line[key] = statistics.median(values), min(values), max(values)
    return line


def table(result: dict[str, Any], store: str) -> str:
    """A store's results."""
    titles = ["reader", "workers", *(title for title, _, _ in COLUMNS.values()), "each row once"]
    rows = [titles, ["---", *["--:"] * (len(COLUMNS) + 1), "---"]]
    for name, library in LIBRARIES.items():
        runs = [run for run in result["runs"] if (run["store"], run["name"]) == (store, name)]
        if not runs:
            if name in result["absent"]:
                rows.append([name, *[""] * (len(COLUMNS) + 1), result["absent"][name]])
            continue
        line = summary(runs)
        cells = [_cell(line[key], *COLUMNS[key][1:]) if key in line else "" for key in COLUMNS]
        workers = str(line.get("workers", "")) if library.workers else ""
        rows.append([name, workers, *cells, line["wrong"].replace("|", "/") or "yes"])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(values: tuple[float, float, float], decimals: int, factor: float) -> str:
    median, low, high = (f"{value * factor:.{decimals}f}" for value in values)
    return f"{median} ({low}..{high})"


def report(result: dict[str, Any]) -> str:
    """All of it."""
    cfg, size = result["config"], result["config"]["size"]
    parts = [
        f"# Reading latents, cold and shuffled\n\n{cfg['rows']} rows of latents 4x{size}x{size}, "
        f"{cfg['draws']} draws, masks {8 * size}x{8 * size} (the peers' as {cfg['masks']}), in "
        f"batches of {cfg['batch']}; {result['machine']}. Median of {cfg['repeats']} (range), each "
        f"peer with its best number of DataLoader workers out of "
        f"{', '.join(map(str, cfg['workers']))}."
    ]
    if busy := [run["others"] for run in result["runs"] if not run["check"]]:
        parts[0] += (
            f" Just before a measurement other programs used {statistics.median(busy):.1f} cores "
            f"(median; at most {max(busy):.1f})."
        )
    parts += [f"## {TITLES[store]}\n\n{table(result, store)}" for store in cfg["stores"]]
    rows = [["reader", "version", "MB", "shuffling"], ["---", "---", "--:", "---"]]
    for name, library in LIBRARIES.items():
        if version := result["versions"].get(name):
            megabytes = f"{result['bytes'].get(library.data, 0) / 1e6:.0f}"
            rows.append([name, f"{library.module} {version}", megabytes, library.shuffling])
    return "\n\n".join([*parts, "\n".join(f"| {' | '.join(row)} |" for row in rows)]) + "\n"
