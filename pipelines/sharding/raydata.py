"""Ray, and Ray Data as we run it."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar, cast

import ray
import ray.data
from ray.data import DataContext

from infra.console import say
from pipelines.config import UserError
from pipelines.sharding import doors


class Staffing(Protocol):
    """How many actors a job asks for, and threads of each: 0 leaves it to us."""

    @property
    def actors(self) -> int: ...
    @property
    def max_actors(self) -> int | None: ...
    @property
    def threads(self) -> int: ...


Options = TypeVar("Options", bound=Staffing)

BLOCKS_AHEAD = 4
"""Blocks that wait at an actor. With 2, which are Ray's own, small ones came too slowly."""
ACTOR_CPUS = 0.25
"""Of a stage with a model: two of them on two cores leave room for a decode and a write."""
ACTORS_A_NODE = 4
"""Without GPUs, unless more are asked for: each holds a model and a batch's activations."""
GROWS_SECONDS = 30
"""After which a cluster that was joined is said to have too few GPUs; it may be growing."""


@contextmanager
def ordered() -> Iterator[None]:
    """Datasets made within keep their order, say nothing and do not spin."""
    context = DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = 1  # what a task hands on goes on at once, not gathered
    doors.pause(context)
    with DataContext.current(context):
        yield


@dataclass(frozen=True, kw_only=True)
class Actors:
    """A pool of actors that hold a model."""

    kind: type
    """Its objects map a block of columns to another."""
    arguments: tuple[Any, ...]
    """Of its constructor."""
    number: int
    """How many there are."""
    most: int | None = None
    """Let their number grow to this while work waits and there is room."""
    gpus: float = 0
    """That each takes."""

    @classmethod
    def of(cls, options: Staffing, gpus: float, kind: type, *arguments: Any) -> Actors:
        """As ``options``, which :func:`staffed` has seen, say."""
        return cls(
            kind=kind, arguments=arguments, number=options.actors, most=options.max_actors,
            gpus=gpus,
        )  # fmt: skip

    def make(self) -> Callable[[dict[str, Any]], dict[str, Any]]:
        """What an actor holds, here."""
        model: Callable[[dict[str, Any]], dict[str, Any]] = self.kind(*self.arguments)
        return model

    def at_most(self, count: int) -> Actors:
        """The same, and no more of them than ``count``."""
        most = self.most and min(self.most, count)
        return replace(self, number=min(self.number, count), most=most)

    def strategy(self, calls: int = 1) -> ray.data.ActorPoolStrategy:
        """As Ray Data's strategy, with so many calls at once in each."""
        return ray.data.ActorPoolStrategy(
            min_size=self.number, max_size=self.most or self.number,
            max_tasks_in_flight_per_actor=BLOCKS_AHEAD, max_concurrent_calls_per_actor=calls,
            enable_true_multi_threading=calls > 1,
        )  # fmt: skip


def _nodes() -> list[dict[str, float]]:
    return [node["Resources"] for node in cast(Any, ray).nodes() if node["Alive"]]


