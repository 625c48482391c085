"""Is what the model makes of use? Train an ordinary segmentation network on it.

    python -m tests.benchmarks.study --model out/demo/run/model --corpus out/demo/corpus \
        --output out/study

A small U-Net (plain torch, no pretraining) is trained as a classifier of pixels for the same number
of steps on each of: a small real set; images synthesized from the masks of that set and edits of
them, kept only if they agree with their masks; both; the photos of the small set with labels that
the model made; and many more photos with labels that the model made. Each is scored on held-out
photos with their true masks, which neither the flow nor the classifier was trained on. ``label.py``
and ``synthesize.py`` are run as a user runs them. What was trained and scored is kept in the
output, and not done again.
"""

from __future__ import annotations

import json
import os
import shlex
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from PIL import Image
from torch import Tensor, nn

from pipelines.corpora import pixels
from pipelines.inference.masks import mask_reader
from semflow import ConfusionMatrix, SemFlow
from semflow.masks.given import MasksAre

ROOT = Path(__file__).parents[2]
IGNORE = 255


@dataclass(frozen=True)
class Args:
    model: str
    corpus: Path
    """With images/ and masks/, and in both train/ and val/."""
    small: int = 100
    """Photos of the small real set, spread over train/."""
    many: int = 2000
    """Photos that are labelled by the model; at most all of train/. 0: none, where the model was
    trained on the small set itself and there are no others."""
    pool: Path | None = None
    """Folder of photos for that, instead of train/: some that the flow has not seen either."""
    synthesize: str = "--samples 4"
    """More arguments of synthesize.py."""
    steps: int = 800
    batch: int = 32
    width: int = 24
    lr: float = 2e-3
    seeds: int = 3
    output: Path = Path("out/study")


class UNet(nn.Module):
    """Four levels, two convolutions each, batch norm and skips (Ronneberger et al., 2015)."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        sizes = [width, 2 * width, 4 * width, 8 * width]
        inputs = [3, *sizes]
        self.down = nn.ModuleList(_block(a, b) for a, b in zip(inputs, sizes, strict=False))
        self.up = nn.ModuleList(_block(a + b, b) for a, b in zip(sizes[:0:-1], sizes[-2::-1],
                                                                strict=True))  # fmt: skip
        self.last = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Photos ``[B, 3, H, W]`` in [-1, 1] to logits ``[B, K, H, W]``."""
        kept = []
        for number, block in enumerate(self.down):
            x = block(nn.functional.max_pool2d(x, 2) if number else x)
            kept.append(x)
        for block, skip in zip(self.up, kept[-2::-1], strict=True):
            x = nn.functional.interpolate(x, skip.shape[-2:], mode="bilinear")
            x = block(torch.cat([x, skip], 1))
        return self.last(x)


def _block(inputs: int, outputs: int) -> nn.Module:
    parts: list[nn.Module] = []
    for channels in (inputs, outputs):
        parts += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False),
                  nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]  # fmt: skip
    return nn.Sequential(*parts)


Pairs = tuple[Tensor, Tensor]
"""Photos [N, 3, H, W] uint8 and class ids [N, H, W] uint8."""


Scores = dict[str, float]


def of_corpus(model: SemFlow) -> MasksAre | None:
    """What the corpus's own masks are: a model of before the class maps has none for them."""
    return "corpus" if model.defaults.class_map else None


def read(
    pairs: list[tuple[Path, Path]], model: SemFlow, masks_are: MasksAre | None = "classes"
) -> Pairs:
    """Pairs of files at the model's size."""
    size = model.defaults.width, model.defaults.height
    labels = mask_reader(model.palette, model.defaults, masks_are)
    photos, masks = [], []
    for photo, mask in pairs:
        image = Image.open(photo).convert("RGB").resize(size, Image.Resampling.BICUBIC)
        photos.append(np.asarray(image))
        masks.append(pixels.resize_ids(labels.read(mask.read_bytes()), *size))
    return (
        torch.from_numpy(np.stack(photos)).movedim(-1, 1).contiguous(),
        torch.from_numpy(np.stack(masks)),
    )


def kept(path: Path, pairs: Pairs, test: Pairs, classes: int, args: Args, seed: int) -> Scores:
    """What ``path`` says of this training, or the training."""
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(train(pairs, test, classes, args, seed)))
    return json.loads(path.read_text())


