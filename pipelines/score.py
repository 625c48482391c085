"""Score masks that were predicted for a corpus, by the corpus's own protocol.

    python pipelines/score.py camvid --corpus.root ../shared/data/camvid --labels out/labels

compares a folder of index PNGs (what label.py wrote, or anyone else) with the corpus's true masks,
at their own resolution: its ids, its ignored pixels, one confusion matrix over the whole split. The
first word names the corpus, as for encode.py. Writes OUTPUT/scores.json and OUTPUT/scores.html.
docs/reference/metrics.md has more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray.data
import torch

from infra import storage, tracking
from pipelines import config
from pipelines.config import UserError
from pipelines.corpora import list_split
from pipelines.corpora.classes import with_classes
from pipelines.corpora.known import KNOWN
from pipelines.corpora.readers.orientation import drawn
from pipelines.evaluation import predictions, report
from pipelines.evaluation.compare import Compare
from pipelines.evaluation.config import ScoreConfig
from pipelines.pages.page import embedded, template
from pipelines.sharding import raydata, runner
from semflow import ConfusionMatrix

Row = dict[str, Any]
PAIRS_A_BLOCK = 32
SCORES, PAGE = "scores.json", "scores.html"
PAGES = Path(report.__file__).parent


def presets() -> dict[str, tuple[str, ScoreConfig]]:
    """The corpora that encode.py knows, by the same names."""
    return {name: (about, ScoreConfig(corpus=corpus)) for name, (about, corpus) in KNOWN.items()}


def numbers(cfg: ScoreConfig) -> list[int]:
    """The classes that are left out of the mean.

    Raises:
        ValueError: for a name that is no class.
    """
    unknown = sorted(set(cfg.ignore_classes) - set(cfg.corpus.classes))
    if unknown:
        raise ValueError(f"--ignore-classes {unknown}: there are {', '.join(cfg.corpus.classes)}")
    return [cfg.corpus.classes.index(name) for name in cfg.ignore_classes]


def score(cfg: ScoreConfig) -> Row:
    """Run the job; returns the scores, which are also written.

    Raises:
        ValueError: when predictions are of other classes, or there is nothing to score.
        UserError: when one is missing or cannot be read, unless that is allowed.
    """
    cfg = replace(cfg, corpus=with_classes(cfg.corpus))
    ignored, split = numbers(cfg), cfg.split or cfg.corpus.splits[-1]
    listing = list_split(cfg.corpus, split)
    how = drawn(cfg.corpus, {split: listing})
    cfg = replace(cfg, corpus=replace(cfg.corpus, masks_drawn=how))
    matched, missing = predictions.match(
        listing.pairs.to_pylist(), predictions.find(cfg.labels, cfg.corpus.classes, cfg.masks_are)
    )
    _refuse(cfg, missing, "have no prediction")
    if not matched:
        raise ValueError(
            f"none of {listing.pairs.num_rows} photos has a prediction in {cfg.labels}"
        )
    with tracking.run("score", cfg.output, config.flatten(config.to_dict(cfg))) as run:
        blocks = max(1, -(-len(matched) // PAIRS_A_BLOCK))
        dataset = ray.data.from_items(matched, override_num_blocks=blocks)
        confusion, resized = ConfusionMatrix(len(cfg.corpus.classes)), 0
        unusable: list[str] = []
        strange: list[str] = []
        compare = Compare(cfg.corpus, cfg.masks_are, ignored if cfg.ignore_pixels else ())
        rows = dataset.map_batches(compare, batch_size=None).iter_rows()
        for row in runner.progress(rows, "score", blocks):
            counts = torch.tensor(np.asarray(row["confusion"]))
            confusion = confusion + ConfusionMatrix(confusion.num_classes, counts)
            resized += int(row["resized"])
            unusable += str(row["bad"]).splitlines()
            strange += str(row["strange"]).splitlines()
        _refuse(cfg, unusable, "cannot be read")
        result = {
            "corpus": cfg.corpus.root, "split": split, "labels": cfg.labels,
            "pairs": listing.pairs.num_rows, "scored": len(matched) - len(unusable),
            **confusion.scores(cfg.corpus.classes, ignored),
            "ignored_classes": list(cfg.ignore_classes), "ignored_pixels": cfg.ignore_pixels,
            "pixels": int(confusion.counts.sum()), "resized": resized, "missing": missing,
            "unusable": unusable, "unknown_values": strange,
            "without_partner": [bad._asdict() for bad in listing.bad],
            "confusion": confusion.counts.tolist(), "config": config.to_dict(cfg),
        }  # fmt: skip
        storage.write_json(storage.join(cfg.output, SCORES), result)
        shown = report.confusion_picture(confusion.counts.numpy())
        page = template("score.html", PAGES).render(
            result=result, pictures=embedded({"confusion": shown})
        )
        storage.write_bytes(storage.join(cfg.output, PAGE), page.encode())
        run.file(PAGE, page.encode())
        run.artifact_json(SCORES, result)
        run.metrics(headline(result))
    return result


def _refuse(cfg: ScoreConfig, names: Sequence[str], what: str) -> None:
    if names and not cfg.allow_missing:
        more = f", and {len(names) - 10} more" if len(names) > 10 else ""
        raise UserError(
            f"{len(names)} photos {what}: {', '.join(names[:10])}{more}. --allow-missing scores "
            "the others, and lists these"
        )


def headline(result: Row) -> dict[str, float]:
    """The figures that stand for the rest."""
    counts = {name: float(len(result[name])) for name in ("missing", "unusable")}
    found = {name: float(result[name]) for name in ("miou", "accuracy", "scored", "resized")}
    return found | counts


def main() -> None:
    cfg = config.parse(ScoreConfig, __doc__, presets())
    cfg = config.absolute_paths(cfg, "corpus.root", "labels", "output")
    raydata.init(cfg.ray.address)
    result = score(cfg)
    print("\n".join(f"{name:28} {value:.4f}" for name, value in headline(result).items()))
    if strange := result["unknown_values"]:
        print(f"warning: {len(strange)} predictions have values of no class, which count as "
              f"misses: {strange[0]}")  # fmt: skip
    print(f"the scores: {storage.join(cfg.output, PAGE)}")


if __name__ == "__main__":
    config.exit_on_error(main)
