"""The network that a training starts from."""

import pytest
import torch

from pipelines.engine import build_velocity
from pipelines.trainconfig import TrainConfig
from semflow import SemFlow, load_autoencoder, make_palette, make_velocity
from semflow.precondition import Preconditioning
from semflow.sampler import Defaults


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
