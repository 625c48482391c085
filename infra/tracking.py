"""MLflow: one run a job, continued when the job is resumed, and never in the way of the work.

The server is ``MLFLOW_TRACKING_URI``; without one, a SQLite file ``mlflow.db`` in the working
directory. While MLflow is away the job goes on: metrics are kept and sent later, and what could
not be sent is said at the end.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from infra import storage
from infra.console import say

EXPERIMENT = "semflow"
RECORD = "_progress/mlflow.json"
QUIET_SECONDS = 30.0
"""After a failure MLflow is left alone for so long: a server that is away must not cost a time-out
at every step."""


@dataclass(frozen=True)
class Handle:
    """Names a run to another process; a worker opens it with :class:`Run`."""

    uri: str
    run_id: str


class Run:
    """A run that takes what it is given when it can."""

    def __init__(self, handle: Handle | None, job: str) -> None:
        """Attach to a run. No handle means that MLflow was away: all is lost, and said."""
        self.handle, self.job = handle, job
        self._waiting: list[tuple[str, float, int, int]] = []  # key, value, timestamp, step
        self._quiet_until = 0.0
        self._lost: dict[str, int] = {} if handle else {"the whole run": 1}

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Numbers at a step; NaN is left out. Kept and sent later while MLflow is away."""
        now = int(time.time() * 1000)
        self._waiting += [(k, float(v), now, step) for k, v in values.items() if v == v]
        self.flush()

    def flush(self) -> None:
        """Send what waits."""
        from mlflow.entities import Metric

        while self._waiting:
            batch = self._waiting[:1000]  # MLflow's own limit for one call
            entities = [Metric(*metric) for metric in batch]
            if not self._call("metrics", partial(_log_metrics, metrics=entities), keep=True):
                return
            self._waiting = self._waiting[len(batch) :]

    def params(self, values: Mapping[str, Any]) -> None:
        """Parameters. MLflow keeps first values: one that a resumed job changed becomes a tag."""
        from mlflow.entities import Param, RunTag

        def send(client: Any, run_id: str) -> None:
            before = client.get_run(run_id).data.params
            texts = {key: str(value)[:6000] for key, value in values.items()}
            new = [Param(k, v) for k, v in texts.items() if k not in before]
            changed = [RunTag(f"resumed.{k}", v) for k, v in texts.items()
                       if k in before and before[k] != v]  # fmt: skip
            for i in range(0, len(new), 100):
                client.log_batch(run_id, params=new[i : i + 100])
            client.log_batch(run_id, tags=changed)

        self._call("parameters", send)

    def dataset(self, uri: str, fingerprint: str) -> None:
        """The dataset that went in, by its fingerprint."""
        import json

        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = json.dumps({"uri": uri})
        entity = Dataset(
            "latents", fingerprint[:36], "local" if "://" not in uri else "uri", source
        )
        tag = InputTag("mlflow.data.context", "training")
        self._call("the dataset", lambda c, r: c.log_inputs(r, [DatasetInput(entity, [tag])]))

    def picture(self, name: str, png: bytes) -> None:
        """A PNG, as an artifact ``name.png``."""
        self._artifact(f"{name}.png", png)

    def artifact_json(self, name: str, data: Any) -> None:
        self._call(name, lambda c, r: c.log_dict(r, data, name))

    def model(self, folder: str | Path, register_as: str | None, **how: Any) -> None:
        """A model's folder as an MLflow model, registered if a name is given.

        ``how`` is for ``mlflow.pyfunc.log_model``; the folder is its artifact 'semflow'.
        """

        def send(client: Any, run_id: str) -> None:
            import mlflow

            assert self.handle is not None
            mlflow.set_tracking_uri(self.handle.uri)
            with mlflow.start_run(run_id):
                mlflow.pyfunc.log_model(
                    name="model", artifacts={"semflow": str(folder)},
                    registered_model_name=register_as, **how,
                )  # fmt: skip
            client.set_terminated(run_id, "RUNNING")  # it ends when the job does

        self._call("the model", send)

    @contextmanager
    def system_metrics(self, node: int) -> Iterator[None]:
        """Measure this machine (processors, memory, disk, network, GPUs) for as long as it runs."""
        monitor: list[Any] = []

        def start(client: Any, run_id: str) -> None:
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            assert self.handle is not None
            monitor.append(
                cast(Any, SystemMetricsMonitor)(
                    run_id, resume_logging=True, node_id=f"node_{node}",
                    tracking_uri=self.handle.uri,
                )
            )  # fmt: skip
            monitor[0].start()

        self._call("system metrics", start)
        try:
            yield
        finally:
            for one in monitor:
                one.finish()

    def file(self, name: str, data: bytes) -> None:
        """Bytes as an artifact."""
        self._artifact(name, data)

    def child(self, name: str) -> Run:
        """The run of a trial below this one, started or, where there is one, continued."""
        found: list[Handle] = []

        def send(client: Any, run_id: str) -> None:
            assert self.handle is not None
            experiment = client.get_run(run_id).info.experiment_id
            mine = f"tags.`mlflow.parentRunId` = '{run_id}' and tags.trial = '{name}'"
            before = client.search_runs([experiment], mine, max_results=1)
            tags = {"mlflow.parentRunId": run_id, "trial": name, "job": self.job}
            run = before[0] if before else client.create_run(experiment, run_name=name, tags=tags)
            found.append(Handle(self.handle.uri, run.info.run_id))

        self._call(f"the trial {name}", send)
        return Run(found[0] if found else None, f"{self.job}, trial {name}")

    def tag(self, name: str, value: str) -> None:
        self._call(f"the tag {name}", lambda c, r: c.set_tag(r, name, value[:5000]))

    def end(self, status: str) -> None:
        """Close with FINISHED, FAILED or KILLED, and say what could not be sent."""
        self._quiet_until = 0.0
        self.flush()
        self._call("the end of the run", lambda c, r: c.set_terminated(r, status))
        if self._waiting:
            self._lost["metrics"] = len(self._waiting)
        if self._lost:
            what = ", ".join(f"{name} ({count}x)" for name, count in self._lost.items())
            say(f"warning: MLflow never got, of this {self.job}: {what}", error=True)

    def _artifact(self, name: str, data: bytes) -> None:
        folder, _, file = name.rpartition("/")
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / file
            path.write_bytes(data)
            self._call(name, lambda c, r: c.log_artifact(r, str(path), folder or None))

    def _call(self, what: str, send: Callable[[Any, str], Any], keep: bool = False) -> bool:
        """Send something; False if it did not arrive."""
        if self.handle is None or time.monotonic() < self._quiet_until:
            sent = False
        else:
            try:
                send(_client(self.handle.uri), self.handle.run_id)
                sent = True
            except Exception as error:  # MLflow being away must never stop the work
                say(f"warning: MLflow did not take {what}: {_brief(error)}", error=True)
                self._quiet_until = time.monotonic() + QUIET_SECONDS
                sent = False
        if not sent and not keep:
            self._lost[what] = self._lost.get(what, 0) + 1
        return sent


