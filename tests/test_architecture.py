"""Arrows point one way, and the method stands alone."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "semflow": set(),
    "infra": set(),
    "pipelines": {"semflow", "infra"},
    "tune": {"semflow", "infra", "pipelines"},
}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module.split(".")[0]


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_rooms_import_only_what_stands_below_them(room):
    for path in (ROOT / room).rglob("*.py"):
        ours = set(imported(path)) & MAY_IMPORT.keys() - {room}
        assert ours <= MAY_IMPORT[room], f"{path.relative_to(ROOT)} imports {ours}"


def test_the_method_runs_without_ray_mlflow_pyarrow_or_deepspeed():
    program = """
import sys
for name in ("ray", "mlflow", "pyarrow", "deepspeed", "s3fs", "pipelines", "infra"):
    sys.modules[name] = None  # importing it now fails, as if it were not installed
import torch
from semflow import *
from semflow.sampler import Defaults
import semflow.networks.taef2
model = SemFlow(make_velocity("tiny", 48), load_autoencoder("space-to-depth"),
                make_palette("spread", 3), Defaults(height=32, width=32, segment=Solver(steps=1)))
print(tuple(model.segment(torch.zeros(1, 3, 32, 32)).ids.shape))
"""
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.split("\n")[0] == "(1, 32, 32)"
