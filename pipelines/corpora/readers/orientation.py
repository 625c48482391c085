"""What a corpus does not say of itself, and its photos tell when some are looked at.

Whether masks were drawn on photos as they are stored, or turned upright by their EXIF: photos that
are turned by 90 degrees and are not square tell it by their size; they vote for the others, whose
size is the same either way. And which sample is white, where photos store 16 bits and use fewer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from infra.console import say
from pipelines.corpora import parts, pixels
from pipelines.corpora.corpus import JPEGS, Corpus, Drawn
from pipelines.corpora.listing import Listing
from pipelines.corpora.pixels import FULL, BadInput, open_image, orientation

MOST = 200
"""Pairs that are looked at."""


def as_found(corpus: Corpus, listings: Mapping[str, Listing]) -> Corpus:
    """The same, with how its masks were drawn and what is white in its photos."""
    return replace(
        corpus, masks_drawn=drawn(corpus, listings), white=white(corpus, listings)
    )  # fmt: skip


def white(corpus: Corpus, listings: Mapping[str, Listing]) -> int | None:
    """Which sample of 16 bits is white: as ``corpus`` says, the photos' tags, or their largest.

    One number for all photos, so that one is no brighter than the next because of what it shows.
    None where no photo stores 16 bits, or all are used.
    """
    if corpus.white is not None:
        return corpus.white
    rows = [row for listing in listings.values() for row in _some(listing, MOST // len(listings))]
    with ThreadPoolExecutor(8) as pool:
        found = [one for one in pool.map(_brightest, rows) if one]
    if not found:
        return None
    tagged = {tag for tag, _ in found if tag}
    untagged = [most for tag, most in found if not tag]
    largest = max(most for _, most in found)
    taken = max(tagged, default=0)
    if untagged:
        taken = max(taken, pixels.white_for(max(untagged)))
    if taken == FULL:
        return None
    by = f"their tags say {sorted(tagged)}" if tagged else "no tag says it"
    say(
        f"{len(found)} of {len(rows)} photos store 16 bits: {by}, and the largest sample is "
        f"{largest}. White is taken to be {taken}; --corpus.white says otherwise",
        error=True,
    )
    return taken


def _brightest(row: dict[str, Any]) -> tuple[int | None, int] | None:
    """White by the tags, and the largest sample, of a photo of 16 bits; None of another one."""
    if row["image"].lower().endswith(JPEGS):
        return None
    try:
        data = parts.read(row["image"], row["image_part"])
        image, raw = pixels.decode(data)
    except BadInput:
        return None
    if not pixels.deep(image, raw):
        return None
    most = pixels.largest(image)
    return pixels.tagged_white(data, image, most), most


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
