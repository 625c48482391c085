"""The method against the released code's formulas (reference.py), with networks of its kind."""

import pytest
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, UNet2DConditionModel

from semflow import (
    IGNORE,
    Objective,
    Perturbation,
    RectifiedFlow,
    SemFlow,
    Solver,
    Velocity,
    integrate,
    make_palette,
)
from semflow.networks.autoencoder import DiffusersAutoencoder
from semflow.sampler import Defaults
from tests.semflow import reference

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def make_unet():
    """A small one of Stable Diffusion's class, whose velocity changes with place and time."""
    unet = UNet2DConditionModel(
        in_channels=4, out_channels=4, block_out_channels=(16, 32), norm_num_groups=4,
        layers_per_block=1, cross_attention_dim=8, attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    return unet.eval()


def make_vae():
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8), down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=4, norm_num_groups=4,
        scaling_factor=0.18215,
    )  # fmt: skip
    return vae.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    unet, vae, prompt = make_unet(), make_vae(), torch.randn(1, 5, 8)
    defaults = Defaults(height=64, width=96)
    palette = make_palette("grid", 19)
    return SemFlow(Velocity(unet, prompt), DiffusersAutoencoder(vae), palette, defaults).eval()


def latents(seed=0):
    return torch.randn(2, 4, 8, 12, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("steps", [1, 5, 25])
@pytest.mark.parametrize("direction", ["segment", "synthesize"])
@torch.inference_mode()
def test_latents_are_the_released_codes_both_ways(model, direction, steps):
    velocity = model.velocity
    x, ends = latents(), {"segment": (0.0, 1.0), "synthesize": (1.0, 0.0)}[direction]
    expected, evaluations = getattr(reference, direction)(
        velocity.unet, x, velocity.null_prompt, steps
    )
    found = model.flow(x, *ends, Solver(steps=steps))
    assert found.nfe == evaluations == steps
    assert (expected - x).norm() > 0.1 * x.norm()  # it went somewhere
    torch.testing.assert_close(found.x, expected, **CLOSE)


@torch.inference_mode()
def test_where_the_released_code_takes_other_steps_its_times_are_stretched_ones(model):
    """Asked for 30 it makes 31 steps, at times 33 of 1000 apart instead of 32.26.

    Compared is that formula: our 31 steps of Euler with the time stretched by 31 * 33 / 1000.
    """
    velocity, x, asked, done = model.velocity, latents(), 30, 31
    factor = reference.stretch(asked)
    assert factor == pytest.approx(1.023)
    expected, evaluations = reference.segment(velocity.unet, x, velocity.null_prompt, asked)
    assert evaluations == done
    found = integrate(lambda x, t: velocity(x, factor * t), x, 0.0, 1.0, Solver(steps=done))
    torch.testing.assert_close(found.x, expected, **CLOSE)
    back, _ = reference.synthesize(velocity.unet, x, velocity.null_prompt, asked)
    found = integrate(
        lambda x, t: velocity(x, 1 - factor * (1 - t)), x, 1.0, 0.0, Solver(steps=done)
    )
    torch.testing.assert_close(found.x, back, **CLOSE)


def test_it_takes_the_asked_steps_where_they_divide_a_thousand():
    for asked in (1, 2, 4, 5, 8, 10, 20, 25, 40, 50, 100):
        rising, falling = reference.times(asked)
        assert rising == [1000 * i // asked for i in range(asked)]
        assert falling == [1000 - time for time in rising]
        assert reference.stretch(asked) == 1
    assert [len(reference.times(asked)[0]) for asked in (30, 60)] == [31, 63]  # as it is known to


def test_a_training_steps_loss_and_gradient_are_the_released_codes(model):
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(2, 3, 64, 96, generator=generator) * 2 - 1
    ids = torch.randint(0, 19, (2, 64, 96), generator=generator)
    ids[:, :5] = IGNORE
    t, seeds = torch.rand(2, generator=generator), [7, 8]
    uniform = torch.stack(
        [torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    )
    unet, vae = model.velocity.unet.requires_grad_(True), model.autoencoder.model
    expected = reference.training_loss(
        unet, vae, model.velocity.null_prompt, images, ids, t, uniform,
        torch.Generator().manual_seed(9),
    )  # fmt: skip
    gradient = torch.autograd.grad(expected, list(unet.parameters()))

    pictures = Perturbation(amplitude=0.05).apply(model.palette.encode(ids), seeds)
    posterior = model.autoencoder.encode(images)
    noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(9))
    flow = RectifiedFlow()
    with torch.no_grad():
        x_0, x_1 = posterior.sample(noise), model.autoencoder.encode(pictures).mean
    sample = flow.sample(x_0, x_1, flow.times(t))
    loss = Objective()(
        model.velocity(sample.x_t, sample.t), sample, flow=flow, ids=ids,
        codec=model.codec,
    )  # fmt: skip
    torch.testing.assert_close(loss.total, expected, **CLOSE)
    ours = torch.autograd.grad(loss.total, list(unet.parameters()))
    assert max(float(part.abs().max()) for part in gradient) > 1e-3
    for mine, theirs in zip(ours, gradient, strict=True):
        torch.testing.assert_close(mine, theirs, **CLOSE)


GRIDS = [(0.0, 0.25, 0.5, 0.75, 1.0), (0.0, 0.1, 0.3, 0.9, 1.0)]


@pytest.mark.parametrize("grid", GRIDS, ids=["equal", "uneven"])
@pytest.mark.parametrize("ends", [(0.0, 1.0), (1.0, 0.0)], ids=["segment", "synthesize"])
@torch.inference_mode()
def test_euler_is_diffusers_flow_matching_scheduler_step_by_step(model, ends, grid):
    """Synthesizing, sigma is t; segmenting, 1 - t with invert_sigmas (semflow/hub/pipeline.py)."""
    seen, solver = [], Solver(steps=4, grid=grid)

    def field(x, t):
        seen.append((x, t, model.field(x, t)))
        return seen[-1][2]

    end = integrate(field, latents(), *ends, solver).x
    rising = ends == (0.0, 1.0)
    scheduler = FlowMatchEulerDiscreteScheduler(invert_sigmas=rising)
    times = solver.times(*ends)
    scheduler.set_timesteps(sigmas=[1 - t if rising else t for t in times[:-1]])
    x, states = latents(), [state for state, _, _ in seen[1:]] + [end]
    for time, (before, t, slope), after in zip(scheduler.timesteps, seen, states, strict=True):
        torch.testing.assert_close(time.expand(2), 1000 * t, rtol=1e-6, atol=1e-4)
        torch.testing.assert_close(x, before, rtol=1e-6, atol=1e-6)
        x = scheduler.step(slope, time, x).prev_sample
        torch.testing.assert_close(x, after, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(scheduler.sigmas[-1], torch.tensor(ends[1]))
