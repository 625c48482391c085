"""Velocity, EMA, objective, metrics: the smaller pieces."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from semflow import (
    EMA,
    IGNORE,
    ConfusionMatrix,
    Objective,
    RectifiedFlow,
    Velocity,
    load_autoencoder,
    make_palette,
    make_velocity,
)
from semflow.codecs.anchors import Anchors


@pytest.mark.parametrize("preset", ["tiny", "small"])
def test_a_velocity_has_the_latents_shape_and_looks_at_the_time(preset):
    velocity, x = make_velocity(preset, 12).eval(), torch.randn(2, 12, 16, 24)
    with torch.inference_mode():
        early, late = (velocity(x, torch.full((2,), t)) for t in (0.1, 0.9))
    assert early.shape == x.shape
    assert not torch.allclose(early, late)


def test_the_unet_is_fed_a_thousand_t_in_float32():
    seen = []

    class Unet(nn.Module):
        def __init__(self):
            super().__init__()
            self.config = {"in_channels": 3}
            self.weight = nn.Parameter(torch.zeros(1, dtype=torch.bfloat16))

        def forward(self, x, time, return_dict):
            seen.append((x.dtype, time))
            return (x,)

    t = torch.tensor([0.1234567, 0.9999])
    Velocity(Unet())(torch.zeros(2, 3, 4, 4), t)
    assert seen[0][0] == torch.bfloat16
    assert torch.equal(seen[0][1], 1000 * t)


def test_sd15_is_stable_diffusions_own_configuration():
    with torch.device("meta"):  # 860 million parameters that nobody needs
        velocity = make_velocity("sd15", 4)
    assert sum(p.numel() for p in velocity.parameters()) == 859_520_964  # as published
    assert velocity.null_prompt.shape == (1, 77, 768)


def test_a_conditional_velocity_is_fed_the_null_prompt_and_survives_saving(tmp_path):
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel(
        in_channels=4, out_channels=4, block_out_channels=(8, 16), norm_num_groups=4,
        layers_per_block=1, cross_attention_dim=8, attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    with pytest.raises(ValueError, match="null prompt"):
        Velocity(unet)
    prompt, x, t = torch.randn(1, 5, 8), torch.randn(2, 4, 8, 8), torch.rand(2)
    velocity = Velocity(unet, prompt).eval()
    velocity.save(tmp_path)
    again = Velocity.load(tmp_path).eval()
    with torch.inference_mode():
        assert torch.equal(velocity(x, t), again(x, t))
        expected = unet(x, 1000 * t, prompt.expand(2, -1, -1)).sample
        assert torch.equal(velocity(x, t), expected)


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="tiny, small"):
        make_velocity("huge", 4)


def test_the_average_is_its_recursion():
    model = nn.Linear(3, 2)
    ema = EMA(model.parameters(), decay=0.5)
    expected = [p.detach().clone() for p in model.parameters()]
    for n in range(1, 8):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p))
        ema.update()
        decay = min(0.5, (1 + n) / (10 + n))
        expected = [
            decay * a + (1 - decay) * p.detach()
            for a, p in zip(expected, model.parameters(), strict=True)
        ]
    other = nn.Linear(3, 2)
    ema.copy_to(other.parameters())
    for a, p in zip(expected, other.parameters(), strict=True):
        torch.testing.assert_close(a, p.detach())


def test_an_average_goes_on_from_its_state():
    model = nn.Linear(3, 2)
    one = EMA(model.parameters(), 0.9)
    one.update()
    other = EMA(copy.deepcopy(model).parameters(), 0.9)
    other.load_state_dict(one.state_dict())
    assert other.updates == 1
    assert all(torch.equal(a, b) for a, b in zip(one.average, other.average, strict=True))


def test_the_average_of_bf16_weights_is_kept_in_float32():
    model = nn.Linear(3, 2).to(torch.bfloat16)
    assert all(part.dtype == torch.float32 for part in EMA(model.parameters()).average)


def flow_sample(classes=5, seed=0):
    torch.manual_seed(seed)
    palette, autoencoder, flow = (
        make_palette("sphere", classes), load_autoencoder("space-to-depth:2"), RectifiedFlow(),
    )  # fmt: skip
    ids = torch.randint(0, classes, (3, 8, 8))
    x_1 = autoencoder.encode(palette.encode(ids)).mean
    sample = flow.sample(torch.randn_like(x_1), x_1, torch.rand(3))
    return {"flow": flow, "ids": ids, "codec": Anchors(palette, autoencoder)}, sample


def test_the_default_loss_is_the_papers_mean_squared_error():
    parts, sample = flow_sample()
    predicted = torch.randn_like(sample.velocity)
    loss = Objective()(predicted, sample, **parts)
    assert torch.equal(loss.total, functional.mse_loss(predicted, sample.velocity))
    assert loss.anchor == 0


def test_the_anchor_term_is_a_cross_entropy_over_distances():
    parts, sample = flow_sample()
    predicted = sample.velocity + 0.3 * torch.randn_like(sample.velocity)
    loss = Objective(anchor_weight=2.0, anchor_temperature=0.5)(predicted, sample, **parts)
    x_1 = sample.x_t + (1 - sample.t)[:, None, None, None] * predicted
    codec = parts["codec"]
    pictures = codec.autoencoder.decode(x_1)
    away = pictures[:, None] - codec.palette.anchors[None, :, :, None, None]
    logits = -away.square().sum(2) / 0.5
    torch.testing.assert_close(loss.anchor, functional.cross_entropy(logits, parts["ids"]))
    torch.testing.assert_close(loss.total, loss.velocity + 2 * loss.anchor)


def test_a_perfect_velocity_has_no_velocity_loss_and_ignored_pixels_weigh_nothing():
    parts, sample = flow_sample()
    weights = torch.ones(5)
    assert Objective()(sample.velocity, sample, **parts, class_weights=weights).total == 0
    parts["ids"] = torch.full_like(parts["ids"], IGNORE)
    wrong = torch.randn_like(sample.velocity)
    loss = Objective(anchor_weight=1.0)(wrong, sample, **parts, class_weights=weights)
    assert loss.total == 0


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_class_weights_have_a_mean_of_one_over_pixels(balance):
    frequency = torch.tensor([700.0, 250.0, 50.0, 0.0], dtype=torch.float64)
    weights = Objective(class_balance=balance).class_weights(frequency)
    assert (weights * frequency).sum() / frequency.sum() == pytest.approx(1)
    assert weights[3] == weights[2]
    if balance == 1:
        torch.testing.assert_close((weights * frequency)[:3], torch.full((3,), 1000 / 3).double())


def test_iou_and_accuracy_by_hand():
    truth = torch.tensor([[0, 0, 1, 1, 2, IGNORE]])
    predicted = torch.tensor([[0, 1, 1, 1, 0, 2]])
    confusion = ConfusionMatrix(4)
    confusion.update(predicted, truth)
    assert confusion.iou.tolist()[:3] == [1 / 3, 2 / 3, 0]
    assert math.isnan(confusion.iou[3])  # seen nowhere: it does not count
    assert confusion.miou == pytest.approx(1 / 3)
    assert confusion.accuracy == pytest.approx(3 / 5)


def test_matrices_add_up_and_unknown_predictions_are_misses():
    truth, predicted = torch.randint(0, 3, (4, 9)), torch.randint(0, 3, (4, 9))
    predicted[0, 0] = IGNORE
    whole, one, other = ConfusionMatrix(3), ConfusionMatrix(3), ConfusionMatrix(3)
    whole.update(predicted, truth)
    one.update(predicted[:1], truth[:1])
    other.update(predicted[1:], truth[1:])
    assert torch.equal((one + other).counts, whole.counts)
    assert whole.counts.sum() == 36
    assert whole.counts[:, 3].sum() == 1


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(ValueError, match="shapes"):
        ConfusionMatrix(2).update(torch.zeros(3), torch.zeros(4))
    with pytest.raises(ValueError, match="beyond"):
        ConfusionMatrix(2).update(torch.zeros(1), torch.tensor([2]))
