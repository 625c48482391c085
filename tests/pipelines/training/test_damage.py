"""Checkpoints on storage are what was written, or are named as damaged."""

import json

import pytest
import torch
from safetensors.torch import save_file

from pipelines.training import checkpoint


@pytest.fixture
def folder(tmp_path):
    """Of two workers, as :func:`checkpoint.save` leaves it."""
    (tmp_path / "trainer.json").write_text(json.dumps({"step": 8, "workers": 2}))
    for rank in range(2):
        name = f"state_{rank:05d}.safetensors"
        save_file({"weight/0/a": torch.arange(100.0)}, tmp_path / name)
        names = [name, "trainer.json"] if rank == 0 else [name]
        digests = {name: checkpoint._digest(tmp_path / name) for name in names}
        (tmp_path / f"state_{rank:05d}.json").write_text(json.dumps(digests))
    return tmp_path


def damages(folder, world=2):
    return [checkpoint.damage(folder, rank, world) for rank in range(world)]


def test_whole_ones_are_looked_at_once_by_all_ranks_together(folder):
    assert damages(folder) == [None, None]
    assert damages(folder, 3) == [None, None, None]


@pytest.mark.parametrize("where", [3, 50, -4])  # the header's length, the header, a tensor
@pytest.mark.parametrize("world", [1, 2, 3])
def test_a_flipped_byte_is_found_by_some_rank(folder, where, world):
    file = folder / "state_00001.safetensors"
    data = bytearray(file.read_bytes())
    data[where] ^= 1
    file.write_bytes(data)
    found = [fault for fault in damages(folder, world) if fault]
    assert found == ["state_00001.safetensors has other bytes than were written"]


@pytest.mark.parametrize(
    ("file", "size", "message"),
    [
        ("state_00000.safetensors", 40, "other bytes"),
        ("state_00000.safetensors", None, "is missing"),
        ("state_00001.json", 5, "JSONDecodeError"),
        ("trainer.json", 9, "JSONDecodeError"),
        ("trainer.json", None, "is missing"),
    ],
)
def test_what_was_cut_or_lost_is_named(folder, file, size, message):
    if size is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes((folder / file).read_bytes()[:size])
    assert any(fault and message in fault for fault in damages(folder))


def test_a_step_that_was_changed_is_found(folder):
    (folder / "trainer.json").write_text(json.dumps({"step": 9, "workers": 2}))
    assert damages(folder)[0] == "trainer.json has other bytes than were written"


def test_checkpoints_of_earlier_versions_have_no_digests(folder):
    for rank in range(2):
        (folder / f"state_{rank:05d}.json").unlink()
    assert damages(folder) == [None, None]
    (folder / "state_00001.safetensors").write_bytes(b"\xff" * 100)
    assert [fault is None for fault in damages(folder)] == [True, False]


def test_those_before_it_are_tried_from_the_newest_on(tmp_path):
    from pyarrow.fs import LocalFileSystem
    from ray.train import Checkpoint

    names = [f"checkpoint_{step:08d}" for step in (4, 8, 12, 16)] + ["checkpoint_00000008-after-x"]
    for name in [*names, "samples"]:
        (tmp_path / name).mkdir()
    last = Checkpoint(str(tmp_path / "checkpoint_00000012"), LocalFileSystem())
    assert [one.path.rpartition("_")[2] for one in checkpoint.candidates(last)] == [
        "00000012", "00000008-after-x", "00000008", "00000004",
    ]  # fmt: skip
