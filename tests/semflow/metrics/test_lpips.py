import pytest
import torch
from torch import nn
from torch.nn import functional as F

from semflow.metrics.lpips import LPIPS, architecture, installed_heads, load_lpips
from semflow.metrics.weights import Unavailable
from tests import lpipsjax

BACKBONES = ("alex", "vgg")


def random_states(backbone):
    """A backbone of random weights, and heads that are positive as the published ones are."""
    torch.manual_seed(0)
    plan = architecture(backbone)
    network = nn.Sequential(*plan.layers)
    state = {f"features.{key}": value for key, value in network.state_dict().items()}
    state["classifier.6.bias"] = torch.zeros(1000)  # torchvision's files have a classifier
    heads = {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1) for i, c in enumerate(plan.channels)}
    return state, heads


def pictures(n=3, side=64):
    generator = torch.Generator().manual_seed(2)
    coarse = torch.rand(n, 3, 8, 8, generator=generator)
    return F.interpolate(coarse, size=side, mode="bilinear").clamp(0, 1) * 2 - 1


def theirs(backbone, state, heads, monkeypatch):
    """torchmetrics' LPIPS around the same weights; torchvision is all it takes from elsewhere."""
    module = pytest.importorskip("torchmetrics.functional.image.lpips", exc_type=ImportError)
    features = nn.Sequential(*architecture(backbone).layers)
    features.load_state_dict(
        {k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")}
    )
    monkeypatch.setattr(module, "_get_tv_model_features", lambda net, pretrained: features)
    network = module._LPIPS(net=backbone, pretrained=False, pnet_rand=True)
    network.load_state_dict(heads, strict=False)
    return network


@pytest.mark.parametrize("backbone", BACKBONES)
def test_it_is_torchmetrics_lpips_with_the_same_weights(backbone, monkeypatch):
    state, heads = random_states(backbone)
    x = pictures()
    expected = theirs(backbone, state, heads, monkeypatch)(x[:2], x[1:]).flatten()
    found = LPIPS(backbone, state, heads)(x[:2], x[1:])
    # torchmetrics adds 1e-8 within the root of a norm, the paper's code 1e-10 beside it.
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_with_published_weights_it_is_torchmetrics_lpips(backbone, monkeypatch):
    state, heads = lpipsjax.read(backbone)
    published = installed_heads(backbone)
    if published:
        for key, value in torch.load(published, map_location="cpu", weights_only=True).items():
            assert torch.equal(value, heads[key])
    x = pictures()
    expected = theirs(backbone, state, heads, monkeypatch)(x[:2], x[1:]).flatten()
    found = LPIPS(backbone, state, heads)(x[:2], x[1:])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_published_weights_see_noise_and_blur_as_people_do():
    """More of either is farther; a shift by a pixel is nearer than noise of the same error."""
    lpips = LPIPS("alex", *lpipsjax.read("alex"))
    x = pictures(1)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    little, much = lpips(x, x + 0.05 * noise), lpips(x, x + 0.2 * noise)
    shifted = x.roll(1, 3)
    as_noisy = x + noise * (shifted - x).square().mean().sqrt()
    assert 0 < little < much
    assert lpips(x, shifted) < lpips(x, as_noisy)


def test_an_image_is_nowhere_from_itself_and_pairs_are_those_of_the_batch():
    lpips = LPIPS("alex", *random_states("alex"))
    x = pictures(4)
    assert lpips(x, x).abs().max() == 0
    expected = [lpips(x[i : i + 1], x[j : j + 1]) for i in range(4) for j in range(i + 1, 4)]
    torch.testing.assert_close(lpips.pairwise(x), torch.cat(expected))
    assert len(lpips.pairwise(x[:1])) == 0


def test_heads_of_another_backbone_are_refused():
    state, _ = random_states("alex")
    with pytest.raises(RuntimeError, match="not those of alex"):
        LPIPS("alex", state, random_states("vgg")[1])


def test_missing_weights_say_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(Unavailable, match=r"--metrics.lpips-backbone FILE.*--metrics.download"):
        load_lpips("alex")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_lpips("alex", weights=tmp_path / "gone.pth")
    other = tmp_path / "other.pth"
    torch.save(random_states("alex")[0], other)
    with pytest.raises(ValueError, match="SHA-256"):
        load_lpips("alex", weights=other)
