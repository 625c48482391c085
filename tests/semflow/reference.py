"""What the released SemFlow computes, written again from its formulas, with nothing of ours.

From the paper (arXiv 2405.20282) and shared/FACTS.md, which tells what the code at
github.com/wang-chaoyang/SemFlow does. It imports torch alone; networks are handed in as diffusers
made them.

Its time is an integer of 0..1000 when it samples. Asked for n steps, it takes
``m = len(range(1, 1000, 1000 // n))`` steps of 1/m, at times ``1000 // n`` apart: m is n, and the
times are the steps', where n divides 1000 (1, 2, 4, 5, 8, 10, 20, 25, ...). For other n it takes
more steps than asked, and the times that the network hears fall behind the steps (see
:func:`stretch`).
"""

import torch
from torch.nn.functional import mse_loss

LEVELS, STEP, WHITE = 6, 50, 255


def times(asked):
    """The integer times of segmenting, rising from 0; of synthesizing they fall from 1000."""
    rising = [time - 1 for time in range(1, 1000, 1000 // asked)]
    falling = [1000 - time for time in rising]
    return rising, falling


def stretch(asked):
    """How much faster than its steps the network's time runs: 1 where ``asked`` divides 1000."""
    rising, _ = times(asked)
    return len(rising) * (1000 // asked) / 1000


@torch.no_grad()
def segment(unet, x, prompt, asked):
    """Explicit Euler from an image latent ``[B, C, h, w]``; the end, and how many evaluations."""
    rising, _ = times(asked)
    for time in rising:
        x = x + velocity(unet, x, time, prompt) / len(rising)
    return x, len(rising)


@torch.no_grad()
def synthesize(unet, x, prompt, asked):
    """Explicit Euler back from a mask latent ``[B, C, h, w]``."""
    _, falling = times(asked)
    for time in falling:
        x = x - velocity(unet, x, time, prompt) / len(falling)
    return x, len(falling)


def velocity(unet, x, time, prompt):
    """The UNet under the empty sentence ``[1, L, D]``; guidance 1 is none."""
    return unet(x, time, prompt.repeat(len(x), 1, 1)).sample


def mask_picture(ids):
    """Class ids ``[B, H, W]`` as pictures ``[B, 3, H, W]`` in [-1, 1] (Eq. 7); 255 is white."""
    digits = [ids // LEVELS**2, ids % LEVELS**2 // LEVELS, ids % LEVELS]
    colour = torch.stack([STEP * digit for digit in digits], dim=1)
    colour = torch.where(ids[:, None] == 255, WHITE, colour)
    return colour / 255 * 2 - 1


def training_loss(unet, vae, prompt, image, ids, t, uniform, generator):
    """The loss of a training step, to be differentiated (Eq. 3-5, 14).

    Args:
        unet: Stable Diffusion's kind of UNet.
        vae: Stable Diffusion's kind of autoencoder.
        prompt: ``[1, L, D]``.
        image: ``[B, 3, H, W]`` in [-1, 1].
        ids: ``[B, H, W]``.
        t: ``[B]`` in [0, 1].
        uniform: ``[B, 3, H, W]`` in [0, 1], for the perturbation.
        generator: of the posterior's noise.
    """
    scaling = vae.config.scaling_factor
    with torch.no_grad():
        perturbed = mask_picture(ids) + 0.1 * (uniform - 0.5)
        mask_latent = vae.encode(perturbed).latent_dist.mode() * scaling
        image_latent = vae.encode(image).latent_dist.sample(generator) * scaling
    weight = t[:, None, None, None]
    x_t = weight * mask_latent + (1 - weight) * image_latent
    predicted = unet(x_t, 1000 * t, prompt.repeat(len(t), 1, 1)).sample
    return mse_loss(predicted, mask_latent - image_latent)
