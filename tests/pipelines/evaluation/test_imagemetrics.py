import numpy as np
import pytest
import torch

from pipelines.evaluation.imagemetrics import Collected, Judge, Networks, find_networks, summarize
from pipelines.evaluation.metricoptions import MetricOptions
from semflow.metrics.frechet import Gaussian, frechet_distance
from semflow.metrics.kernel import kernel_distance
from semflow.metrics.lpips import LPIPS
from tests.semflow.metrics.test_lpips import random_states
from tests.standins import Shades

CPU = torch.device("cpu")


def images(n, seed, side=64):
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def collect(judge, made, real, order):
    """As a driver does, of parts of 4 images that come in some order."""
    collected = Collected()
    for number in order:
        part = slice(4 * number, 4 * number + 4)
        row = judge.look(made[part], "made") | judge.look(real[part], "real") | {"images": 4}
        collected.take(number, row)
        assert list(row) == ["images"]
    return collected


def test_parts_in_any_order_give_the_scores_of_the_whole():
    options, network = MetricOptions(), Shades()
    networks = Networks({"inception": network, "shades": network})
    judge = Judge(networks, options, CPU)
    made, real = images(12, 0), images(12, 1) * 0.8
    found = [
        summarize(collect(judge, made, real, order), {"images": 12}, networks, options)["values"]
        for order in ((0, 1, 2), (2, 0, 1))
    ]
    assert found[0] == found[1]
    one, other = (network(((x + 1) * 127.5).round().byte()) for x in (made, real))
    assert found[0]["frechet_shades"] == pytest.approx(frechet_distance(one, other), rel=1e-6)
    fid = Gaussian.of(one).distance(Gaussian.of(other), unbiased=True)
    assert found[0]["fid"] == pytest.approx(fid, rel=1e-6)
    assert found[0]["kid"] == kernel_distance(one, other).mean


def test_few_images_are_said():
    options = MetricOptions(compute=("fid", "kid"))
    networks = Networks({"inception": Shades()})
    judge = Judge(networks, options, CPU)
    few = summarize(
        collect(judge, images(8, 0), images(8, 1), (0, 1)), {"images": 8}, networks, options
    )
    assert "of 8 images, fewer than its 2048" in few["notes"]["fid"]
    assert few["notes"]["kid"] == "subsets of 8 images, not of 1000"
    one = summarize(
        collect(judge, images(1, 0), images(1, 1), (0,)), {"images": 1}, networks, options
    )
    assert not one["values"]
    assert one["unavailable"].keys() == {"fid", "kid"}


def test_what_is_not_here_is_unavailable_with_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    networks = find_networks(MetricOptions())
    assert networks.features.keys() == {"pyramid"}
    assert networks.unavailable.keys() == {"fid", "kid", "lpips_photo", "lpips_diversity"}
    assert all("--metrics.download" in reason for reason in networks.unavailable.values())
    few = find_networks(MetricOptions(compute=("frechet-pyramid",)))
    assert not few.unavailable
    with pytest.raises(FileNotFoundError, match=r"--metrics.inception"):
        find_networks(MetricOptions(inception=str(tmp_path / "gone.pth")))


def test_diversity_is_the_mean_over_pairs_and_lpips_over_images():
    options = MetricOptions(compute=("lpips", "diversity"))
    networks = Networks(lpips=LPIPS("alex", *random_states("alex")))
    judge = Judge(networks, options, CPU)
    of_a_mask, photos = images(4, 2), images(4, 3)
    sums = judge.spread(of_a_mask) | judge.compare(of_a_mask, photos) | {"images": 4}
    assert judge.no_spread().keys() == judge.spread(of_a_mask).keys()
    values = summarize(Collected(), sums, networks, options)["values"]
    pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    rms = [float((of_a_mask[i] - of_a_mask[j]).square().mean().sqrt()) for i, j in pairs]
    assert values["pixel_diversity"] == pytest.approx(np.mean(rms), rel=1e-5)
    far = [float(networks.lpips(of_a_mask[i : i + 1], of_a_mask[j : j + 1])) for i, j in pairs]
    assert values["lpips_diversity"] == pytest.approx(np.mean(far), rel=1e-4)
    expected = float(networks.lpips(of_a_mask, photos).mean())
    assert values["lpips_photo"] == pytest.approx(expected, rel=1e-5)
    alike = judge.spread(of_a_mask[:1].expand(3, -1, -1, -1))
    assert alike["pixel_diversity"] == 0
    # Convolutions of one picture at two places of a batch differ in their last bits.
    assert alike["lpips_diversity"] == pytest.approx(0, abs=1e-9)


def test_one_image_a_mask_has_no_diversity():
    options = MetricOptions(compute=("diversity",))
    judge = Judge(Networks(), options, CPU)
    found = summarize(Collected(), judge.spread(images(1, 0)), Networks(), options)
    assert "--samples" in found["unavailable"]["pixel_diversity"]
