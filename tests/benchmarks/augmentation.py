"""What frozen augmentation costs: K stored mask draws and V stored views against fresh ones.

Trains one small model after another on CamVid, alike in everything but where a step's crop, flip
and mask perturbation come from: from V fixed views and K stored encodings of each mask, as shards
hold them, or drawn anew at each step, as the released SemFlow does. docs/augmentation.md has the
question, the setup and the findings.

    .venv/bin/python tests/benchmarks/augmentation.py            half an hour on two idle cores
    .venv/bin/python tests/benchmarks/augmentation.py --quick    a smoke run, some minutes

Every finished run is a file in --output: the same command goes on where it stopped.
"""

from __future__ import annotations

import json
import multiprocessing as mp
import os
import time
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from diffusers import UNet2DModel
from torch import Tensor

from pipelines import pixels
from pipelines.corpora.classes import with_classes
from pipelines.corpora.known import KNOWN
from pipelines.latents import parquet_bytes, to_table
from pipelines.masks import LabelMap
from semflow import (
    EMA,
    ConfusionMatrix,
    Objective,
    Perturbation,
    RectifiedFlow,
    SemFlow,
    Solver,
    Velocity,
    load_autoencoder,
    make_palette,
)
from semflow.sampler import Defaults

CORPUS = with_classes(KNOWN["camvid"][1])
MIN_SCALE = 0.5  # of a crop, as encode.py has it
FRESH = 0  # as a number of views or draws: drawn anew at each step
POOL = 17  # stored draws that stand for fresh ones where encoding at each step is too slow
UNSEEN = 1000  # draws from this number on are never trained on


@dataclass(frozen=True)
class Arm:
    """Where the augmentation comes from; all else is alike."""

    autoencoder: str
    views: int
    draws: int
    seed: int = 0

    @property
    def name(self) -> str:
        return f"{self.kind}-v{self.views}-k{self.draws}-seed{self.seed}"

    @property
    def kind(self) -> str:
        return "lossless" if self.autoencoder.startswith("space") else "lossy"


@dataclass(frozen=True)
class Pick:
    """One training example: an image, a view of it, and the seed of a perturbation, if any."""

    split: str
    image: int
    view: pixels.View
    seed: int | None


@dataclass(frozen=True, kw_only=True)
class Study:
    """How the arms are trained, and where the results go."""

    data: Path = Path(__file__).parents[3] / "shared/data/camvid"
    """CamVid: images/{train,val} and masks/{train,val}."""
    taef2: Path = Path(__file__).parents[3] / "shared/weights/taef2"
    """Weights of the lossy autoencoder; its arms are left out where they are not."""
    output: Path = Path("out/augmentation")
    """Results: a JSON file an arm, summary.json and augmentation.png."""
    every: int = 4
    """Train on every n-th training image, so that few steps are many passes."""
    width: int = 96
    height: int = 64
    channels: tuple[int, ...] = (24, 48, 72)
    """Of the UNet."""
    steps: int = 1000
    batch: int = 16
    lr: float = 1e-3
    """Peak of AdamW's learning rate, with a cosine to 0."""
    points: int = 4
    """How often an arm is measured."""
    flow: RectifiedFlow = field(default_factory=RectifiedFlow)
    objective: Objective = field(default_factory=Objective)
    perturbation: Perturbation = field(default_factory=Perturbation)
    workers: int = 2
    """Arms trained side by side, each on one thread."""
    seeds: int = 2
    """Seeds of the key arms; the others get one."""
    train: bool = True
    """Train what is left; --no-train only reports the runs that are there."""
    quick: bool = False
    """A smoke run: few arms, few steps, numbers that mean nothing."""

    def arms(self) -> list[Arm]:
        """All runs, the most telling first."""
        lossless, lossy = "space-to-depth:8", str(self.taef2)
        key = [Arm(lossless, *vk) for vk in ((1, 0), (8, 0), (0, 0), (1, 4), (8, 4))]
        once = [Arm(lossless, *vk) for vk in ((8, 1), (32, 0), (2, 0), (8, 2), (8, 8))]
        if self.taef2.is_dir():
            key += [Arm(lossy, 2, k) for k in (4, POOL)]
            once += [Arm(lossy, 2, k) for k in (1, 2, 8)]
        if self.quick:
            return [key[0], key[3], key[-1]]
        return (
            key + once + [replace(arm, seed=seed) for seed in range(1, self.seeds) for arm in key]
        )


