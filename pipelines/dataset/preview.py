"""Show what an encode would make, on one HTML page, before it is made.

    python pipelines/encode.py preview camvid --corpus.root ../shared/data/camvid

takes the flags of an encode and sends a few pairs of each split through the same code: listing,
class mapping, views, palette, perturbation, autoencoder and back. Only the page is written. Look
whether masks lie on their photos and names fit colours, and read the warnings.
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import nan, prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from infra import storage
from pipelines import config
from pipelines.corpora import Bad, Listing, list_splits, pixels
from pipelines.corpora.classes import with_classes
from pipelines.corpora.pixels import Pixels
from pipelines.corpora.readers.orientation import as_found
from pipelines.dataset import maskcodec
from pipelines.dataset.config import EncodeConfig, absolute, recipe
from pipelines.dataset.encoder import Decode, Encoder
from pipelines.dataset.latents import draw_column
from pipelines.pages import pictures
from pipelines.pages.page import template
from pipelines.sharding import runner
from semflow import IGNORE, ConfusionMatrix, Palette, load_autoencoder

IGNORED, ENLARGED, RESHAPED, CEILING, PSNR = 0.2, 1.25, 1.1, 0.9, 20
"""Where warnings begin: share of pixels, factor of size, factor of shape, IoU, dB of photos."""
TILE, LARGEST = 256, 768
"""Width of a tile on the page, and the side from which on photos are made smaller for it."""


@dataclass(frozen=True, kw_only=True)
class PreviewConfig(EncodeConfig):
    """What to encode, and how much of it to show."""

    pairs: int = 12
    """Pairs of each split to show, spread evenly over its listing."""
    page: str = ""
    """The HTML file to write, a path or a URI; OUTPUT-preview.html if it is not given."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pairs < 1:
            raise ValueError("--pairs is at least 1")


class Tile(NamedTuple):
    """A picture of the page."""

    caption: str
    note: str
    uri: str  # its bytes, as data:


class Shown(NamedTuple):
    """A pair that went through the encode and back."""

    split: str
    id: str
    files: tuple[str, str]
    size: tuple[int, int]  # of the photo: width, height
    truth: torch.Tensor  # [H, W] ids as encoded
    nearest: torch.Tensor  # [H, W] ids that the clean mask's latents give
    psnr: float  # of the photo that its latents give
    spread: tuple[float, float]  # standard deviation of photo latents and of clean mask latents
    read: list[Tile]
    back: list[Tile]

    @property
    def shares(self) -> np.ndarray[Any, Any]:
        """Share of the pixels of each id ``[256]``."""
        return np.bincount(self.truth.flatten(), minlength=256) / self.truth.numel()


class Warned(NamedTuple):
    """A warning, and what exactly it is about."""

    sentence: str
    details: tuple[str, ...] = ()


