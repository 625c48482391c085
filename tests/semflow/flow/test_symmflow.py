import pytest
import torch

from semflow import (
    Objective,
    Perturbation,
    SemFlow,
    SemFlowPipeline,
    Solver,
    SymmetricFlow,
    integrate,
    load_autoencoder,
    make_palette,
    make_velocity,
    segment_tiled,
)
from semflow.flow.symmflow import SIGMA_MIN, draw_noise
from semflow.networks.velocity import doubled
from semflow.sampler import Defaults

FLOW = SymmetricFlow()


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return SemFlow(
        make_velocity("tiny", 2 * 48, FLOW.preconditioning(0.5, 0.6)),
        load_autoencoder("space-to-depth"),
        make_palette("sphere", ("a", "b", "c")),
        Defaults(height=32, width=32, segment=Solver(steps=2), synthesize=Solver(steps=2)),
        path=FLOW,
    ).eval()  # fmt: skip


def test_points_are_the_formulas_of_the_paper():
    x_0, x_1, t = torch.randn(5, 4, 6, 8), torch.randn(5, 4, 6, 8), torch.rand(5)
    noise = draw_noise(torch.zeros(5, 8, 6, 8), range(5))
    sample = FLOW.sample(x_0, x_1, t, range(5))
    keep = 1 - SIGMA_MIN
    for i in range(5):
        from_image, from_mask = noise[i].chunk(2)
        s = 1 - t[i]  # as the paper counts it for the image: 0 at noise
        image = (1 - keep * s) * from_image + s * x_0[i]
        mask = (1 - keep * t[i]) * from_mask + t[i] * x_1[i]
        torch.testing.assert_close(sample.x_t[i], torch.cat((image, mask)))
        velocity = torch.cat((keep * from_image - x_0[i], x_1[i] - keep * from_mask))
        torch.testing.assert_close(sample.velocity[i], velocity)


def test_the_velocity_is_the_derivative_of_the_point():
    x_0, x_1 = (torch.randn(2, 3, 4, 4, dtype=torch.float64) for _ in range(2))
    t = torch.tensor([0.2, 0.9], dtype=torch.float64)
    sample = FLOW.sample(x_0, x_1, t, [1, 2])
    near = FLOW.sample(x_0, x_1, t + 1e-6, [1, 2])
    torch.testing.assert_close((near.x_t - sample.x_t) / 1e-6, sample.velocity, atol=1e-6, rtol=0)


def test_the_line_through_a_point_leads_to_the_image_and_the_mask():
    x_0, x_1, t = torch.randn(3, 4, 5, 5), torch.randn(3, 4, 5, 5), torch.tensor([0.0, 0.3, 1.0])
    sample = FLOW.sample(x_0, x_1, t, range(3))
    start, end = FLOW.end_points(sample.x_t, t, sample.velocity)
    torch.testing.assert_close(start, x_0, atol=10 * SIGMA_MIN, rtol=0)
    torch.testing.assert_close(end, x_1, atol=10 * SIGMA_MIN, rtol=0)


def test_a_state_has_the_latents_at_its_end_and_noise_of_the_seed_beside():
    x = torch.randn(3, 4, 5, 5)
    for t in (0.0, 1.0):
        state = FLOW.depart(x, t, [7, 8, 7])
        assert state.shape[1] == FLOW.channels(4)
        assert torch.equal(FLOW.arrive(state, t), x)
        noise = FLOW.arrive(state, 1 - t)
        assert torch.equal(noise[0], noise[2])
        assert not torch.equal(noise[0], noise[1])
    many = draw_noise(torch.zeros(64, 4, 16, 16), range(64))
    assert abs(float(many.mean())) < 0.01
    assert abs(float(many.std()) - 1) < 0.01


def test_noise_and_perturbation_of_a_seed_have_nothing_in_common():
    noise = draw_noise(torch.zeros(1, 3, 64, 64), [5])[0].flatten()
    other = Perturbation(kind="gaussian").draw((3, 64, 64), 5).flatten()
    assert abs(float(torch.corrcoef(torch.stack((noise, other)))[0, 1])) < 0.03


