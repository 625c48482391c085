"""The training loop of one worker, under Ray Train and DeepSpeed.

Shapes: b micro-batch, C latent channels, h and w latent size, H and W pixels.
"""

from __future__ import annotations

import math
import os
import resource
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import ray.train
import ray.train.torch
import torch
from numpy.typing import NDArray
from ray.train import Checkpoint, CheckpointUploadMode

from infra import storage, tracking
from infra.console import say
from pipelines import config
from pipelines.config import UserError
from pipelines.dataset import maskcodec
from pipelines.dataset.latents import read_manifest
from pipelines.training import checkpoint, partition, refine, validate
from pipelines.training.config import TrainConfig
from pipelines.training.engine import start_engine
from pipelines.training.feed import STEP, Feed, Order, fed_order
from pipelines.training.initial import build_velocity, preconditioning
from pipelines.training.model import MODEL, make_model
from pipelines.training.optimizer import is_plain
from pipelines.training.watch import Ended, Watch
from semflow import EMA, Perturbation, SemFlow, Velocity, load_autoencoder
from semflow.codecs.anchors import Anchors
from semflow.codecs.base import MaskCodec
from semflow.flow.objective import Loss
from semflow.sampler import INDEX

Batch = dict[str, torch.Tensor]
Part = tuple[Batch, float]
"""A micro-batch, and the weight of its loss."""


def train_loop(payload: dict[str, Any]) -> None:
    """What each Ray Train worker runs: resume, train, validate, report, and save the model."""
    cfg = config.from_dict(TrainConfig, payload["config"])
    worker = Worker(cfg, payload["tracking"], payload["start"])
    with worker.measured():
        try:
            for step, batches in worker.steps():
                losses = [worker.micro_step(batch, weight) for batch, weight in batches]
                worker.after_step(step, losses)
            worker.finish()
        except Ended:  # not for Ray Train to try again; the driver finds out why
            return


class Startup:
    """Where the time until the first step went, since this process began."""

    def __init__(self) -> None:
        self.last = psutil.Process().create_time()
        self.parts: dict[str, float] = {}

    def mark(self, part: str) -> None:
        """What was done since the last mark."""
        now = time.time()
        self.parts[part] = now - self.last
        self.last = now

    def __str__(self) -> str:
        parts = ", ".join(f"{seconds:.1f} s {part}" for part, seconds in self.parts.items())
        return f"first step {sum(self.parts.values()):.1f} s after this worker began: {parts}"


@dataclass
class Rates:
    """Sums since the last log line."""

    started: float
    rows: int = 0
    waited: float = 0.0