@contextmanager
def run(
    job: str, output: str, params: Mapping[str, Any], parent: str | None = None
) -> Iterator[Run]:
    """The run of a job, started or, where ``output`` remembers one, continued.

    ``parent`` is the id of a run that this one is shown below.
    """
    opened = Run(_open(job, output, parent), job)
    opened.params(params)
    try:
        yield opened
    except BaseException as error:
        opened.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    opened.end("FINISHED")


def tracking_uri() -> str:
    """Where MLflow is: the environment's, or a SQLite file here."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{os.getcwd()}/mlflow.db"


def _log_metrics(client: Any, run_id: str, metrics: list[Any]) -> None:
    client.log_batch(run_id, metrics=metrics)


def _client(uri: str) -> Any:
    # MLflow's own defaults wait minutes for a server that is not there.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def remembered(output: str) -> str | None:
    """The id of the run that a job's output remembers, if it is at this MLflow."""
    record = storage.join(output, RECORD)
    before = storage.read_json(record) if storage.exists(record) else {}
    return before["run_id"] if before.get("uri") == _safe(tracking_uri()) else None


def _open(job: str, output: str, parent: str | None) -> Handle | None:
    uri, record = tracking_uri(), storage.join(output, RECORD)
    try:
        client = _client(uri)
        if before := remembered(output):
            client.set_terminated(before, "RUNNING")
            return Handle(uri, before)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            local = f"{os.getcwd()}/mlartifacts" if uri.startswith("sqlite:") else None
            experiment_id = client.create_experiment(EXPERIMENT, artifact_location=local)
        else:
            experiment_id = experiment.experiment_id
        name = f"{job} {output.rstrip('/').rpartition('/')[2]}"
        tags = {"job": job} | ({"mlflow.parentRunId": parent} if parent else {})
        started = client.create_run(experiment_id, run_name=name, tags=tags)
        storage.write_json(record, {"uri": _safe(uri), "run_id": started.info.run_id})
        return Handle(uri, started.info.run_id)
    except Exception as error:  # as above
        say(f"warning: MLflow at {_safe(uri)} is away: {_brief(error)}", error=True)
        return None


def _safe(text: str) -> str:
    """A text without the credentials of the URIs in it."""
    return re.sub(r"//[^/@\s]+@", "//", text)


def _brief(error: Exception) -> str:
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {_safe(lines[0])[:200]}"
