"""Scores of synthesized images: networks found by the driver, features by actors, sums of both.

An actor hands on features, not statistics: of a row group of 32 images, those of Inception are 32
times 2048 numbers, their covariance is 2048 times 2048; and KID needs them as they are.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from infra import storage
from pipelines.evaluation.metricoptions import MetricName, MetricOptions
from semflow.hub.images import to_bytes
from semflow.metrics.frechet import Gaussian, Pyramid
from semflow.metrics.inception import FEATURES, INCEPTION, Inception
from semflow.metrics.kernel import SUBSET_SIZE, kernel_distance
from semflow.metrics.lpips import LPIPS, load_lpips
from semflow.metrics.weights import Unavailable

Row = dict[str, Any]
PERCEPTUAL: dict[MetricName, str] = {"lpips": "lpips_photo", "diversity": "lpips_diversity"}
DESCRIPTIONS = {
    "fid": "FID: Fréchet distance of Inception's features (torch-fidelity)",
    "kid": "KID: kernel distance of the same features, mean over subsets",
    "kid_std": "its deviation over subsets",
    "frechet_pyramid": "Fréchet distance of features without weights; no FID",
    "lpips_photo": "LPIPS of an image and the photo of its mask",
    "lpips_diversity": "LPIPS between images of one mask",
    "pixel_diversity": "RMS difference between images of one mask, pixels in [-1, 1]",
}


@dataclass(frozen=True)
class Networks:
    """What images are looked at through."""

    features: dict[str, nn.Module] = field(default_factory=dict)
    """By name, uint8 ``[B, 3, H, W]`` to ``[B, F]``. 'inception' is for FID and KID; any other
    gives a Fréchet distance named after it."""
    lpips: LPIPS | None = None
    unavailable: dict[str, str] = field(default_factory=dict)
    """Metrics that were asked for and cannot be computed, and why."""


def find_networks(options: MetricOptions) -> Networks:
    """The networks of the metrics that are asked for, as far as they are here.

    Raises:
        FileNotFoundError: when a file that is named is not there.
        ValueError: when a file of weights is not the published one.
    """
    wanted = set(options.compute)
    features: dict[str, nn.Module] = {}
    lpips: LPIPS | None = None
    unavailable: dict[str, str] = {}
    if "frechet-pyramid" in wanted:
        features["pyramid"] = Pyramid()
    if inception := [name for name in ("fid", "kid") if name in wanted]:
        try:
            with _local(options.inception) as file:
                state = INCEPTION.find(file, download=options.download)
            features["inception"] = Inception(state)
        except Unavailable as reason:
            unavailable |= dict.fromkeys(inception, str(reason))
    if perceptual := [PERCEPTUAL[name] for name in PERCEPTUAL if name in wanted]:
        try:
            with _local(options.lpips_backbone) as file, _local(options.lpips_heads) as heads:
                lpips = load_lpips(
                    options.lpips, weights=file, heads=heads, download=options.download
                )
        except Unavailable as reason:
            unavailable |= dict.fromkeys(perceptual, str(reason))
    return Networks(features, lpips, unavailable)


@contextmanager
def _local(uri: str | None) -> Iterator[Path | None]:
    """A file as a local one."""
    if uri is None or storage.is_local(uri):
        yield Path(uri.removeprefix("file://")) if uri else None
        return
    with tempfile.NamedTemporaryFile() as copy:
        copy.write(storage.read_bytes(uri))
        copy.flush()
        yield Path(copy.name)


class Judge:
    """Looks at images in an actor, and gives what is to be added up."""

    def __init__(self, networks: Networks, options: MetricOptions, device: torch.device) -> None:
        self.features = {name: net.to(device).eval() for name, net in networks.features.items()}
        self.lpips = networks.lpips.to(device) if networks.lpips else None
        self.options, self.device = options, device

    @torch.inference_mode()
    def look(self, images: Tensor, side: str) -> dict[str, NDArray[np.float32]]:
        """Features ``[B, F]`` of images ``[B, 3, H, W]`` in [-1, 1], under ``NETWORK:side``.

        Images are rounded to 8 bits first, as they are when they are written to files.
        """
        pixels = to_bytes(images)
        return {
            f"{name}:{side}": net(pixels).float().cpu().numpy()
            for name, net in self.features.items()
        }

    @torch.inference_mode()
    def compare(self, made: Tensor, photos: Tensor) -> dict[str, float]:
        """LPIPS of images and the photos of their masks, summed."""
        if self.lpips is None or "lpips" not in self.options.compute:
            return {}
        return {"lpips_photo": float(self.lpips(made.float(), photos.float().clamp(-1, 1)).sum())}

    def no_spread(self) -> dict[str, float]:
        """What :meth:`spread` gives where there are no pairs: rows of a dataset have one schema."""
        names = ["pairs", "pixel_diversity", *(["lpips_diversity"] if self.lpips else [])]
        return dict.fromkeys(names, 0.0)

    @torch.inference_mode()
    def spread(self, images: Tensor) -> dict[str, float]:
        """Distances between all pairs of images of one mask, summed, and how many pairs."""
        first, second = torch.triu_indices(len(images), len(images), 1)
        images = images.float()
        away = (images[first] - images[second]).square().mean((1, 2, 3)).sqrt()
        found = {"pairs": float(len(first)), "pixel_diversity": float(away.sum())}
        if self.lpips is not None:
            found["lpips_diversity"] = float(self.lpips.pairwise(images).sum())
        return found


class Collected:
    """In the driver: rows of parts, by the part's number, whatever order they come in."""

    def __init__(self) -> None:
        self._parts: dict[str, dict[int, Tensor]] = defaultdict(dict)

    def take(self, number: int, row: Row) -> None:
        """Take what has a row an image, ``OF:WHAT``, out of an actor's row."""
        for key in [key for key in row if ":" in key]:
            self._parts[key][number] = torch.from_numpy(np.array(row.pop(key)))

    def parts(self, of: str, what: str) -> list[Tensor]:
        """Rows ``[n, F]`` of each part, in the order of their numbers: a network's, of a side."""
        parts = self._parts[f"{of}:{what}"]
        return [parts[number] for number in sorted(parts)]


