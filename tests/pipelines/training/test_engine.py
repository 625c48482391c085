"""The engines: torch's own, and what stands around DeepSpeed's."""

import subprocess
import sys
from pathlib import Path

import torch

from pipelines.training.config import TrainConfig
from pipelines.training.engine import start_engine
from pipelines.training.zero import build_operators
from semflow import make_velocity


def network():
    torch.manual_seed(0)
    return make_velocity("tiny", 48)


def test_a_build_that_was_killed_does_not_let_later_ones_wait(tmp_path, monkeypatch):
    build_operators()  # in this process it is loaded from here on
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    stale = Path(tmp_path, "deepspeed_shm_comm", "lock")
    stale.parent.mkdir()
    stale.touch()
    build_operators()
    assert not stale.exists()


def test_a_step_is_adamw_s_on_the_mean_of_micro_batches_whatever_their_number():
    """Against torch's own loop: one batch, clipped, with warm-up."""
    batch = torch.randn(4, 48, 8, 8, generator=torch.Generator().manual_seed(0))
    ends = []
    for parts in (1, 2):
        cfg = TrainConfig(batch_size=4, micro_batch_size=4 // parts, lr=1e-3, eps=1e-4,
                          warmup_steps=2)  # fmt: skip
        engine = start_engine(cfg, network(), workers=1)
        for _ in range(3):
            for part in batch.chunk(parts):
                engine.backward(engine(part, torch.zeros(len(part))).square().mean())
            torch.nn.utils.clip_grad_norm_(engine.module.parameters(), 1.0)
            engine.step()
        ends.append(torch.cat([p.detach().flatten() for p in engine.module.parameters()]))
    plain = network()
    optimizer = torch.optim.AdamW(plain.parameters(), 1e-3, eps=1e-4, weight_decay=0.01)
    for step in range(3):
        optimizer.param_groups[0]["lr"] = 1e-3 * min(1, step / 2)
        optimizer.zero_grad()
        plain(batch, torch.zeros(4)).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
    expected = torch.cat([p.detach().flatten() for p in plain.parameters()])
    for end in ends:
        torch.testing.assert_close(end, expected, rtol=0, atol=2e-5)
    assert (expected - torch.cat([p.flatten() for p in network().parameters()])).abs().max() > 1e-3


def test_deepspeed_is_not_even_imported_where_it_would_divide_nothing():
    program = (
        "import sys; import pipelines.training.loop; "
        "assert 'deepspeed' not in sys.modules; assert 'mlflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
