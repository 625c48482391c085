"""What an encode has counted, and what of it a person should know before they train or judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipelines.dataset.latents import Manifest

Row = Mapping[str, Any]
IGNORED = 0.2
"""Share of ignored pixels from which on it is said."""
SHOWN = 5


def findings(records: Mapping[str, Sequence[Row]]) -> dict[str, Any]:
    """Of the shards' records of each split: what is ignored, and pictures that several splits have.

    ``{"ignored": {split: {"share": ..., "values": {value: pixels}}}, "shared": {"pictures": ...,
    "examples": [[id, id], ...]}}``. Values are counted in the mask files, on whole pairs; the share
    is that of all views.
    """
    ignored = {}
    for split, shards in records.items():
        values: Counter[str] = Counter()
        pixels = dropped = 0
        for shard in shards:
            values.update(shard.get("ignored_values", {}))
            dropped += shard.get("ignored_pixels", 0)
            pixels += sum(shard.get("class_pixels", ())) + shard.get("ignored_pixels", 0)
        ignored[split] = {"share": dropped / pixels if pixels else 0.0,
                          "values": dict(values.most_common(SHOWN))}  # fmt: skip
    *others, last = records  # the split that models are judged on, and most often the smallest
    judged = {key: id_ for shard in records[last] for key, id_ in shard.get("pictures", {}).items()}
    both = [
        (id_, judged[key])
        for split in others
        for shard in records[split]
        for key, id_ in shard.get("pictures", {}).items()
        if key in judged
    ]
    shared = {"pictures": len(both), "examples": [list(pair) for pair in both[:SHOWN]]}
    return {"ignored": ignored, "shared": shared}


def empty(manifest: Manifest, split: str) -> list[str]:
    """Classes that have not one pixel in a split."""
    counts = manifest.split(split).class_pixels
    return [name for name, count in zip(manifest.palette.names, counts, strict=True) if not count]


def said(manifest: Manifest, splits: Sequence[str]) -> Iterator[str]:
    """Sentences on what is odd in these splits."""
    for split in splits:
        none = empty(manifest, split)
        if none and manifest.split(split).rows:
            more = f" and {len(none) - SHOWN} more" if len(none) > SHOWN else ""
            yield (
                f"{len(none)} of {len(manifest.palette)} classes have not one pixel in {split!r}: "
                f"{', '.join(none[:SHOWN])}{more}{_instead(manifest, split)}"
            )
        found = manifest.findings.get("ignored", {}).get(split, {})
        if found.get("share", 0) > IGNORED:
            yield (
                f"{found['share']:.0%} of the pixels of {split!r} are ignored, neither trained on "
                f"nor scored{_instead(manifest, split)}"
            )
    shared = manifest.findings.get("shared", {})
    if shared.get("pictures"):
        names = " and ".join(map(repr, shared["examples"][0]))
        others = ", ".join(map(repr, list(manifest.splits)[:-1]))
        yield (
            f"{shared['pictures']} pictures of {others} are in {list(manifest.splits)[-1]!r} too, "
            f"{names} for one: scores will be too good"
        )


def refuse_one_class(manifest: Manifest, split: str) -> None:
    """Refuse to train where there is nothing to tell apart.

    Raises:
        ValueError: when fewer than two classes have a pixel in the split.
    """
    none = empty(manifest, split)
    if len(manifest.palette) - len(none) > 1:
        return
    rest = [name for name in manifest.palette.names if name not in none]
    has = f"only {rest[0]!r} has a pixel" if rest else "no class has a pixel"
    raise ValueError(
        f"{manifest.uri}: of {len(manifest.palette)} classes {has} in {split!r}, so there is "
        f"nothing to learn{_instead(manifest, split)}. Name the values of the mask files, class by "
        "class (--corpus.ids 0 255 for two), and encode again"
    )


def _instead(manifest: Manifest, split: str) -> str:
    """Which values were seen and are ignored."""
    values = manifest.findings.get("ignored", {}).get(split, {}).get("values", {})
    return f" (ignored are the values {', '.join(values)})" if values else ""