class Data:
    """CamVid in memory, and the latents of picks through one autoencoder."""

    def __init__(self, study: Study, autoencoder: str) -> None:
        self.study = study
        self.palette = make_palette("sphere", CORPUS.classes)
        study.perturbation.check(self.palette)
        self.autoencoder = load_autoencoder(autoencoder)
        labels = LabelMap(classes=len(CORPUS.classes), ignore_ids=CORPUS.ignore_ids)
        self.pairs: dict[str, list[tuple[Any, Any]]] = {}
        for split, every in (("train", study.every), ("val", 1)):
            files = sorted((study.data / "masks" / split).glob("*.png"))[::every]
            photos = [study.data / "images" / split / f"{file.stem}.jpg" for file in files]
            self.pairs[split] = [
                (pixels.read_photo(photo.read_bytes()), labels.read(file.read_bytes()))
                for photo, file in zip(photos, files, strict=True)
            ]
        self.cut = lru_cache(6000)(self._cut)
        self.memo: dict[Any, Tensor] = {}  # latents of a lossy autoencoder, in half precision

    def _cut(self, split: str, image: int, view: pixels.View) -> tuple[Tensor, Tensor]:
        photo, ids = self.pairs[split][image]
        cut = pixels.cut(photo, ids, view, self.study.width, self.study.height)
        return tuple(torch.from_numpy(part.copy()) for part in cut)

    def views(self, split: str, image: int, count: int) -> list[pixels.View]:
        """The fixed views of an image; fewer are the first ones of more."""
        height, width = self.pairs[split][image][1].shape
        aspect = self.study.width / self.study.height
        return pixels.plan_views(
            width, height, count=count, min_scale=MIN_SCALE, aspect=aspect, seed=[image]
        )

    def whole(self, split: str) -> list[tuple[int, pixels.View]]:
        """Every image of a split, uncropped."""
        return [(i, self.views(split, i, 1)[0]) for i in range(len(self.pairs[split]))]

    def fresh_view(self, split: str, image: int, rng: np.random.Generator) -> pixels.View:
        """A crop as the planned ones from the second on, mirrored half the time."""
        height, width = self.pairs[split][image][1].shape
        view = pixels.plan_views(
            width, height, count=2, min_scale=MIN_SCALE, seed=[int(rng.integers(2**31))],
            aspect=self.study.width / self.study.height,
        )[1]  # fmt: skip
        return replace(view, flip=bool(rng.integers(2)))

    @torch.no_grad()
    def latents(self, picks: list[Pick]) -> tuple[Tensor, Tensor, Tensor]:
        """``x_0``, ``x_1`` [B, C, h, w] and ids [B, H, W] of picks."""
        cuts = [self.cut(p.split, p.image, p.view) for p in picks]
        ids = torch.stack([ids for _, ids in cuts])
        if self.autoencoder.lossless:
            images, masks = self._images(cuts), self._masks(picks, ids)
            return self.autoencoder.encode(images).mean, self.autoencoder.encode(masks).mean, ids
        keys = [(p.split, p.image, p.view, "photo") for p in picks]
        self._fill(keys, lambda some: self._images([cuts[i] for i in some]))
        self._fill(picks, lambda some: self._masks([picks[i] for i in some], ids[some]))
        ends = [torch.stack([self.memo[key] for key in k]).float() for k in (keys, picks)]
        return ends[0], ends[1], ids

    def _fill(self, keys: list[Any], picture: Any) -> None:
        missing = list({key: i for i, key in enumerate(keys) if key not in self.memo}.values())
        for start in range(0, len(missing), 16):
            some = missing[start : start + 16]
            encoded = self.autoencoder.encode(picture(some)).mean.half()
            self.memo |= {keys[i]: latent for i, latent in zip(some, encoded, strict=True)}

    def _images(self, cuts: list[tuple[Tensor, Tensor]]) -> Tensor:
        return torch.stack([image for image, _ in cuts]).movedim(-1, 1).float() / 127.5 - 1

    def _masks(self, picks: list[Pick], ids: Tensor) -> Tensor:
        masks = self.palette.encode(ids)
        for mask, pick in zip(masks, picks, strict=True):
            if pick.seed is not None:
                mask += self.study.perturbation.draw(mask.shape, pick.seed)
        return masks


