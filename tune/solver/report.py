"""A solver search as one HTML page: what was tried, what won, and by how much."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.lines import Line2D
from matplotlib.ticker import FormatStrFormatter

from pipelines.evaluation.scores import signed
from pipelines.pages.page import embedded, template
from pipelines.pages.plots import BLUE, GREEN, GREY, RED, plt, png
from semflow import Palette
from tune.solver.candidates import bearable
from tune.solver.front import pareto

TITLES = {
    "segment": "Masks from photos", "synthesize": "Photos from masks",
    "perturb": "Many photos from a mask",
}  # fmt: skip


def render(result: dict[str, Any], palette: Palette) -> tuple[str, dict[str, bytes]]:
    """The page, and its pictures as PNG by name.

    Args:
        result: what :func:`tune.search_solver.search` found.
        palette: of the model; its bound is drawn.
    """
    trials: dict[str, list[dict[str, Any]]] = {}
    for trial in result["trials"]:
        trials.setdefault(trial["candidate"]["direction"], []).append(trial)
    pictures: dict[str, bytes] = {}
    tables: dict[str, list[dict[str, Any]]] = {}
    for direction, found in trials.items():
        whole = [trial for trial in found if trial["whole"]]
        front = {whole[i]["candidate"]["name"] for i in pareto(whole, direction)}  # type: ignore[arg-type]
        choice = result["chosen"].get(direction)
        best = choice["candidate"]["name"] if choice else None
        tables[direction] = [
            row(trial, trial["candidate"]["name"] in front, best)
            for trial in sorted(found, key=lambda t: (not t["whole"], t["nfe"], -t["miou"]))
        ]
        if direction == "perturb":
            pictures["perturb"] = draw_perturbations(whole, bearable(palette))
        else:
            pictures[direction] = draw_front(found, front, best, direction)
    pictures["curvature"] = draw_curvature(result["curvature"]["flow"])
    page = template("search.html", Path(__file__).parent).render(
        result=result, tables=tables, titles=TITLES,
        sentences={name: sentence(name, choice) for name, choice in result["chosen"].items()},
        pictures=embedded(pictures),
    )  # fmt: skip
    return page, pictures


def row(trial: dict[str, Any], on_front: bool, best: str | None) -> dict[str, Any]:
    """A trial as the page's table shows it."""
    solver = trial["candidate"]["solver"]
    grid = solver["grid"]
    return trial | {
        "name": trial["candidate"]["name"].partition(" ")[2],
        "front": on_front,
        "best": trial["candidate"]["name"] == best,
        "grid": ", ".join(f"{t:.2f}" for t in grid) if grid else "",
    }


def sentence(direction: str, choice: dict[str, Any]) -> str:
    """A choice in words."""
    one, paper, gap = choice["summary"], choice["paper"], choice["difference"]
    name = choice["candidate"]["name"].partition(" ")[2]
    what = "mIoU" if direction == "segment" else "agreement"
    if choice["candidate"]["paper"]:
        return f"{TITLES[direction]}: nothing else is safely as good as the paper's {name}"
    text = (
        f"{TITLES[direction]}: {name}, {one['nfe']:.3g} evaluations where the paper takes "
        f"{paper['nfe']:.3g}; {what} {one['miou']:.3f}, {signed(gap['miou'])} from the paper's"
    )
    if "frechet" in gap:
        text += (
            f"; Frechet distance {one['frechet']:.3f}, {signed(gap['frechet'])}; diversity "
            f"{one['diversity']:.3f}, {signed(gap['diversity'])}"
        )
    return text