def test_training_needs_seeds():
    with pytest.raises(ValueError, match="seed"):
        FLOW.sample(torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2), torch.zeros(1))


def test_the_loss_is_the_weighted_sum_of_two_losses():
    sample = FLOW.sample(
        torch.randn(4, 48, 2, 2), torch.randn(4, 48, 2, 2), torch.rand(4), range(4)
    )
    predicted = torch.randn_like(sample.x_t)
    loss = Objective()(predicted, sample, flow=FLOW, ids=torch.zeros(4, 8, 8), codec=None)  # type: ignore[arg-type]
    image, mask = ((predicted - sample.velocity) ** 2).chunk(2, 1)
    torch.testing.assert_close(loss.total, 0.7 * image.mean() + 0.3 * mask.mean())


def test_a_true_field_leads_to_the_other_end_in_one_step():
    """The velocity of a known pair of image and mask: exact but for what is left of noise."""
    x_0, x_1 = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    noise = draw_noise(x_0, [3, 4])
    for start, t_0, t_1, aim in ((x_0, 0.0, 1.0, x_1), (x_1, 1.0, 0.0, x_0)):
        state = FLOW.depart(start, t_0, [3, 4])
        velocity = torch.cat((noise - x_0, x_1 - noise), 1)
        end = integrate(lambda x, t, v=velocity: v, state, t_0, t_1, Solver(steps=1)).x
        torch.testing.assert_close(FLOW.arrive(end, t_1), aim, atol=1e-5, rtol=0)


def test_a_saved_model_is_the_same_flow(model, tmp_path):
    model.save(tmp_path)
    ids, images = torch.randint(3, (2, 32, 32)), torch.rand(2, 3, 32, 32) * 2 - 1
    for again in (SemFlow.load(tmp_path), SemFlowPipeline.from_pretrained(tmp_path).semflow):
        assert again.path.name == "symmflow"
        assert torch.equal(again.segment(images).ids, model.segment(images).ids)
        one, other = (m.synthesize(ids, [1, 2]).images for m in (again, model))
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0)
    card = (tmp_path / "README.md").read_text()
    assert "SymmFlow" in card
    assert "preconditioning.json" in card


def test_seeds_decide_the_image_and_the_batch_does_not(model):
    ids = torch.randint(3, (1, 32, 32)).expand(3, -1, -1)
    calm = Perturbation(amplitude=0.0)
    made = model.synthesize(ids, [1, 2, 1], perturbation=calm).images
    assert torch.equal(made[0], made[2])
    assert (made[0] - made[1]).abs().mean() > 0.05
    alone = model.synthesize(ids[:1], [2], perturbation=calm).images
    torch.testing.assert_close(alone[0], made[1], atol=1e-5, rtol=0)


def test_a_photo_of_one_tile_is_segmented_as_without_tiles(model):
    photo = torch.randint(256, (3, 32, 32), dtype=torch.uint8)
    tiled = segment_tiled(model, photo)
    whole = model.segment(photo[None].float() / 127.5 - 1)
    assert torch.equal(tiled.ids.long(), whole.ids)


def test_a_doubled_network_says_of_two_alike_halves_what_it_said_of_one():
    torch.manual_seed(0)
    velocity = make_velocity("tiny", 4).eval()
    x, t = torch.randn(2, 4, 8, 8), torch.rand(2)
    with torch.inference_mode():
        once = velocity(x, t)
        twice = doubled(velocity).eval()(torch.cat((x, x), 1), t)
    torch.testing.assert_close(twice, torch.cat((once, once), 1), atol=1e-5, rtol=1e-5)


def test_no_level_of_a_network_is_narrower_than_the_state():
    for channels, first in ((4, 48), (48, 48), (96, 96), (100, 112)):
        widths = make_velocity("tiny", channels).config["block_out_channels"]
        assert widths[0] == first
        assert min(widths) >= channels
