"""The network that a training begins with."""

import pytest
import torch

from pipelines.training.config import TrainConfig
from pipelines.training.initial import build_velocity
from semflow import SemFlow
from semflow.networks.precondition import Preconditioning


def test_another_flow_takes_a_networks_weights_for_both_halves_of_its_states(model):
    velocity = build_velocity(TrainConfig(flow="symmflow", init=str(model)), 96)
    own = SemFlow.load(model).velocity.unet.state_dict()["conv_in.weight"]
    weight = velocity.unet.state_dict()["conv_in.weight"]
    assert torch.equal(weight, torch.cat((own, own), 1) / 2)
    assert velocity.preconditioning is None
    with pytest.raises(ValueError, match="takes 48 channels"):
        build_velocity(TrainConfig(init=str(model)), 4)


def test_preconditioning_is_for_new_networks():
    assert TrainConfig(flow="symmflow").preconditioned
    assert not TrainConfig().preconditioned
    assert not TrainConfig(flow="symmflow", precondition=False).preconditioned
    with pytest.raises(ValueError, match="--precondition is for a new network"):
        TrainConfig(precondition=True, init="somewhere")
    around = Preconditioning((0.5,), (0.6,))
    assert build_velocity(TrainConfig(velocity="tiny"), 4, around).preconditioning == around