def summarize(
    collected: Collected, sums: Mapping[str, Any], networks: Networks, options: MetricOptions
) -> dict[str, Any]:
    """Scores of synthesized images: ``{values, notes, unavailable}`` by metric."""
    values: dict[str, float] = {}
    notes: dict[str, str] = {}
    unavailable = dict(networks.unavailable)
    for network in networks.features:
        made, real = (collected.parts(network, side) for side in ("made", "real"))
        count = min(sum(map(len, made)), sum(map(len, real)))
        names = [f"frechet_{network}"]
        if network == "inception":
            names = [name for name in ("fid", "kid") if name in options.compute]
        for name in names:
            if count < 2:
                unavailable[name] = "it takes two images or more of each side"
            elif name == "kid":
                found = kernel_distance(torch.cat(made), torch.cat(real))
                values["kid"], values["kid_std"] = found.mean, found.std
                if found.subset_size < SUBSET_SIZE:
                    notes["kid"] = f"subsets of {found.subset_size} images, not of {SUBSET_SIZE}"
            else:
                one, other = (reduce(add, map(Gaussian.of, side)) for side in (made, real))
                # Every FID divides by N - 1; the searches' distance, for few images, by N.
                values[name] = one.distance(other, unbiased=name == "fid")
                if name == "fid" and count <= FEATURES:
                    notes["fid"] = (
                        f"of {count} images, fewer than its {FEATURES} features: far above what "
                        "many images would give; compare it with the same number only"
                    )
    if "lpips_photo" in sums:
        values["lpips_photo"] = float(sums["lpips_photo"]) / float(sums["images"])
    if pairs := float(sums.get("pairs", 0)):
        for name in ("lpips_diversity", "pixel_diversity"):
            if name in sums:
                values[name] = float(sums[name]) / pairs
    elif "diversity" in options.compute:
        names = ["lpips_diversity", "pixel_diversity"]
        unavailable |= dict.fromkeys(names, "it takes --samples of two or more")
    return {"values": values, "notes": notes, "unavailable": unavailable}
