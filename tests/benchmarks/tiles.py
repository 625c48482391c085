"""A large photo in tiles: memory, seams, and how right the labels are.

    python -m tests.benchmarks.tiles --model out/demo/run/model --output out/tiles

The photo is one scene of 4096 x 3072 pixels made as the demo's scenes are: digits of the size that
the model knows, at random places over one background, a part of a photograph of scikit-learn
continued by its mirror image. So nothing in it begins or ends at a tile's border, and its true
labels are known.

*Seams*: of all neighbouring pixels on the two sides of a tile's border, the share whose labels
differ; beside it, the same where tiles have their middles. A border that leaves no seam has the
middles' share. (Both lie on borders of the autoencoder's patches.) Where tiles overlap, each of
them has its own border.

*Memory* is the peak of the process over what it holds after a batch of tiles, in MB and in float32
pictures [3, H, W] of the photo's size. Every line is a fresh process.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import tyro
from PIL import Image

from pipelines.corpora import digits
from semflow import ConfusionMatrix, SemFlow, segment_tiled
from semflow.tiles import OVERLAP, Side, continued

SIZES = ((4096, 3072), (2048, 1536))


@dataclass(frozen=True)
class Args:
    model: str = "out/demo/run/model"
    """A model of the demo's scenes."""
    overlaps: tuple[float, ...] = (0.0, OVERLAP)
    """For the photo of 4096 x 3072, below a half; the default one for a quarter of it as well."""
    batch_size: int = 16
    output: str = "out/tiles"

    def __post_init__(self) -> None:
        if max(self.overlaps) >= 0.5:
            raise ValueError("at an overlap of a half, the middle of a tile is another's border")


def large_scene(width: int, height: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """A scene ``[3, H, W]`` and its ids ``[H, W]``, as ``digits.compose`` makes small ones."""
    from sklearn.datasets import load_digits, load_sample_images

    data, rng = load_digits(), np.random.default_rng(seed)
    held_out = np.random.default_rng(0).permutation(len(data.images))[int(0.8 * len(data.images)) :]
    photo = np.asarray(load_sample_images().images[0])
    region = torch.tensor(photo[:, int(0.7 * photo.shape[1]) :]).movedim(-1, 0)
    scene = 0.55 * continued(region, height, width).movedim(0, -1).numpy().astype(np.float32)
    ids = np.full((height, width), digits.BACKGROUND, np.uint8)
    taken = np.zeros((height, width), bool)
    for _ in range(3 * width * height // digits.SIZE**2):
        side = int(rng.integers(digits.SIZES[0], digits.SIZES[1] + 1))
        top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
        window = np.s_[top : top + side, left : left + side]
        if taken[window].any():
            continue
        taken[window] = True
        pick = held_out[int(rng.integers(len(held_out)))]
        ink = Image.fromarray((data.images[pick] * 255 / 16).astype(np.uint8))
        alpha = np.asarray(ink.resize((side, side), Image.Resampling.BICUBIC), np.float32) / 255
        alpha = np.clip((alpha - 0.35) / 0.3, 0, 1)
        colour = 255 * (0.55 + 0.45 * rng.random(3)).astype(np.float32)
        scene[window] += alpha[..., None] * (colour - scene[window])
        ids[window][alpha >= 0.5] = data.target[pick]
    pixels = torch.from_numpy(scene.round().astype(np.uint8)).movedim(-1, 0).contiguous()
    return pixels, torch.from_numpy(ids)


def seams(ids: torch.Tensor, tile: tuple[int, int], overlap: float, factor: int) -> list[float]:
    """Shares of neighbours that differ across the tiles' borders, and across their middles."""
    across: list[list[torch.Tensor]] = [[], []]
    for dim in (0, 1):
        plane, size = ids.movedim(dim, 0), tile[dim]
        length = max(-(-len(plane) // factor), size // factor)
        starts = Side.cover(length, size // factor, overlap).times(factor).starts
        borders = {at for start in starts for at in (start, start + size) if 0 < at < len(plane)}
        middles = {start + size // 2 for start in starts} - borders
        for kind, places in enumerate((borders, middles)):
            at = torch.tensor(sorted(places))
            across[kind].append((plane[at] != plane[at - 1]).flatten())
    return [float(torch.cat(found).float().mean()) for found in across]


def measure(args: Args, size: tuple[int, int], overlap: float) -> dict[str, Any]:
    torch.set_num_threads(2)
    model = SemFlow.load(args.model)
    defaults = model.defaults
    photo, truth = large_scene(*size)
    few = photo[:, : 2 * defaults.height, : args.batch_size * defaults.width]
    segment_tiled(model, few, overlap=overlap, batch_size=args.batch_size)
    before, begin = psutil.Process().memory_info().rss, time.perf_counter()
    Path("/proc/self/clear_refs").write_text("5")  # making the photo took memory as well: forget it
    result = segment_tiled(model, photo, overlap=overlap, batch_size=args.batch_size)
    seconds, peak = time.perf_counter() - begin, peak_resident() - before
    confusion = ConfusionMatrix(len(model.palette))
    confusion.update(result.ids[0].long(), truth)
    tile = (defaults.height, defaults.width)
    border, middle = seams(result.ids[0], tile, overlap, model.autoencoder.factor)
    true_border, true_middle = seams(truth, tile, overlap, model.autoencoder.factor)
    return {
        "size": size, "overlap": overlap, "seconds": seconds, "mb": peak / 1e6,
        "pictures": peak / (12 * size[0] * size[1]), "border": border, "middle": middle,
        "true_border": true_border, "true_middle": true_middle,
        "miou": confusion.miou, "accuracy": confusion.accuracy,
    }  # fmt: skip


def peak_resident() -> int:
    """Largest resident memory of this process since it was told to forget, in bytes (Linux)."""
    (line,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line
    )
    return int(line.split()[1]) * 1024


def table(results: list[dict[str, Any]]) -> str:
    lines = [
        "| photo | overlap | differ across borders | across middles | ratio | mIoU | "
        "peak memory, MB | float32 pictures | s |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for r in results:
        lines.append(
            f"| {r['size'][0]} x {r['size'][1]} | {r['overlap']:g} | {100 * r['border']:.2f} % | "
            f"{100 * r['middle']:.2f} % | {r['border'] / r['middle']:.2f} | {r['miou']:.3f} | "
            f"{r['mb']:.0f} | {r['pictures']:.1f} | {r['seconds']:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    work = [(SIZES[1], OVERLAP), *((SIZES[0], overlap) for overlap in args.overlaps)]
    results = []
    for size, overlap in work:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            results.append(fresh.submit(measure, args, size, overlap).result())
        print(table(results[-1:]), flush=True)
    print("\n" + table(results))
    border, middle = (100 * results[-1][f"true_{place}"] for place in ("border", "middle"))
    print(
        f"\nTruth of the last line: {border:.2f} % across borders, {middle:.2f} % across middles."
    )
    folder = Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tiles.json").write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