def draw_front(
    trials: list[dict[str, Any]], front: set[str], best: str | None, direction: str
) -> bytes:
    """Evaluations against quality; the front in blue, the paper in red, the choice ringed."""
    panels = ["miou"] if direction == "segment" else ["miou", "frechet"]
    labels = {"miou": "mIoU" if direction == "segment" else "agreement (mIoU)",
              "frechet": "Fréchet distance (pyramid)"}  # fmt: skip
    figure, axes = plt.subplots(1, len(panels), figsize=(6.2 * len(panels), 4), squeeze=False)
    for axis, key in zip(axes[0], panels, strict=True):
        for trial in trials:
            candidate = trial["candidate"]
            if key == "frechet" and not trial["whole"]:
                continue  # its bias depends on how many samples there were
            learned, on = bool(candidate["solver"]["grid"]), candidate["name"] in front
            colour = RED if candidate["paper"] else BLUE if on else GREY
            error = 2 * trial["miou_se"] if key == "miou" else None
            axis.errorbar(
                trial["nfe"], trial[key], yerr=error, color=colour, alpha=1 if on else 0.7,
                marker="D" if learned else "o", markersize=6 if on else 4, linewidth=0.8,
                markerfacecolor=colour if trial["whole"] else "white",
            )  # fmt: skip
            if candidate["name"] == best:
                axis.scatter(trial["nfe"], trial[key], s=170, facecolors="none",
                             edgecolors=GREEN, linewidths=2)  # fmt: skip
            if on or candidate["paper"]:
                axis.annotate(candidate["name"].partition(" ")[2], (trial["nfe"], trial[key]),
                              textcoords="offset points", xytext=(6, 5), fontsize=7)  # fmt: skip
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        axis.set_xlabel("evaluations of the velocity (NFE)")
        axis.set_ylabel(labels[key])
    handles = [Line2D([], [], color=colour, marker=marker, linestyle="", label=label,
                      markerfacecolor=face)
               for colour, marker, face, label in (
                   (BLUE, "o", BLUE, "on the front"), (GREY, "o", GREY, "beaten"),
                   (GREY, "o", "white", "ended early, on fewer samples"),
                   (GREY, "D", GREY, "learned grid"), (RED, "o", RED, "the paper's"))]  # fmt: skip
    axes[0][0].legend(handles=handles, fontsize=8)
    return png(figure)


def draw_perturbations(trials: list[dict[str, Any]], bound: float) -> bytes:
    """Diversity, agreement and Fréchet distance against the amplitude, up to the bound."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.8))
    labels = {"diversity": "diversity (RMS between two images)", "miou": "agreement (mIoU)",
              "frechet": "Fréchet distance (pyramid)"}  # fmt: skip
    for axis, (key, label) in zip(axes, labels.items(), strict=True):
        for kind, colour in (("uniform", BLUE), ("gaussian", GREEN)):
            points = sorted(
                (t["candidate"]["perturbation"]["amplitude"], t[key], t.get(f"{key}_se", 0.0))
                for t in trials
                if t["candidate"]["perturbation"]["kind"] == kind
                or t["candidate"]["perturbation"]["amplitude"] == 0
            )
            if points:
                x, y, error = zip(*points, strict=True)
                axis.errorbar(x, y, yerr=[2 * e for e in error], color=colour, marker="o",
                              markersize=4, label=kind)  # fmt: skip
        axis.axvline(bound, color=RED, linestyle="--", linewidth=1)
        axis.set_ylim(bottom=0)
        axis.set_xlabel("amplitude (dashed: where a label could change)")
        axis.set_ylabel(label)
    axes[0].legend(fontsize=8)
    return png(figure)


def draw_curvature(flow: dict[str, Any]) -> bytes:
    """Where along the way the flow turns, and how far off the straight way it is."""
    figure, axes = plt.subplots(1, 2, figsize=(12.4, 3.6))
    for (direction, found), colour in zip(flow.items(), (BLUE, GREEN), strict=True):
        label = f"{TITLES[direction].lower()} (straightness {found['straightness']:.3f})"
        axes[0].plot(found["times"], found["turning"], color=colour, label=label)
        axes[1].plot(found["off_chord_times"], found["off_chord"], color=colour, label=label)
    axes[0].set_ylabel("turning: |dv/dt| / |x₁ - x₀|")
    axes[1].set_ylabel("|(x₁ - x₀) - v|² / |x₁ - x₀|²")
    for axis in axes:
        axis.set_xlabel("t (0: photo, 1: mask)")
        axis.set_ylim(bottom=0)
    axes[0].legend(fontsize=8)
    return png(figure)
