"""The wheel: what a user installs who wants the method and none of the cluster."""

import json
import os
import re
import shutil
import subprocess
import sys
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

from semflow import SemFlow
from semflow.card import USE
from semflow.version import VERSION

ROOT = Path(__file__).parents[2]
NOT_OURS = ("ray", "pyarrow", "mlflow", "deepspeed", "fsspec", "s3fs", "tyro", "pydantic")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, since setuptools builds in the tree that it is given."""
    tree, built = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for name in ("semflow", "pipelines", "tune", "infra"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip("wheel", tree, "--no-deps", "--no-build-isolation", "--wheel-dir", built)
    return next(built.glob("*.whl"))


def pip(*arguments):
    command = [sys.executable, "-m", "pip", "--quiet", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True, text=True, cwd="/")


def test_it_asks_for_the_methods_packages_alone(wheel):
    with ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    needed = [Requirement(line) for line in metadata.get_all("Requires-Dist")]
    base = {r.name for r in needed if not r.marker}
    assert base == {"torch", "diffusers", "safetensors", "huggingface-hub", "numpy", "pillow"}
    pipeline = {r.name for r in needed if r.marker and r.marker.evaluate({"extra": "pipeline"})}
    assert {"ray", "deepspeed", "mlflow", "pyarrow", "tyro", "pydantic"} <= pipeline


def test_five_lines_segment_a_photo_with_no_ray_to_import(wheel, model, tmp_path):
    pip("install", "--no-deps", "--target", tmp_path / "site", wheel)
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (90, 120, 3), dtype=np.uint8))
    photo.save(tmp_path / "photo.jpg")
    program = "import json, sys\n"
    program += f"sys.modules |= dict.fromkeys({NOT_OURS})\n"  # importing them fails now
    program += USE.replace("PATH", str(model))
    program += "import semflow\nprint(json.dumps([semflow.__file__, semflow.__version__]))\n"
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
    )  # fmt: skip
    where, version = json.loads(result.stdout.splitlines()[-1])
    assert Path(where).is_relative_to(tmp_path / "site")
    assert version == VERSION
    with Image.open(tmp_path / "mask.png") as mask:
        assert (mask.size, mask.mode) == ((120, 90), "P")
        classes = len(SemFlow.load(model).palette)
        assert set(np.unique(np.array(mask))) <= set(range(classes))


def test_the_documentation_has_these_five_lines():
    assert len([line for line in USE.splitlines() if line]) == 5
    for name in ("README.md", "docs/tutorials/python.md"):
        found = re.search(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)
        assert found.group(1) == USE.replace("PATH", "out/demo/run/model")
