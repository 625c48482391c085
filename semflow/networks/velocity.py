"""Velocity models: UNets of diffusers, from a tiny one for CPUs to Stable Diffusion 1.5's.

Shapes: B batch, C latent channels, h and w latent size.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from semflow.networks import trusted
from semflow.networks.precondition import Preconditioning

VelocityPreset = Literal["tiny", "small", "base", "sd15"]

PROMPT = "null_prompt.safetensors"
PRECONDITIONING = "preconditioning.json"
TIME_SCALE = 1000.0
"""The UNet is fed ``1000 t``, the range of Stable Diffusion's time steps (released code)."""

_CONVOLUTIONAL: dict[str, dict[str, Any]] = {
    # About 3, 7 and 88 million parameters.
    "tiny": {"block_out_channels": (48, 96, 128), "layers_per_block": 1, "norm_num_groups": 16},
    "small": {"block_out_channels": (64, 128, 192), "layers_per_block": 1, "norm_num_groups": 16},
    "base": {"block_out_channels": (128, 256, 384, 512), "layers_per_block": 2, "attention": 2},
}

GROUPS = 32
"""Of a norm, where a preset says nothing: diffusers' own."""

SD15: dict[str, Any] = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}


class Velocity(nn.Module):
    """``v(x_t, t)``: a diffusers UNet, under the null prompt where it wants a condition."""

    def __init__(
        self,
        unet: Any,
        null_prompt: Tensor | None = None,
        preconditioning: Preconditioning | None = None,
    ) -> None:
        """Wrap a network.

        Args:
            unet: of diffusers.
            null_prompt: ``[1, L, D]``, the text encoder's empty sentence, for a conditional one.
            preconditioning: the part of the velocity that goes around the network; None for none,
                as the paper has it.
        """
        super().__init__()
        self.unet, self.preconditioning = unet, preconditioning
        self.conditioned = "cross_attention_dim" in dict(self.config)
        if self.conditioned and null_prompt is None:
            raise ValueError("a conditional UNet needs the null prompt's embedding")
        self.register_buffer("null_prompt", null_prompt, persistent=False)
        self._exact = (null_prompt,)  # out of the reach of a cast to lower precision

    @property
    def config(self) -> dict[str, Any]:
        return cast(dict[str, Any], cast(Any, self.unet).config)

    @property
    def exact_prompt(self) -> Tensor | None:
        """The null prompt as it was given, whatever precision the model was cast to."""
        return self._exact[0]

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Velocity ``[B, C, h, w]`` at ``x_t`` ``[B, C, h, w]`` and times ``t`` ``[B]`` in [0, 1].

        The time stays float32 to the sinusoids: in bfloat16, 1000 t is known to 4 only. What goes
        around the network stays float32 too.
        """
        if self.preconditioning is None:
            return self._network(x_t, t)
        skip, into, out = self.preconditioning.at(t, x_t.shape[1])
        return skip * x_t.float() + out * self._network(into * x_t, t).float()

    def _network(self, x_t: Tensor, t: Tensor) -> Tensor:
        x_t = x_t.to(next(self.unet.parameters()).dtype)
        time = TIME_SCALE * t.float()
        if not self.conditioned:
            return cast(Tensor, self.unet(x_t, time, return_dict=False)[0])
        prompt = cast(Tensor, self.null_prompt).to(x_t).expand(len(x_t), -1, -1)
        return cast(Tensor, self.unet(x_t, time, prompt, return_dict=False)[0])

    def save(self, folder: str | Path, *, weights: bool = True) -> None:
        """``unet/`` in diffusers' form; what there is of null prompt and preconditioning.

        Without its ``weights`` it says what the model is, and :meth:`load` makes an empty one.
        """
        unet = cast(Any, self.unet)
        if weights:
            unet.save_pretrained(Path(folder) / "unet", safe_serialization=True)
        else:
            unet.save_config(Path(folder) / "unet")
        for name in (PROMPT, PRECONDITIONING):  # another model's that lay there would be taken
            (Path(folder) / name).unlink(missing_ok=True)
        if self.conditioned:
            prompt = cast(Tensor, self.exact_prompt).contiguous()
            save_file({"null_prompt": prompt}, Path(folder) / PROMPT)
        if self.preconditioning:
            text = json.dumps(self.preconditioning.to_json()) + "\n"
            (Path(folder) / PRECONDITIONING).write_text(text)

    @classmethod
    def load(cls, folder: str | Path, *, weights: bool = True) -> Velocity:
        """From a folder that :meth:`save` wrote, or a Stable Diffusion pipeline with both files.

        Raises:
            ValueError: for what :mod:`semflow.networks.trusted` refuses.
        """
        inside = Path(folder) / "unet"
        config = trusted.read_json(inside / "config.json")
        kind = trusted.class_named(config, trusted.UNETS, inside / "config.json")
        unet = trusted.network_from(kind, config, inside) if weights else kind.from_config(config)
        prompt = Path(folder) / PROMPT
        around = Path(folder) / PRECONDITIONING
        return cls(
            unet,
            load_file(prompt)["null_prompt"] if prompt.is_file() else None,
            Preconditioning.from_json(trusted.read_json(around)) if around.is_file() else None,
        )

    def blank(self) -> Velocity:
        """Another one of this configuration and null prompt, whose weights are to be set."""
        unet = type(self.unet).from_config(self.config)
        return Velocity(unet, self.exact_prompt, self.preconditioning)


def make_velocity(
    preset: VelocityPreset, channels: int, preconditioning: Preconditioning | None = None
) -> Velocity:
    """A new velocity model for states of ``channels``, with random weights.

    No level is narrower than the state: with symmflow's 96 channels of a lossless autoencoder, the
    first one of 'small' is 96 wide instead of 64.

    'sd15' has Stable Diffusion 1.5's own configuration; its null prompt is all zeros until
    :func:`from_stable_diffusion` brings the real one.

    Raises:
        ValueError: for an unknown preset.
    """
    from diffusers import UNet2DConditionModel, UNet2DModel

    if preset == "sd15":
        unet = UNet2DConditionModel(in_channels=channels, out_channels=channels, **SD15)
        return Velocity(unet, torch.zeros(1, 77, SD15["cross_attention_dim"]), preconditioning)
    if preset not in _CONVOLUTIONAL:
        raise ValueError(f"no preset {preset!r}; there are {', '.join(_CONVOLUTIONAL)}, sd15")
    options = dict(_CONVOLUTIONAL[preset])
    groups = options.get("norm_num_groups", GROUPS)
    # Narrower than the state, a level could not carry the noise that is to be told from it.
    widths = (
        max(width, -(-channels // groups) * groups) for width in options["block_out_channels"]
    )
    options["block_out_channels"] = tuple(widths)
    attention = options.pop("attention", 0)
    plain = len(options["block_out_channels"]) - attention
    return Velocity(
        UNet2DModel(
            in_channels=channels,
            out_channels=channels,
            down_block_types=("DownBlock2D",) * plain + ("AttnDownBlock2D",) * attention,
            up_block_types=("AttnUpBlock2D",) * attention + ("UpBlock2D",) * plain,
            **options,
        ),
        preconditioning=preconditioning,
    )


def from_stable_diffusion(source: str, prompt: Tensor | None = None) -> Velocity:
    """Start from a Stable Diffusion pipeline: its UNet, under its text encoder's empty sentence.

    Args:
        source: a local diffusers folder or a hub id with ``unet``, ``tokenizer``, ``text_encoder``.
        prompt: what :func:`null_prompt` gave for it, if it is known.
    """
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(source, subfolder="unet", use_safetensors=True)
    return Velocity(unet, null_prompt(source) if prompt is None else prompt)


def doubled(velocity: Velocity) -> Velocity:
    """Another one for states of twice the channels, as symmflow has them, from the same weights.

    Each half of the state meets the first convolution's own filters, at half their strength, and
    each half of the velocity comes out of the last one's.
    """
    config = dict(velocity.config)
    config |= {name: 2 * config[name] for name in ("in_channels", "out_channels")}
    if velocity.preconditioning:
        raise ValueError("a network with preconditioning learned it for states of one latent")
    made = Velocity(type(velocity.unet).from_config(config), velocity.exact_prompt)
    weights = cast(dict[str, Tensor], velocity.unet.state_dict())
    weights["conv_in.weight"] = weights["conv_in.weight"].repeat(1, 2, 1, 1) / 2
    weights["conv_out.weight"] = weights["conv_out.weight"].repeat(2, 1, 1, 1)
    weights["conv_out.bias"] = weights["conv_out.bias"].repeat(2)
    made.unet.load_state_dict(weights)
    return made


def null_prompt(source: str) -> Tensor:
    """The embedding ``[1, L, D]`` of the empty sentence by a pipeline's text encoder."""
    from transformers import CLIPTextModel, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(source, subfolder="tokenizer")
    encoder = CLIPTextModel.from_pretrained(source, subfolder="text_encoder", use_safetensors=True)
    tokens = tokenizer("", padding="max_length", max_length=tokenizer.model_max_length)
    with torch.inference_mode():
        prompt: Tensor = encoder(torch.tensor([tokens["input_ids"]]))[0]
    return prompt.clone()
