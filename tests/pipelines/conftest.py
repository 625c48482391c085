import pytest
import torch

from semflow import SemFlow, load_autoencoder, make_palette, make_velocity
from semflow.sampler import Defaults


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """The folder of a small model with random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    SemFlow(
        make_velocity("tiny", 48), load_autoencoder("space-to-depth"),
        make_palette("sphere", ["sky", "road", "tree"]), Defaults(height=32, width=48),
    ).save(folder)  # fmt: skip
    return folder