def stored_seed(image: int, view: int, draw: int) -> int | None:
    """Seed of a stored draw, so that nothing needs to be stored; draw 0 is clean."""
    return (image * 64 + view) * 4096 + draw if draw else None


class Draws:
    """An arm's stream of picks. Streams of one seed see the same images in the same order."""

    def __init__(self, data: Data, arm: Arm, seed: int) -> None:
        self.data, self.arm = data, arm
        self.order, self.view_rng, self.draw_rng = (
            np.random.default_rng([seed, use]) for use in range(3)
        )
        self.queue: list[int] = []

    def __call__(self, count: int, *, unseen: bool = False) -> list[Pick]:
        return [self.pick(unseen) for _ in range(count)]

    def pick(self, unseen: bool) -> Pick:
        arm, data = self.arm, self.data
        if not self.queue:
            self.queue = self.order.permutation(len(data.pairs["train"])).tolist()
        image = self.queue.pop()
        if arm.views == FRESH:
            number, view = 0, data.fresh_view("train", image, self.view_rng)
        else:
            number = int(self.view_rng.integers(arm.views))
            view = data.views("train", image, arm.views)[number]
        if unseen:
            seed = stored_seed(image, number, UNSEEN + int(self.draw_rng.integers(2)))
        elif arm.draws == FRESH:
            seed = int(self.draw_rng.integers(2**62))
        else:  # as pipelines/feed.py: draw 0 is clean; with no other there is no choice
            low = min(1, arm.draws - 1)
            seed = stored_seed(image, number, int(self.draw_rng.integers(low, arm.draws)))
        return Pick("train", image, view, seed)


