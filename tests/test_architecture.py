"""Arrows point one way, rooms stay small, and the method stands alone."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import architecture

ROOT = Path(__file__).parents[1]
TOPS = ("semflow", "infra", "pipelines", "tune")


@pytest.fixture(scope="module")
def arrows():
    return architecture.graph(ROOT, TOPS)


def test_no_two_files_import_each_other(arrows):
    assert architecture.circle(arrows) == []


def test_imports_go_down_or_stay_in_their_room(arrows):
    assert architecture.running_up(arrows, architecture.FLOORS) == []


def test_no_folder_is_wide():
    assert architecture.wide(ROOT, TOPS) == []


@pytest.fixture
def small(tmp_path):
    """A tree of two rooms: ``top`` may import ``low``."""

    def write(**files):
        for name, text in files.items():
            path = tmp_path / f"house/{name.replace('_', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return architecture.graph(tmp_path, ["house"])

    return write


FLOORS = (("house.low",), ("house.top",), ("house",))


def test_an_arrow_that_runs_up_is_found(small):
    fine = small(low_a="import math", top_b="from house.low import a")
    assert architecture.running_up(fine, FLOORS) == []
    wrong = small(low_a="def later():\n    from house.top.b import x", top_b="")
    assert architecture.running_up(wrong, FLOORS) == ["house.low.a -> house.top.b"]
    with pytest.raises(AssertionError, match="no room"):
        architecture.running_up(small(attic_c=""), FLOORS[:2])


@pytest.mark.parametrize(
    "hidden",
    ["from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.low.a import x",
     "def later():\n    import house.low.a"],
)  # fmt: skip
def test_a_circle_is_found_wherever_it_hides(small, hidden):
    assert architecture.circle(small(low_a="from house.low import b", low_b="")) == []
    found = architecture.circle(small(low_a="from house.low import b", low_b=hidden))
    assert found == ["house.low.a", "house.low.b", "house.low.a"]


def test_a_folder_that_grew_is_found(small, tmp_path):
    small(**{f"low_m{n}": "" for n in range(architecture.WIDTH)})
    assert architecture.wide(tmp_path, ["house"]) == []
    (tmp_path / "house/low/one_more.html").touch()
    assert architecture.wide(tmp_path, ["house"]) == [f"{tmp_path}/house/low: 15 files"]


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


def test_ray_s_private_parts_are_used_in_one_file_only():
    private = re.compile(
        r"(?<![\"'])\bray(?:\.\w+)*\._\w|map_batches_internal|_system_config|context\._\w"
    )
    users = {
        str(path.relative_to(ROOT))
        for top in TOPS
        for path in (ROOT / top).rglob("*.py")
        if private.search(path.read_text())
    }
    assert users == {"pipelines/sharding/doors.py"}
