"""The files that make clusters elsewhere: what can be known of them without Kubernetes or AWS."""

import re
import shlex
from importlib.metadata import requires, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from ray.autoscaler._private.kuberay.autoscaling_config import (
    _derive_autoscaling_config_from_ray_cr,
)
from ray.autoscaler._private.util import prepare_config, validate_config

from pipelines import config
from pipelines.dataset.config import EncodeConfig
from pipelines.presets import ENCODE, TRAIN
from pipelines.training.config import TrainConfig

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra" / "cluster"
DOCKERFILE = ROOT / "infra" / "Dockerfile"
FILES = [DOCKERFILE, *sorted(FOLDER.glob("*.yaml"))]
PARSERS = {"encode": (EncodeConfig, ENCODE), "train": (TrainConfig, TRAIN)}


def load(name):
    return yaml.safe_load((FOLDER / name).read_text())


def ray_specs():
    return load("kuberay-cluster.yaml")["spec"], load("kuberay-job.yaml")["spec"]["rayClusterSpec"]


def containers(spec):
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        yield from group["template"]["spec"]["containers"]


def commands(path):
    """Our commands in a file: an entrypoint, or those that its first comment gives."""
    head = re.match(r"(#.*\n)+", path.read_text()).group()
    lines = re.sub(r"\\\n#", " ", head).splitlines()
    lines.append(load(path.name).get("spec", {}).get("entrypoint", ""))
    found = [re.search(r"python (pipelines/(\w+)\.py) (.+)", line) for line in lines]
    return [(m[1], m[2], shlex.split(m[3])) for m in found if m]


def gpus_at_most(node_types):
    return sum(
        kind["max_workers"] * kind["resources"].get("GPU", 0) for kind in node_types.values()
    )


def autoscaling(spec):
    """What Ray's own autoscaler makes of a RayCluster; it checks the result, too."""
    names = {"name": "semflow", "namespace": "default"}
    return _derive_autoscaling_config_from_ray_cr({"metadata": names, "spec": spec})


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_all_name_one_ray_which_the_project_accepts(path):
    accepted = next(r for r in map(Requirement, requires("semflow-ray")) if r.name == "ray")
    text = path.read_text()
    named = set(re.findall(r"(?:ray-|ray:|rayVersion: )(\d+\.\d+\.\d+)", text))
    assert len(named) == 1
    assert named == set(re.findall(r"ray-(\d+\.\d+\.\d+)", DOCKERFILE.read_text()))
    assert accepted.specifier.contains(named.pop())
    assert accepted.specifier.contains(version("ray"))


def test_the_clusters_run_the_image_that_the_dockerfile_says_how_to_build():
    built = re.search(r"-t (\S+)", DOCKERFILE.read_text())[1]
    images = {container["image"] for spec in ray_specs() for container in containers(spec)}
    assert images | {load("aws.yaml")["docker"]["image"]} == {built}


def test_the_image_gets_the_packages_and_nothing_that_is_not_named():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    let_in = {line[1:] for line in lines if line.startswith("!")}
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert let_in == rooms | {"pyproject.toml", "README.md", "LICENSE"}


@pytest.mark.parametrize("path", FILES[1:], ids=lambda path: path.name)
def test_every_command_is_one_that_our_parser_takes(path, capsys):
    assert commands(path)
    for script, job, arguments in commands(path):
        assert (ROOT / script).is_file()
        kind, presets = PARSERS[job]
        cfg = config.parse(kind, None, presets, arguments)
        assert cfg.output.startswith("s3://")  # a node's own disk goes with the node
        assert cfg.ray.gpus_per_actor


def test_workers_and_the_gpus_to_have_are_as_many():
    job = load("kuberay-job.yaml")["spec"]
    aws = load("aws.yaml")
    for path, node_types in (
        (FOLDER / "kuberay-job.yaml", autoscaling(job["rayClusterSpec"])["available_node_types"]),
        (FOLDER / "aws.yaml", prepare_config(aws)["available_node_types"]),
    ):
        cfg = config.parse(TrainConfig, None, TRAIN, commands(path)[0][2])
        assert cfg.workers * cfg.ray.gpus_per_actor == gpus_at_most(node_types)
        assert cfg.min_workers < cfg.workers  # spot: go on with fewer


def test_ray_takes_the_aws_file():
    cluster = load("aws.yaml")
    prepared = prepare_config(cluster)
    validate_config(prepared)
    assert prepared["max_workers"] == prepared["available_node_types"]["gpu"]["max_workers"]
    assert prepared["head_setup_commands"] == prepared["worker_setup_commands"] == []


def test_ray_s_autoscaler_takes_the_kuberay_files():
    cluster, job = ray_specs()
    assert cluster == job  # one is a copy of the other
    kinds = autoscaling(cluster)["available_node_types"]
    assert kinds["headgroup"]["resources"]["CPU"] == 0
    assert kinds["gpu"]["resources"]["GPU"] == 1
    assert kinds["gpu"]["min_workers"] == 0


def test_a_lost_head_is_another_cluster_and_the_last_one_is_removed():
    job = load("kuberay-job.yaml")["spec"]
    assert job["backoffLimit"] > 0
    assert job["submissionMode"] == "K8sJobMode"
    assert job["shutdownAfterJobFinishes"]


def test_no_file_has_a_secret():
    for path in FILES:
        text = path.read_text()
        assert not re.search(r"AKIA[0-9A-Z]{16}|PRIVATE KEY|://[^/\s]+:[^/\s]+@", text), path
        assert not re.search(r"(?i)(secret\w*|token|password)\s*[=:]\s*[\"']?\w{12,}", text), path
    for spec in ray_specs():
        assert spec["authOptions"]["mode"] == "token"
        for container in containers(spec):
            assert container["envFrom"] == [{"secretRef": {"name": "semflow-storage"}}]
            assert "env" not in container
    for kind in load("aws.yaml")["available_node_types"].values():
        assert kind["node_config"]["IamInstanceProfile"]["Name"]