class Examiner:
    """Losses of a model on the same examples, times and perturbations whatever the arm."""

    def __init__(self, data: Data, arm: Arm) -> None:
        count = 3 * len(data.pairs["train"])
        fresh = Arm(arm.autoencoder, FRESH, FRESH)
        val = data.whole("val")
        odd = val[1::2] * 2
        sets = {
            "own": Draws(data, arm, 10**6)(count),
            "own_unseen": Draws(data, arm, 10**6)(count, unseen=True),
            "fresh": Draws(data, fresh, 10**6)(count, unseen=True),
            "val_clean": [Pick("val", i, view, None) for i, view in odd],
            "val_perturbed": [Pick("val", i, v, 7 * n) for n, (i, v) in enumerate(odd, 1)],
        }
        self.data, self.study = data, data.study
        self.sets = {name: data.latents(picks) for name, picks in sets.items()}
        self.val = data.latents([Pick("val", i, view, None) for i, view in val])
        self.seeded = data.latents(
            [Pick("val", i, view, 9 * i + seed) for seed in range(3) for i, view in val[::4]]
        )

    @torch.inference_mode()
    def losses(self, model: SemFlow) -> dict[str, float]:
        """Velocity loss of every set: over all times, and at t = 1 where synthesis starts."""
        result: dict[str, float] = {}
        for name, ends in self.sets.items():
            n = len(ends[0])
            uniform = (torch.arange(n) * 0.6180339887) % 1  # low discrepancy: even over [0, 1]
            result[name] = self.loss(model, ends, self.study.flow.times(uniform))
            third = tuple(part[: n // 3] for part in ends)
            result[f"{name}_t1"] = self.loss(model, third, torch.ones(n // 3))
        return result

    def loss(self, model: SemFlow, ends: Any, t: Tensor) -> float:
        sums = 0.0
        for part in torch.arange(len(t)).split(64):
            x_0, x_1, ids = (tensor[part] for tensor in ends)
            sample = self.study.flow.sample(x_0, x_1, t[part])
            loss = self.study.objective(
                model.velocity(sample.x_t, sample.t), sample, flow=self.study.flow, ids=ids,
                palette=model.palette, autoencoder=model.autoencoder,
            )  # fmt: skip
            sums += float(loss.velocity) * len(part)
        return sums / len(t)

    @torch.inference_mode()
    def scores(self, model: SemFlow) -> dict[str, float]:
        """mIoU by one Euler step, and what different perturbations change of a synthesis."""
        x_0, _, ids = self.val
        confusion = ConfusionMatrix(len(self.data.palette))
        confusion.update(model.segment_latents(x_0, Solver(steps=1)).ids, ids)
        ends = model.flow(self.seeded[1], 1.0, 0.0, Solver(steps=5)).x
        deviation = ends.unflatten(0, (3, -1)).std(0).mean()  # of 3 perturbations of a mask
        return {"miou": confusion.miou, "diversity": float(deviation)}


def train(study: Study, arm: Arm, data: Data) -> dict[str, Any]:
    """One run: the curve of its measures."""
    torch.manual_seed(arm.seed)
    model, averaged = build(study, data), build(study, data)
    parameters = list(model.velocity.parameters())
    optimizer = torch.optim.AdamW(parameters, study.lr, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, study.steps)
    ema, draws, examiner = EMA(parameters), Draws(data, arm, arm.seed), Examiner(data, arm)
    uniform = torch.Generator().manual_seed(arm.seed)  # the same times for every arm
    curve, started = [], time.perf_counter()
    for step in range(1, study.steps + 1):
        x_0, x_1, ids = data.latents(draws(study.batch))
        t = study.flow.times(torch.rand(study.batch, generator=uniform))
        sample = study.flow.sample(x_0, x_1, t)
        loss = study.objective(
            model.velocity(sample.x_t, t), sample, flow=study.flow, ids=ids, palette=data.palette,
            autoencoder=data.autoencoder,
        )  # fmt: skip
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        ema.update()
        if step % (study.steps // study.points) == 0:
            ema.copy_to(averaged.velocity.parameters())
            curve.append({"step": step} | examiner.losses(averaged))
            if data.autoencoder.lossless or step + study.steps // study.points > study.steps:
                curve[-1] |= examiner.scores(averaged)  # decoding is slow where it is lossy
    seconds = time.perf_counter() - started
    return {"arm": asdict(arm) | {"kind": arm.kind}, "curve": curve, "seconds": seconds}


def build(study: Study, data: Data) -> SemFlow:
    """A new model; smaller than the library's presets, for the sake of many passes."""
    depth, c = len(study.channels), data.autoencoder.channels
    unet = UNet2DModel(
        in_channels=c, out_channels=c, block_out_channels=study.channels, layers_per_block=1,
        norm_num_groups=8, down_block_types=("DownBlock2D",) * depth,
        up_block_types=("UpBlock2D",) * depth,
    )  # fmt: skip
    defaults = Defaults(height=study.height, width=study.width, perturbation=study.perturbation)
    return SemFlow(Velocity(unet), data.autoencoder, data.palette, defaults)


@lru_cache(2)
def opened(study: Study, autoencoder: str) -> Data:
    """Data of a worker process, with the latents that are already encoded."""
    data = Data(study, autoencoder)
    pool = study.output / "pool.pt"
    if not data.autoencoder.lossless and pool.is_file():
        data.memo = torch.load(pool, weights_only=False)  # our own file of a moment ago
    return data


def run(job: tuple[Study, Arm]) -> str:
    """In a worker process: train an arm and write its file."""
    study, arm = job
    torch.set_num_threads(1)
    result = train(study, arm, opened(study, arm.autoencoder))
    (study.output / f"{arm.name}.json").write_text(json.dumps(result, indent=1))
    shown = ("own", "fresh", "val_perturbed", "miou")
    scores = "  ".join(f"{name} {result['curve'][-1][name]:.4f}" for name in shown)
    return f"{arm.name:24} {result['seconds']:5.0f} s  {scores}"


def fill_pool(study: Study, arms: list[Arm]) -> None:
    """Encode once what every lossy arm looks up."""
    data = Data(study, arms[0].autoencoder)
    most = max(arm.draws for arm in arms)
    numbers = [*range(most), UNSEEN, UNSEEN + 1]
    for image in range(len(data.pairs["train"])):
        views = data.views("train", image, arms[0].views)
        data.latents([
            Pick("train", image, view, stored_seed(image, number, draw))
            for number, view in enumerate(views) for draw in numbers
        ])  # fmt: skip
    Examiner(data, arms[0])
    torch.save(data.memo, study.output / "pool.pt")


def costs(study: Study, autoencoder: str) -> dict[str, Any]:
    """Bytes of a shard's row by K; seconds of encoding against picking, a batch of masks."""
    data = Data(study, autoencoder)
    whole = data.whole("train")[: study.batch]
    rows: dict[int, float] = {}
    columns: dict[str, Any] = {}
    for k in range(8):
        picks = [Pick("train", i, view, stored_seed(i, 0, k)) for i, view in whole]
        x_0, x_1, ids = data.latents(picks)
        columns |= {"image_mean": x_0.numpy(), "mask": ids.numpy(), f"mask_draw_{k}": x_1.numpy()}
        rows[k + 1] = len(parquet_bytes(to_table(columns, ""), 32)[0]) / study.batch
    draws = np.stack([columns[f"mask_draw_{k}"] for k in range(8)])
    noise = draws[1:].var(0, ddof=1).mean()
    shift = np.square(draws[1:].mean(0) - draws[0]).mean() - noise / 7
    masks, stored = data.palette.encode(ids), draws.astype(np.float16)
    seeds = list(range(study.batch))
    perturbed = study.perturbation.apply(masks, seeds)
    model = build(study, data)

    def step() -> None:
        model.velocity(x_1, torch.rand(study.batch)).square().mean().backward()

    with torch.inference_mode():
        perturb = clocked(lambda: study.perturbation.apply(masks, seeds))
        online = clocked(lambda: data.autoencoder.encode(perturbed).mean)
    return {
        "bytes_a_row": rows,
        "latent_variance": float(draws[0].var()),
        "perturbation_noise": float(noise),  # what differs between the draws of a mask
        "perturbation_shift": float(shift),  # what they have in common against the clean one
        "perturb_s": perturb,
        "encode_s": online,
        "pick_s": clocked(lambda: torch.from_numpy(stored[3, np.arange(study.batch)]).float()),
        "train_step_s": clocked(step),
    }


def clocked(do: Any, times: int = 10) -> float:
    """Least seconds of several tries: the machine is shared."""
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        do()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def draw(runs: list[dict[str, Any]], path: Path) -> None:
    """The picture of docs/augmentation.md; every dot is a run."""
    import matplotlib.pyplot as plt  # comes with MLflow

    figure, axes = plt.subplots(2, 2, figsize=(9, 7), layout="constrained")
    by_views = {str(v or "fresh"): (v, FRESH) for v in (1, 2, 8, 32, FRESH)}
    shades = plt.colormaps["viridis"](np.linspace(0, 0.9, len(by_views)))
    for (name, arm), shade in zip(by_views.items(), shades, strict=True):
        for run in chosen(runs, "lossless", *arm):
            steps, losses = zip(
                *((p["step"], p["val_perturbed"]) for p in run["curve"]), strict=True
            )
            again = run["arm"]["seed"]
            axes[0, 0].plot(steps, losses, "o--" if again else "o-", color=shade, markersize=3,
                            label=None if again else f"V={name}")  # fmt: skip
    axes[0, 0].set(title="Validation loss, by views V (K fresh)", xlabel="step")
    measures = {"own": "training, the arm's own draws", "fresh": "training images, fresh crops",
                "val_perturbed": "validation"}  # fmt: skip
    for measure, label in measures.items():
        dots(axes[0, 1], runs, "lossless", by_views, measure, label)
    axes[0, 1].set(title="Loss at the last step, by views V (K fresh)", xlabel="views V")
    swept = [k for k in (1, 2, 4, 8, FRESH) if any(run["arm"]["draws"] == k for run in runs)]
    for kind, v in (("lossless", 1), ("lossless", 8), ("lossy", 2)):
        by_draws = {str(k or "fresh"): (v, k) for k in swept}
        dots(axes[1, 0], runs, kind, by_draws, "unseen_over_own", f"{kind}, V={v}")
        dots(axes[1, 1], runs, kind, by_draws, "over_fresh", f"{kind}, V={v}")
    below = f"draws K (lossy, fresh: a pool of {POOL - 1})"
    axes[1, 0].set(title="Training loss: unseen perturbations over own", xlabel=below)
    axes[1, 1].set(title="Validation loss over that of fresh K", xlabel=below)
    for axis in axes.flat:
        axis.set(ylabel="velocity loss" if axis in axes[0] else "%")
        axis.grid(alpha=0.3)
        axis.margins(0.1)
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=100)


def chosen(runs: list[dict[str, Any]], kind: str, views: int, draws: int) -> list[dict[str, Any]]:
    """The runs of an arm, one a seed; the lossy pool counts as fresh."""
    draws = POOL if (kind, draws) == ("lossy", FRESH) else draws
    wanted = {"kind": kind, "views": views, "draws": draws}
    return [run for run in runs if run["arm"].items() >= wanted.items()]


def dots(axis: Any, runs: Any, kind: str, arms: dict[str, Any], measure: str, label: str) -> None:
    """A dot for each run at its last step, and a line through the means of the arms."""
    fresh = {
        run["arm"]["seed"]: run["curve"][-1]["val_perturbed"]
        for run in chosen(runs, kind, next(iter(arms.values()))[0], FRESH)
    }
    means: dict[int, Any] = {}
    (line,) = axis.plot([], [], label=label)
    for place, arm in enumerate(arms.values()):
        values = []
        for run in chosen(runs, kind, *arm):
            last, seed = run["curve"][-1], run["arm"]["seed"]
            if measure == "unseen_over_own":
                values.append(100 * (last["own_unseen"] / last["own"] - 1))
            elif measure == "over_fresh":  # of the same seed: same weights, images and times
                values += [100 * (last["val_perturbed"] / fresh[seed] - 1)] if seed in fresh else []
            else:
                values.append(last[measure])
        axis.plot([place] * len(values), values, "o", color=line.get_color(), markersize=4)
        if values:
            means[place] = np.mean(values)
            if measure in ("unseen_over_own", "over_fresh") and kind == "lossy":
                text = f"{means[place]:.1f} %"
                axis.annotate(text, (place, means[place]), (7, 5), textcoords="offset points")
    line.set_data(list(means), list(means.values()))
    axis.set_xticks(range(len(arms)), list(arms))


def main(study: Study) -> None:
    """Train what is left, then report what is there."""
    if study.quick:
        study = replace(study, every=24, steps=20, points=2, output=study.output / "quick")
    study.output.mkdir(parents=True, exist_ok=True)
    arms = study.arms()
    left = [arm for arm in arms if not (study.output / f"{arm.name}.json").is_file()]
    if study.train:
        lossy = [arm for arm in arms if arm.kind == "lossy"]
        if lossy and not (study.output / "pool.pt").is_file():
            print("encoding the lossy pool", flush=True)
            fill_pool(study, lossy)
        os.environ["OMP_NUM_THREADS"] = "1"  # before the workers import torch
        with mp.get_context("spawn").Pool(study.workers) as pool:
            for line in pool.imap(run, [(study, arm) for arm in left], chunksize=1):
                print(line, flush=True)
        left = []
    runs = [
        json.loads((study.output / f"{arm.name}.json").read_text())
        for arm in arms if arm not in left
    ]  # fmt: skip
    torch.set_num_threads(1)
    price = {arm.kind: costs(study, arm.autoencoder) for arm in (arms[0], arms[-1])}
    (study.output / "summary.json").write_text(json.dumps({"runs": runs, "costs": price}, indent=1))
    draw(runs, study.output / "augmentation.png")
    print(f"{len(runs)} of {len(arms)} runs are in {study.output}: summary.json, augmentation.png")


if __name__ == "__main__":
    main(tyro.cli(Study, description=__doc__))