class Worker:
    """One rank: its engine, its part of the data, and its part of the averaged weights."""

    def __init__(self, cfg: TrainConfig, handle: dict[str, str] | None, start: str | None) -> None:
        self.startup = Startup()
        self.startup.mark("imports")
        context = ray.train.get_context()
        self.cfg, self.rank, self.world = cfg, context.get_world_rank(), context.get_world_size()
        self.device = ray.train.torch.get_device()
        if self.device.type == "cpu":
            local = context.get_local_world_size()
            torch.set_num_threads(cfg.threads or max(1, (os.cpu_count() or 1) // local))
        self.manifest = read_manifest(cfg.data)
        self.autoencoder = load_autoencoder(self.manifest.recipe["autoencoder"]["source"])
        self.autoencoder.to(self.device)
        self.own_codec = maskcodec.of(self.manifest)
        if self.own_codec:
            self.own_codec.to(self.device)
        self.codec: MaskCodec = self.own_codec or Anchors(self.manifest.palette, self.autoencoder)
        frequency = self.manifest.split("train").frequency
        self.class_weights = cfg.objective.class_weights(frequency).float().to(self.device)
        self.perturbation = Perturbation(**self.manifest.recipe["perturbation"])
        self.context = context
        self.tracked = tracking.Run(tracking.Handle(**handle) if handle else None, "train")
        self.run = self.tracked if self.rank == 0 else None  # only one writes what all know
        self.step = 0
        self.branch = ""
        own = ray.train.get_checkpoint()
        if own is None:
            self.start_from(checkpoint.elsewhere(start, cfg.output))
        elif not any(map(self.start_from, checkpoint.candidates(own))):
            raise UserError(
                f"no checkpoint of {cfg.output} is whole. Copy them again from where they came, or "
                "begin another run at another --output"
            )
        self.plain = is_plain(cfg)
        self.norm: torch.Tensor | None = None
        order = Order.of(self.manifest.split("train"), cfg.seed, cfg.shuffle_groups, cfg.batch_size)
        lanes = cfg.lanes(self.rank, self.world)
        self.feed = Feed(self.manifest, "train", order, lanes, cfg.online_masks)
        self.watch = Watch(self.feed, cfg.output, self.rank)
        self.stored, self.leaving = self.step, False
        self.startup.mark("model")
        self.rates = Rates(time.perf_counter())

    @contextmanager
    def measured(self) -> Iterator[None]:
        """While it runs, one worker of each machine measures the machine."""
        if self.context.get_local_rank():
            yield
            return
        with self.tracked.system_metrics(self.context.get_node_rank()):
            yield

    def start_from(self, last: Checkpoint | None) -> bool:
        """Start with a checkpoint, if it is whole; returns whether it is. All ranks call it."""
        with last.as_directory() if last else nullcontext() as folder:
            if last and folder:
                fault = checkpoint.damage(Path(folder), self.rank, self.world)
                name = last.path.rpartition("/")[2]
                if fault:
                    say(f"warning: the checkpoint {name} is damaged ({fault}); the one before it "
                        "is taken", error=True)  # fmt: skip
                faults = torch.tensor(float(fault is not None), device=self.device)
                torch.distributed.all_reduce(faults)
                if faults > 0:
                    # What is made from here gets other names: Ray Train still knows the old ones,
                    # and removes what is there when their time comes.
                    self.branch = f"-after-{name.removeprefix('checkpoint_')}"
                    return False
            self.start(Path(folder) if folder else None)
            torch.distributed.barrier()  # inside: the folder goes when the first rank leaves
        return True

    def start(self, last: Path | None) -> None:
        """The model, new or as the last whole checkpoint has it."""
        cfg = self.cfg
        torch.manual_seed(cfg.seed)  # alike on every rank: the weights start alike
        if last:
            velocity = Velocity.load(last, weights=False)
        else:
            channels = cfg.flow_path.channels(self.autoencoder.channels)
            around = preconditioning(cfg, self.manifest, self.codec, self.device)
            velocity = build_velocity(cfg, channels, around)
        self.engine = start_engine(cfg, velocity, self.world)
        self.pieces = partition.pieces(self.engine)
        self.ema = EMA([piece.weight for piece in self.pieces], cfg.ema_decay)
        if last:
            self.step = checkpoint.load(last, self.engine, self.pieces, self.ema)
            if self.rank == 0:
                say(f"resumed at step {self.step}, {self.world} worker{'s' * (self.world > 1)}")

    def steps(self) -> Iterator[tuple[int, list[Part]]]:
        """The steps that are left, each with this worker's micro-batches."""
        cfg, order = self.cfg, self.feed.order
        batches = self.feed.batches(self.step, cfg.steps)
        while self.step < cfg.steps:
            before = time.perf_counter()
            rows = {name: self.to_device(values) for name, values in next(batches).items()}
            self.rates.waited += time.perf_counter() - before
            if "rows" not in self.startup.parts:
                self.startup.mark("rows")
            self.rates.rows += cfg.batch_size
            self.step += 1
            # Dropout, where a model has any: the same after a restart as without one.
            torch.manual_seed(int(order.rng(STEP, self.step, self.rank).integers(2**62)))
            yield self.step, list(self.cut(rows))

    def cut(self, rows: Batch) -> Iterator[Part]:
        """Micro-batches of a share, as many on every worker, that together weigh what it holds."""
        parts, share = self.cfg.micro_batches(self.world), len(self.feed.lanes)
        for part in range(parts):
            first, last = part * share // parts, (part + 1) * share // parts
            # DeepSpeed takes the mean over micro-batches and workers.
            weight = (last - first) * parts * self.world / self.cfg.batch_size
            some = slice(first, max(last, first + 1))  # an empty one computes a row for nothing
            yield {name: values[some] for name, values in rows.items()}, weight

    def to_device(self, values: NDArray[Any]) -> torch.Tensor:
        """A column of a batch, copied while the device goes on where it can."""
        tensor = torch.from_numpy(values)
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

    def micro_step(self, batch: Batch, weight: float) -> Loss:
        """Forward, backward and (at the last micro-batch of a step) the optimizer."""
        flow, ids = self.cfg.flow_path, batch["ids"]
        x_1 = self.encode_masks(batch) if self.cfg.online_masks else batch["x_1"].float()
        times = flow.times(batch["uniform"])
        sample = flow.sample(batch["x_0"].float(), x_1, times, batch["seed"])
        x_t = sample.x_t
        if self.cfg.channels_last:
            x_t = x_t.contiguous(memory_format=torch.channels_last)
        predicted = self.engine(x_t, sample.t)
        loss = self.cfg.objective(
            predicted, sample, flow=flow, ids=ids, codec=self.codec,
            class_weights=self.class_weights,
        )  # fmt: skip
        self.engine.backward(loss.total * weight)
        if self.plain and self.engine.is_gradient_accumulation_boundary():
            parameters = self.engine.module.parameters()
            self.norm = torch.nn.utils.clip_grad_norm_(parameters, self.cfg.clip or math.inf)
        self.engine.step()
        return Loss(*(part.detach() * weight for part in loss))

    @torch.no_grad()
    def encode_masks(self, batch: Batch) -> torch.Tensor:
        """The exact way, as the released code does: perturb and encode at every step."""
        seeds = batch["seed"].tolist()
        return self.codec.encode(batch["ids"], self.perturbation, seeds).float()

    def after_step(self, step: int, losses: list[Loss]) -> None:
        """Average the weights; log, validate and report when it is time.

        Raises:
            Ended: when the training diverged, or was asked to stop.
        """
        cfg = self.cfg
        if "step" not in self.startup.parts:
            self.startup.mark("step")
            if self.rank == 0:
                say(str(self.startup))
        self.ema.update()
        self.watch.note(step, torch.stack([loss.total for loss in losses]).sum())
        last = step == cfg.steps
        leave = stop = False
        if step % cfg.log_every == 0 or last:
            self.watch.check(self.pieces)
            self.log(step, losses)
            leave, stop = self.warned(), self.watch.asked_to_stop(self.pieces)
        judged = step % cfg.validate_every == 0 or last
        beside = judged and cfg.validate_beside
        scores = self.validate(step) if judged and not beside else {}
        if step % cfg.checkpoint_every == 0 or last or beside or leave or stop:
            self.report(step, scores, beside=beside, last=last or stop)
        if stop and not last:
            raise Ended

    def warned(self) -> bool:
        """Whether a worker's machine was just said to go away, as spot instances do."""
        before, self.leaving = self.leaving, ray.train.get_preemption_info() is not None
        return self.leaving and not before

    def log(self, step: int, losses: list[Loss]) -> None:
        means = torch.stack([torch.stack(list(loss)) for loss in losses]).mean(0)
        torch.distributed.all_reduce(means)
        total, velocity, anchor = (means / self.world).tolist()
        seconds = time.perf_counter() - self.rates.started
        norm = self.norm if self.plain else self.engine.get_global_grad_norm()
        values = {
            "loss": total,
            "loss_velocity": velocity,
            "loss_anchor": anchor,
            "lr": self.engine.lr_scheduler.get_last_lr()[0],
            "grad_norm": float("nan") if norm is None else float(norm),
            "images_per_s": self.rates.rows / seconds,
            "data_wait_share": self.rates.waited / seconds,
            "peak_memory_gib": self.peak_memory(),
        }
        self.rates = Rates(time.perf_counter())
        if self.run:
            self.run.metrics(values, step)
            left = (self.cfg.steps - step) * self.cfg.batch_size / values["images_per_s"]
            say(
                f"step {step}/{self.cfg.steps}  loss {total:.4f}  lr {values['lr']:.2e}  "
                f"{values['images_per_s']:.1f} images/s  waited for data "
                f"{values['data_wait_share']:.1%}  {left / 60:.1f} min left"
            )

    def peak_memory(self) -> float:
        """GiB that the hungriest worker has held at most since the last log line, or, the first
        time, since it began: of its GPU, or of the machine."""
        if self.device.type == "cuda":
            held = torch.cuda.max_memory_allocated(self.device) / 2**30
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            held = resident_peak()
        most = torch.tensor(held, device=self.device)
        torch.distributed.all_reduce(most, torch.distributed.ReduceOp.MAX)
        return float(most)

    def validate(self, step: int) -> dict[str, float]:
        """Score the averaged weights on all workers, between two steps."""
        started = time.perf_counter()
        scores, samples = validate.validate(
            self.model(step), self.manifest, self.cfg, self.rank, self.world
        )
        if self.run and samples:
            validate.publish(self.run, self.cfg, self.manifest, step, scores, samples)
        self.rates.started += time.perf_counter() - started  # not the training's time
        return scores

    def model(self, step: int) -> SemFlow:
        """The whole model with the averaged weights, in float32."""
        velocity = self.engine.module.blank().to(self.device)
        weights = dict(velocity.named_parameters())
        partition.gather(self.engine, self.pieces, self.ema.average, weights)
        run_id = self.run.handle.run_id if self.run and self.run.handle else None
        return make_model(
            velocity,
            self.autoencoder,
            self.own_codec,
            self.manifest,
            self.cfg,
            step=step,
            mlflow_run=run_id,
        )

    def report(self, step: int, scores: dict[str, float], *, beside: bool, last: bool) -> None:
        """Give Ray Train this rank's part of a checkpoint; it is uploaded while training goes on.

        Args:
            step: of the checkpoint.
            scores: of its validation, if it had one.
            beside: whether Ray Train shall validate it, on other resources.
            last: whether to wait for the upload.
        """
        if step == self.stored:
            return
        if self.watch.losses:
            self.watch.check(self.pieces)
        folder = tempfile.mkdtemp(prefix="semflow-checkpoint-")
        checkpoint.save(
            Path(folder), self.engine, self.pieces, self.ema, step=step,
            order=fed_order(self.cfg, self.manifest), config=config.to_dict(self.cfg),
        )  # fmt: skip
        mode = CheckpointUploadMode.SYNC if last else CheckpointUploadMode.ASYNC
        ray.train.report(
            {"step": step, **scores},
            checkpoint=Checkpoint.from_directory(folder),
            checkpoint_dir_name=f"checkpoint_{step:08d}{self.branch}",
            checkpoint_upload_mode=mode,
            delete_local_checkpoint_after_upload=True,
            validation=beside,
        )
        self.stored = step

    def finish(self) -> None:
        """Save the finished model, with its refiner if there is to be one."""
        model = self.model(self.step)
        if not self.run:
            return
        if self.cfg.refine_steps:
            model = refine.refined(model, self.cfg, self.manifest, self.class_weights, self.run)
            scores, _ = validate.validate(model, self.manifest, self.cfg)
            self.run.metrics({f"refined_{name}": value for name, value in scores.items()})
            say(f"refined  validation mIoU {scores['val_miou']:.4f}  accuracy "
                f"{scores['val_accuracy']:.4f}")  # fmt: skip
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            model.save(folder)
            storage.upload_folder(folder, storage.join(self.cfg.output, MODEL), last=INDEX)
            warnings.simplefilter("ignore")  # MLflow advises examples and type hints
            from pipelines.inference import pyfunc

            self.run.model(folder, self.cfg.register_as, **pyfunc.logged())
            self.run.flush()


def resident_peak() -> float:
    """GiB of memory that this process has held at most since the last call."""
    try:
        status = Path("/proc/self/status").read_text()
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): forgets the peak
    except OSError:  # not Linux, or not allowed: since it began
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return int(status.partition("VmHWM:")[2].split()[0]) / 2**20
