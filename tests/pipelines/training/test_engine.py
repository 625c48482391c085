"""What stands around DeepSpeed's engine."""

from pathlib import Path

from pipelines.training.engine import build_operators


def test_a_build_that_was_killed_does_not_let_later_ones_wait(tmp_path, monkeypatch):
    build_operators()  # in this process it is loaded from here on
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    stale = Path(tmp_path, "deepspeed_shm_comm", "lock")
    stale.parent.mkdir()
    stale.touch()
    build_operators()
    assert not stale.exists()
