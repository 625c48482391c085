"""What stands around DeepSpeed's engine, and the network that it starts from."""

from pathlib import Path

import pytest
import torch

from pipelines.engine import build_operators, build_velocity
from pipelines.trainconfig import TrainConfig
from semflow import SemFlow, load_autoencoder, make_palette, make_velocity
from semflow.precondition import Preconditioning
from semflow.sampler import Defaults


def test_a_build_that_was_killed_does_not_let_later_ones_wait(tmp_path, monkeypatch):
    build_operators()  # in this process it is loaded from here on
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    stale = Path(tmp_path, "deepspeed_shm_comm", "lock")
    stale.parent.mkdir()
    stale.touch()
    build_operators()
    assert not stale.exists()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    where = tmp_path_factory.mktemp("model")
    SemFlow(
        make_velocity("tiny", 48), load_autoencoder("space-to-depth"),
        make_palette("sphere", ("a", "b")), Defaults(height=32, width=32),
    ).save(where)  # fmt: skip
    return str(where)


def test_another_flow_takes_a_networks_weights_for_both_halves_of_its_states(folder):
    velocity = build_velocity(TrainConfig(flow="symmflow", init=folder), 96)
    own = SemFlow.load(folder).velocity.unet.state_dict()["conv_in.weight"]
    weight = velocity.unet.state_dict()["conv_in.weight"]
    assert torch.equal(weight, torch.cat((own, own), 1) / 2)
    assert velocity.preconditioning is None
    with pytest.raises(ValueError, match="takes 48 channels"):
        build_velocity(TrainConfig(init=folder), 4)


def test_preconditioning_is_for_new_networks():
    assert TrainConfig(flow="symmflow").preconditioned
    assert not TrainConfig().preconditioned
    assert not TrainConfig(flow="symmflow", precondition=False).preconditioned
    with pytest.raises(ValueError, match="--precondition is for a new network"):
        TrainConfig(precondition=True, init="somewhere")
    around = Preconditioning((0.5,), (0.6,))
    assert build_velocity(TrainConfig(velocity="tiny"), 4, around).preconditioning == around
