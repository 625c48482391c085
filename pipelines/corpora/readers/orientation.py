"""Whether masks were drawn on photos as they are stored, or turned upright by their EXIF.

Photos that are turned by 90 degrees and are not square tell it by their size; they vote for the
others, whose size is the same either way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from infra.console import say
from pipelines.corpora import parts
from pipelines.corpora.corpus import Corpus, Drawn
from pipelines.corpora.listing import Listing
from pipelines.corpora.pixels import BadInput, open_image, orientation

MOST = 200
"""Pairs that are looked at."""


def drawn(corpus: Corpus, listings: Mapping[str, Listing]) -> Drawn:
    """How the masks were drawn: as ``corpus`` says, or as most of the pairs that can tell do."""
    if corpus.masks_drawn:
        return corpus.masks_drawn
    rows = [row for listing in listings.values() for row in _some(listing, MOST // len(listings))]
    with ThreadPoolExecutor(8) as pool:
        votes = Counter(pool.map(_vote, rows))
    found: Drawn = "stored" if votes["stored"] > votes["upright"] else "upright"
    if turned := votes.total() - votes[""]:
        say(
            f"{turned} of {len(rows)} photos are turned by their EXIF: of these {votes['stored']} "
            f"have masks drawn on the stored pixels, {votes['upright']} on the upright ones, "
            f"{votes['?']} do not tell. Taken as {found}; --corpus.masks-drawn says otherwise",
            error=True,
        )
    return found


def _some(listing: Listing, most: int) -> list[dict[str, Any]]:
    step = -(-listing.pairs.num_rows // max(1, most))
    rows: list[dict[str, Any]] = listing.pairs.take(
        list(range(0, listing.pairs.num_rows, step))
    ).to_pylist()
    return rows


def _vote(row: dict[str, Any]) -> str:
    """'stored' or 'upright'; '?' of a turned photo that does not tell; "" of another one."""
    try:
        photo = open_image(parts.read(row["image"], row["image_part"]))
        turn = orientation(photo)
        if turn == 1:
            return ""
        if row["mask_part"].startswith("layers:"):
            return "?"
        size = open_image(parts.read(row["mask"], row["mask_part"])).size
    except BadInput:
        return ""
    if turn < 5 or photo.width == photo.height:
        return "?"
    return {photo.size: "stored", photo.size[::-1]: "upright"}.get(size, "?")
