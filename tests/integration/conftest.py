"""One Ray for all tests here, and the products that several of them start from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipelines.corpora import Corpus
from pipelines.dataset.config import EncodeConfig
from tests.faults import FaultyProxy
from tests.pictures import CLASSES, PALETTE, write_good


def encode_config(root: Path, output: Path, **options: object) -> EncodeConfig:
    defaults: dict[str, object] = {
        "corpus": Corpus(root=str(root), classes=CLASSES, ignore_ids=(255,)),
        "output": str(output),
        "height": 32,
        "width": 48,
        "palette": "sphere",
        "draws": 3,
        "views": 2,
        "shard_rows": 8,
        "row_group_rows": 4,
        "batch_size": 4,
        "actors": 1,
    }
    return EncodeConfig(**defaults | options)


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    """A real S3 server; its environment is set before Ray starts, so that workers have it."""
    from infra.services.s3 import S3Server

    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def proxy(s3):
    """What the tests' clients talk to: it can be told to fail some of their requests."""
    between = FaultyProxy(s3.s3)
    environment = s3.environment | {"AWS_ENDPOINT_URL": between.url}
    os.environ |= environment
    yield between
    between.stop()
    for name in environment:
        os.environ.pop(name)


@pytest.fixture(scope="session")
def ray_session(tmp_path_factory, proxy):
    import ray

    from pipelines.serving import front
    from pipelines.sharding import raydata

    front.use()
    home = tmp_path_factory.mktemp("home")
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{home}/mlflow.db"
    os.environ["RAY_TRAIN_ENABLE_PRINT_PATCH"] = "0"
    os.environ["MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL"] = "1"
    before = os.getcwd()
    os.chdir(home)
    ray.init(num_cpus=4, num_gpus=1, include_dashboard=False, log_to_driver=False)
    raydata.init(None)
    yield home
    ray.shutdown()
    os.chdir(before)
    os.environ.pop("MLFLOW_TRACKING_URI")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("corpus")
    write_good(root, "train", 18)
    write_good(root, "val", 6, start=100)
    return root


@pytest.fixture(scope="session")
def latents(ray_session, corpus, tmp_path_factory) -> Path:
    from pipelines.encode import encode

    output = tmp_path_factory.mktemp("latents") / "data"
    encode(encode_config(corpus, output))
    return output


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """A small model with random weights: products need a model, not a good one."""
    import torch

    from semflow import SemFlow, Solver, load_autoencoder, make_velocity
    from semflow.masks.classmap import ClassMap
    from semflow.sampler import Defaults

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    defaults = Defaults(
        height=32, width=48, segment=Solver(steps=1), synthesize=Solver(steps=2),
        class_map=ClassMap(classes=3, ignore_ids=(9, 255)),
    )  # fmt: skip
    SemFlow(
        make_velocity("tiny", 48), load_autoencoder("space-to-depth"), PALETTE, defaults,
    ).save(folder)  # fmt: skip
    return folder
