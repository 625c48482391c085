import pytest
import torch

from semflow import FLOWS, Velocity, make_velocity
from semflow.networks.precondition import Preconditioning
from semflow.networks.velocity import doubled

TIMES = torch.tensor([0.0, 0.1, 0.5, 0.8, 1.0])
N = 20_000


@pytest.mark.parametrize("flow", FLOWS)
def test_the_network_is_asked_for_unit_variance_and_given_it(flow):
    """Of independent normal ends: input and target have variance 1, and nothing in common."""
    path = FLOWS[flow]()
    around = path.preconditioning(0.5, 0.8)
    torch.manual_seed(0)
    x_0, x_1 = 0.5 * torch.randn(N, 1, 1, 4), 0.8 * torch.randn(N, 1, 1, 4)
    for t in TIMES:
        sample = path.sample(x_0, x_1, t.expand(N), range(N))
        skip, into, out = around.at(sample.t, path.channels(1))
        given = into * sample.x_t
        wanted = (sample.velocity - skip * sample.x_t) / out
        for part in range(path.channels(1)):
            both = torch.stack((given[:, part].flatten(), wanted[:, part].flatten()))
            torch.testing.assert_close(torch.cov(both), torch.eye(2), atol=0.02, rtol=0)


def test_ends_of_unit_variance_are_the_circle():
    """TrigFlow's (arXiv 2410.11081): at the angle of t, the network's answer is the tangent."""
    skip, into, out = Preconditioning((1.0,), (1.0,)).at(TIMES, 3)
    x_0, x_1 = torch.randn(2, len(TIMES), 3, 2, 2)
    t = TIMES.view(-1, 1, 1, 1)
    angle = torch.atan2(t, 1 - t)
    tangent = angle.cos() * x_1 - angle.sin() * x_0
    torch.testing.assert_close(skip * ((1 - t) * x_0 + t * x_1) + out * tangent, x_1 - x_0)
    torch.testing.assert_close(
        into * ((1 - t) * x_0 + t * x_1), angle.cos() * x_0 + angle.sin() * x_1
    )


def test_a_saved_network_keeps_it(tmp_path):
    torch.manual_seed(0)
    velocity = make_velocity("tiny", 4, Preconditioning((0.5, 1.0), (1.0, 0.7))).eval()
    velocity.save(tmp_path)
    again = Velocity.load(tmp_path).eval()
    x, t = torch.randn(5, 4, 8, 8), TIMES
    with torch.inference_mode():
        assert torch.equal(again(x, t), velocity(x, t))
        velocity.preconditioning = None
        assert not torch.allclose(again(x, t), velocity(x, t))
    assert again.blank().preconditioning == again.preconditioning


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="deviations"):
        Preconditioning((0.0,), (1.0,))
    with pytest.raises(ValueError, match="both ends"):
        Preconditioning((1.0, 1.0), (1.0,))
    with pytest.raises(ValueError, match="one latent"):
        doubled(make_velocity("tiny", 4, Preconditioning((1.0,), (1.0,))))
