"""Serve a trained model over HTTP: photos to masks and masks to images, and a page to try both.

    python pipelines/serve.py --model out/run/model

answers at http://127.0.0.1:8000 until it is stopped: POST /segment, POST /synthesize, GET /model,
GET /health, and the page at /. Requests that come together are computed together. On a cluster,
Serve's own command deploys the same:

    serve run pipelines.serve:app model=s3://bucket/run/model replicas=2 ray.gpus_per_actor=1
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.config import HTTPOptions

from pipelines import config
from pipelines.config import UserError
from pipelines.inference.settings import read_defaults, read_model_index
from pipelines.serving import config as serveconfig
from pipelines.serving import front, service
from pipelines.serving.config import ServeConfig, ServiceConfig
from pipelines.sharding import raydata
from semflow import Palette

NAME = "semflow"
SPARE_REQUESTS = 16
"""That Serve hands to a full replica, so that it can say so itself, and answer /health."""

HEALTH_S = 15.0
"""How often a replica is asked how it is, and how long it may take to say so: Serve starts it again
after three times of silence."""


def build(cfg: ServiceConfig) -> Application:
    """The application, not yet running.

    Raises:
        ValueError: when there is no model, or what is chosen does not fit it.
    """
    index = read_model_index(cfg.model)
    defaults = read_defaults(index, cfg.settings)
    cfg.segment.over(defaults.segment)
    cfg.synthesize.over(defaults.synthesize)
    palette = Palette.from_json(index["palette"])
    cfg.perturbation.over(defaults.perturbation).check(palette)
    serveconfig.service_reader(cfg, palette, defaults)
    sized = service.deployment.options(
        num_replicas=cfg.replicas,
        ray_actor_options={"num_cpus": 1, "num_gpus": cfg.ray.gpus_per_actor},
        max_ongoing_requests=cfg.max_requests + SPARE_REQUESTS,
        max_queued_requests=cfg.max_requests,
        logging_config={"enable_access_log": cfg.access_log},
        health_check_period_s=HEALTH_S,
        health_check_timeout_s=HEALTH_S,
    )
    return sized.bind(cfg)


def app(args: dict[str, Any]) -> Application:
    """For `serve run pipelines.serve:app KEY=VALUE ...` and Serve's config files.

    Keys are those of :class:`ServiceConfig`; where to listen and which cluster are Serve's affair.
    """
    cfg = serveconfig.of_arguments(args)
    return build(config.absolute_paths(cfg, "model", "settings"))


def start(application: Application, cfg: ServeConfig) -> str:
    """Run an application in the Ray that is there; returns its address."""
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(
        http_options=HTTPOptions(host=cfg.host, port=cfg.port),
        logging_config={"log_level": "WARNING"},
    )
    serve.run(application, name=NAME, route_prefix="/")
    return f"http://{cfg.host}:{cfg.port}"


def check_port(host: str, port: int) -> None:
    """Say that a port is taken before Serve's proxy fails at it.

    Raises:
        UserError: when it is.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(
                f"cannot listen at {host}:{port} ({error}): give another --port"
            ) from error


def main() -> None:
    cfg = config.parse(ServeConfig, __doc__)
    cfg = config.absolute_paths(cfg, "model", "settings")
    check_port(cfg.host, cfg.port)
    application, stopped = build(cfg), threading.Event()
    front.use()
    raydata.init(cfg.ray.address, gpus=cfg.ray.gpus_per_actor, number=cfg.replicas)
    where = start(application, cfg)
    print(f"{cfg.model} is served at {where} (stop it with Ctrl-C)", flush=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    stopped.wait()
    if cfg.ray.address or os.environ.get("RAY_ADDRESS"):
        serve.delete(NAME)  # a Ray that was started here ends with this process


if __name__ == "__main__":
    config.exit_on_error(main)