def workforce(actors: int, threads: int, gpus: float) -> tuple[int, int]:
    """Actors, and threads of each, where 0 leaves it to us.

    One actor a GPU. Without, one a core and at most ``ACTORS_A_NODE`` a node: arithmetic on two
    threads is slower than two actors with one each (measured: 14.3 and 15.7 images/s).
    """
    nodes = _nodes()
    cores = max(1, int(min(node.get("CPU", 1) for node in nodes)))
    if gpus:
        actors = actors or max(1, int(sum(node.get("GPU", 0) for node in nodes) // gpus))
    else:
        actors = actors or len(nodes) * min(ACTORS_A_NODE, cores)
    return actors, threads or max(1, cores * len(nodes) // actors)


def staffed(options: Options, gpus: float) -> Options:
    """The same, with the number of actors and threads that it leaves to us."""
    most = options.max_actors
    actors, threads = workforce(options.actors, options.threads, gpus)
    chosen: Options = replace(
        cast(Any, options), actors=min(actors, most or actors), threads=threads
    )
    return chosen


def actor_stage(rows: ray.data.Dataset, actors: Actors) -> ray.data.Dataset:
    """Run rows, one a call, through actors that hold a model."""
    return rows.map_batches(
        actors.kind,
        fn_constructor_args=actors.arguments,
        batch_size=1,
        compute=actors.strategy(),
        num_cpus=ACTOR_CPUS,
        num_gpus=actors.gpus,
    )


def whole_stage(
    items: ray.data.Dataset, kind: type, arguments: tuple[Any, ...], actors: Actors
) -> ray.data.Dataset:
    """Run items, one a call, through actors that do all there is to do; two calls at once in each.

    Args:
        items: what is to be done.
        kind: class whose objects do it.
        arguments: of its constructor.
        actors: how many there are, and may be.
    """
    most = actors.most or actors.number
    return items.map_batches(
        kind,
        fn_constructor_args=arguments,
        batch_size=1,
        compute=actors.strategy(calls=2),
        num_cpus=min(1.0, sum(node.get("CPU", 0) for node in _nodes()) / most),
    )


def lacking_gpus(nodes: Sequence[Mapping[str, float]], gpus: float, number: int = 1) -> str:
    """A sentence on what was asked, what is there and what to do; "" where there is room.

    Args:
        nodes: resources of each machine, as Ray names them.
        gpus: that each actor or worker takes, of one machine; 0 takes none.
        number: of them that must run at once.
    """
    of_each = [node.get("GPU", 0) for node in nodes]
    if not gpus:
        return ""
    # Whole GPUs of one machine, or a part of one GPU; 1 / 0.1 is a little less than 10.
    room = sum(int(own / gpus + 1e-6) if gpus > 1 else int(own) * int(1 / gpus + 1e-6)
               for own in of_each)  # fmt: skip
    if room >= number:
        return ""
    asked = f"{gpus:g} to each of {number} workers" if number > 1 else f"{gpus:g} to each"
    there = ", ".join(f"{own:g}" for own in of_each)
    most = f"{len(nodes)} machines with {there}" if len(nodes) > 1 else f"one machine with {there}"
    return f"GPUs are asked for, {asked}, and Ray knows {most}. --ray.gpus-per-actor 0 runs on CPUs"


def require_gpus(
    gpus: float, number: int = 1, *, grows: bool = False, patience: float = GROWS_SECONDS
) -> None:
    """Say that GPUs are asked for that are not there, before a job waits for them for ever.

    Args:
        gpus: that each actor or worker takes.
        number: of them that must run at once.
        grows: whether machines may yet come. Then it is said, once, if they have not come.
        patience: seconds until then.

    Raises:
        UserError: when they are not there and will not come.
    """
    lacking = lacking_gpus(_nodes(), gpus, number) if gpus else ""
    if lacking and not grows:
        raise UserError(lacking)

    def again() -> None:
        if ray.is_initialized() and (still := lacking_gpus(_nodes(), gpus, number)):
            say(f"warning: still waiting. {still}, if no more are to come", error=True)

    if lacking:
        timer = threading.Timer(patience, again)
        timer.daemon = True
        timer.start()


def init(
    address: str | None, *, training: bool = False, quiet: bool = False, gpus: float = 0,
    number: int = 1,
) -> None:  # fmt: skip
    """Join or start Ray, with logs that a person can follow.

    Args:
        address: of a cluster; None starts Ray here, unless RAY_ADDRESS names one.
        training: whether Ray Train will run, which watches its workers through the dashboard. A
            Ray that is started here has none otherwise: it takes seconds to start and a few per
            cent of two cores.
        quiet: whether the workers' lines stay in their logs.
        gpus: that each actor or worker will take.
        number: of them that must run at once.

    Raises:
        UserError: when Ray runs on this machine alone and has too few GPUs; of a cluster that was
            joined and may grow, it is said after ``GROWS_SECONDS``.
    """
    # Ray Train would print every line of a worker twice: as the worker's, and as its own.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    joins = bool(address or os.environ.get("RAY_ADDRESS"))
    if not ray.is_initialized():
        _start(address if joins else "local", training, quiet)
    require_gpus(gpus, number, grows=joins)


def _start(address: str | None, training: bool, quiet: bool) -> None:
    logs: dict[str, Any] = {"log_to_driver": not quiet, "logging_level": logging.WARNING}
    if address != "local":
        ray.init(address=address, **logs)
    else:
        # Not a cluster that somebody else left running on this machine.
        cores = max(2, os.cpu_count() or 1)  # fewer would let a job's stages wait for one another
        ray.init(
            address="local", num_cpus=cores, include_dashboard=training, **logs,
        )  # fmt: skip
