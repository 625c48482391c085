"""Training from latents ÷ training that encodes image and mask at every step, as the released
code does.

    python -m tests.benchmarks.online --output out/online
    python -m tests.benchmarks.online --width 1 --precision bf16 --batch 8      on a GPU

A UNet and an autoencoder of SD-1.5's own architecture with random weights; ``--width`` scales the
channels of both, so that their proportions stay. A step is forward, backward, clipping and AdamW;
online, the frozen autoencoder encodes the batch's images and perturbed masks first. Both take the
same batch, in turn, ``--rounds`` times; the ratio is of medians. It needs torch and diffusers only.
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro
from diffusers import AutoencoderKL, UNet2DConditionModel

from semflow import Perturbation, RectifiedFlow, Velocity, make_palette


@dataclass(frozen=True)
class Args:
    width: float = 0.25
    """Of SD-1.5's channels (320, 640, 1280, 1280 and 128, 256, 512, 512)."""
    size: int = 256
    """Pixels a side."""
    batch: int = 2
    precision: Literal["fp32", "bf16"] = "fp32"
    rounds: int = 5
    output: str = "out/online"


def scaled(channels: tuple[int, ...], width: float) -> tuple[int, ...]:
    """Multiples of 32, which the norms need."""
    return tuple(max(32, round(c * width / 32) * 32) for c in channels)


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        in_channels=4, out_channels=4,
        block_out_channels=scaled((320, 640, 1280, 1280), args.width),
        layers_per_block=2, cross_attention_dim=768, attention_head_dim=8,
    )  # fmt: skip
    velocity = Velocity(unet, torch.zeros(1, 77, 768)).to(device)
    autoencoder = AutoencoderKL(
        block_out_channels=scaled((128, 256, 512, 512), args.width), layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
    ).to(device).eval().requires_grad_(False)  # fmt: skip
    optimizer = torch.optim.AdamW(velocity.parameters(), 1e-5, fused=True)
    flow, perturbation = RectifiedFlow(), Perturbation()
    palette = make_palette("grid", tuple(f"class {n}" for n in range(19)))
    images = torch.rand(args.batch, 3, args.size, args.size, device=device) * 2 - 1
    ids = torch.randint(19, (args.batch, args.size, args.size), device=device)
    small = (args.batch, 4, args.size // 8, args.size // 8)
    latents = torch.randn(small, device=device), torch.randn(small, device=device)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=args.precision == "bf16")

    @torch.no_grad()
    def encoded() -> tuple[torch.Tensor, torch.Tensor]:
        masks = perturbation.apply(palette.encode(ids), list(range(args.batch)))
        image = autoencoder.encode(images).latent_dist.sample()
        return image * 0.18215, autoencoder.encode(masks).latent_dist.mode() * 0.18215

    def step(online: bool) -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        with autocast:
            x_0, x_1 = encoded() if online else latents
            sample = flow.sample(
                x_0.float(), x_1.float(), flow.times(torch.rand(args.batch, device=device))
            )
            predicted = velocity(sample.x_t, sample.t)
        (predicted.float() - sample.velocity).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(velocity.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    step(True), step(False)
    seconds = {online: [] for online in (False, True)}
    for _ in range(args.rounds):
        for online in seconds:
            seconds[online].append(step(online))
    rates = {
        name: args.batch / statistics.median(seconds[online])
        for name, online in (("latents", False), ("online", True))
    }
    sizes = {
        "unet": sum(p.numel() for p in velocity.parameters()),
        "autoencoder": sum(p.numel() for p in autoencoder.parameters()),
    }
    result = vars(args) | {"device": str(device), "rates": rates, "parameters": sizes}
    Path(args.output).mkdir(parents=True, exist_ok=True)
    Path(args.output, "online.json").write_text(json.dumps(result, indent=2))
    millions = {name: f"{size / 1e6:.0f} M" for name, size in sizes.items()}
    print(f"UNet {millions['unet']}, autoencoder {millions['autoencoder']}, {device}")
    print(f"from latents {rates['latents']:.2f} images/s, encoding online {rates['online']:.2f}: "
          f"{rates['latents'] / rates['online']:.2f} times")  # fmt: skip


if __name__ == "__main__":
    main()