def train(pairs: Pairs, test: Pairs, classes: int, args: Args, seed: int) -> Scores:
    """mIoU and accuracy on ``test`` after training on ``pairs``."""
    torch.manual_seed(seed)
    network = UNet(classes, args.width).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), args.lr, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, args.steps)
    for _ in range(args.steps):
        rows = torch.randint(len(pairs[0]), (args.batch,))
        photos = pairs[0][rows].float() / 127.5 - 1
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(photos)
        loss = nn.functional.cross_entropy(
            logits.float(), pairs[1][rows].long(), ignore_index=IGNORE
        )
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    network.eval()
    confusion = ConfusionMatrix(classes)
    with torch.inference_mode():
        for first in range(0, len(test[0]), args.batch):
            photos = test[0][first : first + args.batch].float() / 127.5 - 1
            confusion.update(network(photos).argmax(1), test[1][first : first + args.batch])
    return {"miou": confusion.miou, "accuracy": confusion.accuracy}


def run(*words: str) -> None:
    print("$ python", shlex.join(words), flush=True)
    done = subprocess.run([sys.executable, str(ROOT / words[0]), *words[1:]],
                          capture_output=True, text=True)  # fmt: skip
    if done.returncode:
        sys.exit(done.stdout[-3000:] + done.stderr[-3000:])
    print(done.stdout.strip().splitlines()[-1], flush=True)


def linked(paths: list[Path], folder: Path) -> None:
    """A folder of links, for a job to read."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        if not (folder / path.name).exists():
            os.symlink(path.absolute(), folder / path.name)


def matching(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    """Pairs of files of the same stem, in order."""
    by_stem = {path.stem: path for path in masks.rglob("*.png")}
    found = sorted(path for path in images.rglob("*") if path.is_file())
    return [(path, by_stem[path.stem]) for path in found if path.stem in by_stem]


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    model = SemFlow.load(args.model)
    real = matching(args.corpus / "images/train", args.corpus / "masks/train")
    held_out = matching(args.corpus / "images/val", args.corpus / "masks/val")
    few = real[:: max(1, len(real) // args.small)][: args.small]
    labelling = {"few": [image for image, _ in few]}
    if args.many:
        photos = sorted(args.pool.rglob("*.*")) if args.pool else [image for image, _ in real]
        labelling["pool"] = photos[:: max(1, len(photos) // args.many)][: args.many]
    home = args.output
    linked([mask for _, mask in few], home / "masks")
    for name, images in labelling.items():
        linked(images, home / name)
        run("pipelines/label.py", "--model", args.model, "--images", str(home / name),
            "--output", str(home / f"{name}-labels"), "--review", "0")  # fmt: skip
    run("pipelines/synthesize.py", "--model", args.model, "--masks", str(home / "masks"),
        "--output", str(home / "made"), "--masks-are", str(of_corpus(model)),
        *shlex.split(args.synthesize))  # fmt: skip
    small = read(few, model, of_corpus(model))
    made = read(matching(home / "made/images", home / "made/masks"), model)
    labelled = {
        name: read(matching(home / name, home / f"{name}-labels/masks"), model)
        for name in labelling
    }
    repeats = max(1, len(made[0]) // len(small[0]))  # so that half of what is seen is real
    sets: dict[str, Pairs] = {
        "real, its own labels": small,
        "synthesized": made,
        "real and synthesized, half each": (
            torch.cat([made[0], small[0].repeat(repeats, 1, 1, 1)]),
            torch.cat([made[1], small[1].repeat(repeats, 1, 1)]),
        ),
        "real, labelled by the model": labelled["few"],
    }
    if args.many:
        sets["many photos, labelled by the model"] = labelled["pool"]
    test, classes = read(held_out, model, of_corpus(model)), len(model.palette)
    rows: list[dict[str, Any]] = []
    for name, pairs in sets.items():
        stem = name.replace(",", "").replace(" ", "-")
        found = [
            kept(home / "scores" / f"{stem}-{seed}.json", pairs, test, classes, args, seed)
            for seed in range(args.seeds)
        ]
        rows.append({"trained on": name, "images": len(pairs[0]),
                     "miou": [one["miou"] for one in found],
                     "accuracy": [one["accuracy"] for one in found]})  # fmt: skip
        scores = rows[-1]["miou"]
        print(f"{name:36} {len(pairs[0]):6} images  mIoU {statistics.mean(scores):.3f} "
              f"({min(scores):.3f} to {max(scores):.3f})", flush=True)  # fmt: skip
    confusion = ConfusionMatrix(classes)
    for first in range(0, len(test[0]), args.batch):
        photos = test[0][first : first + args.batch].float() / 127.5 - 1
        confusion.update(model.segment(photos).ids, test[1][first : first + args.batch])
    print(f"the flow model itself: mIoU {confusion.miou:.3f}")
    config = {key: str(value) for key, value in vars(args).items()}
    result = {"config": config, "rows": rows, "flow_miou": confusion.miou}
    (home / "study.json").write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