def preview(cfg: PreviewConfig) -> tuple[str, float, list[Warned]]:
    """Write the page: where it is, the mIoU of the codec's ceiling on the pairs shown, warnings.

    Raises:
        ValueError: for what an encode refuses as well: no pair, a perturbation too large, a size.
        FileNotFoundError: when a folder of the corpus is missing.
    """
    cfg = replace(cfg, corpus=with_classes(cfg.corpus))
    autoencoder = load_autoencoder(cfg.autoencoder)
    shape = maskcodec.shape_of(cfg, autoencoder)
    palette = maskcodec.with_style(cfg.make_palette(), shape)
    cfg.perturbation.check(palette)
    latent = autoencoder.latent_size(cfg.height, cfg.width)
    listings = list_splits(cfg.corpus)
    cfg = replace(cfg, corpus=as_found(cfg.corpus, listings))
    codec = maskcodec.make(cfg, palette, shape, listings[cfg.corpus.splits[0]].pairs)
    # One perturbed draw is like the others, and compiling would take longer than the pairs do.
    encoder = Encoder(replace(cfg, draws=min(cfg.draws, 2), compile=False), palette, codec)
    total = sum(min(cfg.pairs, listing.pairs.num_rows) for listing in listings.values())
    seen = list(runner.progress(_send(cfg, encoder, listings), "preview", total))
    shown = [pair for pair in seen if isinstance(pair, Shown)]
    confusion = ConfusionMatrix(len(palette))
    for pair in shown:
        confusion.update(pair.nearest, pair.truth)
    shares = np.array([pair.shares for pair in shown] or np.zeros((1, 256)))
    bad = [pair for pair in seen if isinstance(pair, Bad)]
    warned = list(_warnings(cfg, listings, shown, bad, confusion))
    rows = {
        split: listing.pairs.num_rows * cfg.views_of(split) for split, listing in listings.items()
    }
    corpus = cfg.corpus
    values = corpus.colours or corpus.ids or range(len(palette))
    if "{part}" in corpus.masks:
        values = corpus.classes
    html = template("preview.html", Path(__file__).parent).render(
        cfg=cfg, warned=warned, shown=shown, shares=shares.mean(0), miou=confusion.miou,
        seen_in=(shares > 0).sum(0), iou=confusion.iou.tolist(), values=list(values),
        pairs={split: listing.pairs.num_rows for split, listing in listings.items()}, rows=rows,
        row_bytes=2 * prod(latent) * (1 + encoder.autoencoder.stochastic + cfg.draws),
        latent=latent, palette=palette, fingerprint=config.fingerprint(recipe(cfg, palette, codec)),
        psnr=np.mean([pair.psnr for pair in shown] or nan),
        spread=np.mean([pair.spread for pair in shown] or [(nan, nan)], 0),
        tile=cfg.width * max(1, TILE // cfg.width) if cfg.width < TILE else TILE, IGNORED=IGNORED,
        CEILING=CEILING,
    )  # fmt: skip
    page = cfg.page or f"{cfg.output.rstrip('/')}-preview.html"
    storage.write_bytes(page, html.encode())
    return page, confusion.miou, warned


def _send(
    cfg: PreviewConfig, encoder: Encoder, listings: dict[str, Listing]
) -> Iterator[Shown | Bad]:
    for split, (table, _, _) in listings.items():
        # Two views of eight are the first two of the eight: a later one changes no earlier one.
        decode = Decode(cfg, min(cfg.views_of(split), 2))
        count = min(cfg.pairs, table.num_rows)
        for number in np.linspace(0, table.num_rows - 1, count).round().astype(int).tolist():
            yield show(encoder, decode, split, table.slice(number, 1).to_pylist()[0])


@torch.inference_mode()
def show(encoder: Encoder, decode: Decode, split: str, row: dict[str, Any]) -> Shown | Bad:
    """A row of a listing, sent through the encode and back."""
    views, palette = decode(row | {"shard": ""}), encoder.palette
    whole = views[0]
    if whole["error"]:
        return Bad(whole["source"], whole["error"])
    columns = encoder({key: [view[key] for view in views] for key in whole})
    draws = [draw_column(draw) for draw in range(encoder.cfg.draws)]
    names = ("image_mean", *draws)
    latents = torch.from_numpy(np.stack([columns[name][0] for name in names])).float()
    photo = encoder.autoencoder.decode(latents[:1].to(encoder.device)).float().cpu()[0]
    read = encoder.codec.read(latents[1:].to(encoder.device))
    clean, *perturbed = read.picture.float().cpu()
    target, truth = (torch.from_numpy(whole[key].copy()) for key in ("pixels", "ids"))
    nearest = read.ids[0].cpu()
    differ = (nearest != truth) & (truth != IGNORE)
    error = photo.clamp(-1, 1) - (target.movedim(-1, 0) / 127.5 - 1)
    psnr = float(10 * torch.log10(4 / error.square().mean()))
    mask = painted(truth, palette)
    red = np.where(differ.numpy()[..., None], (230, 0, 40), mask // 4 + 180).astype(np.uint8)
    given = [_tile("Photo", "as encoded", whole["pixels"]),
            _tile("Mask", "in anchor colours", mask, sharp=True),
            _tile("Mask over photo", "", over(whole, palette))]  # fmt: skip
    for view in views[1:]:
        note = f"{view['crop'][2]}x{view['crop'][3]}{', mirrored' if view['flip'] else ''}"
        given += [_tile("Another view", note, view["pixels"]),
                 _tile("Its mask over it", "", over(view, palette))]  # fmt: skip
    back = [_tile("Photo, decoded", f"{psnr:.1f} dB", pictures.to_uint8(photo)),
            _tile("Clean mask, decoded", "", pictures.to_uint8(clean)),
            _tile("Read as", "", pictures.colours(nearest, palette), sharp=True),
            _tile("Not as in the mask", f"{100 * float(differ.float().mean()):.2f} %", red,
                  sharp=True)]  # fmt: skip
    back += [_tile("Perturbed mask, decoded", "", pictures.to_uint8(draw)) for draw in perturbed]
    width, height = whole["crop"][2:].tolist()
    return Shown(
        split, row["id"], (row["image"], row["mask"]), (width, height), truth, nearest, psnr,
        (float(latents[0].std()), float(latents[1].std())), given, back,
    )  # fmt: skip


def painted(ids: torch.Tensor, palette: Palette) -> Pixels:
    """Ids ``[H, W]`` in anchor colours; what is ignored is hatched in black and white."""
    y, x = np.indices(ids.shape)
    hatch = (y + x) // max(2, min(ids.shape) // 48) % 2 * 255
    ignored = (ids == IGNORE).numpy()[..., None]
    colours = pictures.colours(ids, palette)
    return np.where(ignored, hatch[..., None].astype(np.uint8), colours)


def over(view: dict[str, Any], palette: Palette) -> Pixels:
    """A view's mask over its photo."""
    mask = painted(torch.from_numpy(view["ids"].copy()), palette)
    return mask // 2 + np.asarray(view["pixels"], np.uint8) // 2


def _tile(caption: str, note: str, picture: Pixels, *, sharp: bool = False) -> Tile:
    """PNG where a pixel is a class, and for what is small; else JPEG, or pages get too large."""
    if sharp or picture.size < TILE * TILE:
        kind, data = "png", pixels.png(picture)
    else:
        image, buffer = Image.fromarray(picture), io.BytesIO()
        image.thumbnail((LARGEST, LARGEST))
        image.save(buffer, "JPEG", quality=90, subsampling=0)
        kind, data = "jpeg", buffer.getvalue()
    return Tile(caption, note, f"data:image/{kind};base64,{base64.b64encode(data).decode()}")


def _warnings(
    cfg: PreviewConfig, listings: dict[str, Listing], shown: list[Shown], bad: list[Bad],
    ceiling: ConfusionMatrix,
) -> Iterator[Warned]:  # fmt: skip
    """What a person should look at before the encode."""
    names, count = cfg.corpus.classes, len(shown)
    if bad:
        yield Warned(
            f"{len(bad)} of {count + len(bad)} pairs cannot be used and would be quarantined; an "
            f"encode stops when more than {cfg.max_bad_share:.0%} of a split are.", _first(bad),
        )  # fmt: skip
    for split, listing in listings.items():
        if listing.bad:
            yield Warned(f"{len(listing.bad)} files of {split} are no pair.", _first(listing.bad))
    if not shown:
        return
    shares = np.array([pair.shares for pair in shown])
    if never := [name for name, share in zip(names, shares.sum(0), strict=False) if not share]:
        yield Warned(
            f"{len(never)} of {len(names)} classes are in none of the {count} pairs shown. Are "
            "their values right, or are they rare? --pairs shows more.", (", ".join(never),),
        )  # fmt: skip
    if (ignored := shares[:, IGNORE].mean()) > IGNORED:
        yield Warned(
            f"{ignored:.0%} of the pixels are ignored, neither trained on nor scored. Is every "
            "class's value given, and none by mistake in --corpus.ignore-ids?"
        )
    low = [(name, f"IoU {iou:.3f}") for name, iou in zip(names, ceiling.iou.tolist(), strict=True)
           if iou < CEILING]  # fmt: skip
    if low:
        yield Warned(
            f"{len(low)} classes do not survive the autoencoder (codec ceiling below {CEILING}); "
            "no model over these latents can do better. A larger --height and --width, another "
            "--autoencoder or --palette may mend it.", _first(low),
        )  # fmt: skip
    if (psnr := np.mean([pair.psnr for pair in shown])) < PSNR:
        yield Warned(f"Photos come out of the autoencoder at {psnr:.1f} dB: is it the right one?")
    if broken := [(pair.id, "") for pair in shown if not np.isfinite(pair.spread).all()]:
        yield Warned("Latents are NaN or infinite in half precision.", _first(broken))
    target = f"{cfg.width}x{cfg.height}"
    sizes = Counter(pair.size for pair in shown).most_common()
    enlarged = [(f"{n} of {w}x{h}", f"encoded at {target}") for (w, h), n in sizes
                if cfg.width * cfg.height > ENLARGED**2 * w * h]  # fmt: skip
    if enlarged:
        yield Warned("Photos are encoded larger than they are: time and space without detail. A "
                     "smaller --height and --width loses nothing.", _first(enlarged))  # fmt: skip
    wider = {(w, h): cfg.width / cfg.height * h / w for (w, h), _ in sizes}
    reshaped = [(f"{n} of {w}x{h}", f"at {target} they are {wider[w, h]:.2f} times as wide")
                for (w, h), n in sizes if not 1 / RESHAPED <= wider[w, h] <= RESHAPED]  # fmt: skip
    if reshaped:
        yield Warned("Photos change their shape by more than 10 %. --height and --width in their "
                     "proportion keep it.", _first(reshaped))  # fmt: skip


def _first(items: Sequence[tuple[str, str]], most: int = 10) -> tuple[str, ...]:
    lines = [": ".join(filter(None, item)) for item in items[:most]]
    return (*lines, f"and {len(items) - most} more") if len(items) > most else tuple(lines)


def main(args: list[str], named: Mapping[str, tuple[str, EncodeConfig]]) -> None:
    presets = {
        name: (about, PreviewConfig(**{f.name: getattr(cfg, f.name) for f in fields(cfg)}))
        for name, (about, cfg) in named.items()
    }
    cfg = absolute(config.parse(PreviewConfig, __doc__, presets, args), "page")
    page, miou, warned = preview(cfg)
    for sentence, details in warned:
        print("\n  ".join([f"warning: {sentence}", *details]))
    print(f"{page}: codec ceiling mIoU {miou:.3f} on the pairs shown, {len(warned)} warnings")
