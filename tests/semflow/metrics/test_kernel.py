import numpy as np
import pytest
import torch

from semflow.metrics.kernel import kernel_distance
from tests.standins import Shades


def features(n, seed, shift=0.0, dims=6):
    return torch.randn(n, dims, generator=torch.Generator().manual_seed(seed)) + shift


@pytest.mark.filterwarnings("ignore:Metric `Kernel")  # that it keeps the features
def test_it_is_torchmetrics_kernel_inception_distance_of_the_same_network():
    kid = pytest.importorskip("torchmetrics.image.kid", exc_type=ImportError)
    generator = torch.Generator().manual_seed(1)
    real = torch.randint(0, 256, (40, 3, 16, 16), generator=generator, dtype=torch.uint8)
    made = real // 2 + 20
    network = Shades()
    # Whole sets as subsets: nothing is left to chance.
    theirs = kid.KernelInceptionDistance(feature=network, subsets=2, subset_size=40)
    theirs.update(real, real=True)
    theirs.update(made, real=False)
    ours = kernel_distance(network(made), network(real), subsets=2)
    assert ours.subset_size == 40
    assert ours.mean == pytest.approx(float(theirs.compute()[0]), rel=1e-4)
    assert ours.std == pytest.approx(0, abs=1e-9)


def test_subsets_are_those_of_torch_fidelity():
    """Its loop, written down again: its package does not import everywhere."""
    one, other = features(80, 0).numpy(), features(70, 1, 0.3).numpy()
    rng, found = np.random.RandomState(2020), []
    for _ in range(5):
        x = one[rng.choice(80, 30, replace=False)].astype(np.float64)
        y = other[rng.choice(70, 30, replace=False)].astype(np.float64)
        xx, yy, xy = ((a @ b.T / 6 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
        within = sum(k[~np.eye(30, dtype=bool)].sum() / (30 * 29) for k in (xx, yy))
        found.append(within - 2 * xy.mean())
    ours = kernel_distance(torch.from_numpy(one), torch.from_numpy(other), subsets=5,
                           subset_size=30)  # fmt: skip
    assert ours.mean == pytest.approx(np.mean(found), rel=1e-9)
    assert ours.std == pytest.approx(np.std(found), rel=1e-9)


def test_it_is_unbiased_and_tells_sets_apart():
    same = [kernel_distance(features(50, s), features(50, 1000 + s), subsets=1).mean
            for s in range(60)]  # fmt: skip
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(len(same))
    assert min(same) < 0 < max(same)
    apart = kernel_distance(features(50, 0), features(50, 1, 1.0), subsets=1).mean
    assert apart > 10 * np.std(same)


def test_sets_too_small_are_refused():
    with pytest.raises(ValueError, match="two images"):
        kernel_distance(features(1, 0), features(9, 1))
