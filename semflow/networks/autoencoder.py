"""Frozen autoencoders between pixels and latents: any of diffusers', and a lossless one.

Shapes: B batch, H and W pixels, C latent channels, h and w latent size (H and W over the factor).
Pixels are float in [-1, 1]. Latents are scaled as the autoencoder's own configuration says, so
that what the flow sees has a spread of about 1.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from semflow.networks import trusted
from semflow.networks.base import Autoencoder, Posterior, weights_hash


class SpaceToDepth(Autoencoder):
    """A weight-free, lossless autoencoder: each ``factor x factor`` patch becomes channels."""

    lossless = True

    def __init__(self, factor: int = 4) -> None:
        super().__init__()
        if not isinstance(factor, int) or not 1 <= factor <= 64:
            raise ValueError(f"a factor lies in 1..64, not {factor!r}")
        self.factor, self.channels = factor, 3 * factor * factor

    def encode(self, pixels: Tensor) -> Posterior:
        return Posterior(F.pixel_unshuffle(pixels, self.factor), None)

    def decode(self, latents: Tensor) -> Tensor:
        return F.pixel_shuffle(latents, self.factor)

    def save(self, folder: str | Path) -> None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / "config.json").write_text(json.dumps(self.identity(), indent=2))

    def identity(self) -> dict[str, Any]:
        return {"_class_name": "SpaceToDepth", "factor": self.factor}


class DiffusersAutoencoder(Autoencoder):
    """AutoencoderKL, AutoencoderTiny, AutoencoderDC: whatever diffusers can load."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.requires_grad_(False).eval()
        config = cast(Any, model).config
        self.scaling = float(config.scaling_factor)
        self.shift = float(getattr(config, "shift_factor", None) or 0.0)
        with torch.inference_mode():  # the configurations spell size and depth in many ways
            parameter = next(model.parameters())
            probe = torch.zeros(1, 3, 64, 64, dtype=parameter.dtype, device=parameter.device)
            mean, std = self._moments(probe)
        self.channels, self.factor = mean.shape[1], 64 // mean.shape[-1]
        self.stochastic = std is not None

    def _moments(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        encoded = cast(Any, self.model).encode(pixels)
        if hasattr(encoded, "latent_dist"):
            return encoded.latent_dist.mean, encoded.latent_dist.std
        return cast(Tensor, encoded[0]), None  # "latents" of one class, "latent" of another

    def encode(self, pixels: Tensor) -> Posterior:
        mean, std = self._moments(pixels.to(next(self.model.parameters()).dtype))
        mean = (mean.float() - self.shift) * self.scaling
        return Posterior(mean, None if std is None else std.float() * self.scaling)

    def decode(self, latents: Tensor) -> Tensor:
        latents = latents / self.scaling + self.shift
        decoded = cast(Any, self.model).decode(latents.to(next(self.model.parameters()).dtype))
        return cast(Tensor, decoded[0] if isinstance(decoded, tuple) else decoded.sample).float()

    def save(self, folder: str | Path) -> None:
        cast(Any, self.model).save_pretrained(folder, safe_serialization=True)

    def identity(self) -> dict[str, Any]:
        return {
            "_class_name": type(self.model).__name__,
            "scaling_factor": self.scaling,
            "shift_factor": self.shift,
            "weights": weights_hash(self.model),
        }


def load_autoencoder(source: str | Path) -> Autoencoder:
    """An autoencoder by name, folder or hub id.

    Args:
        source: ``space-to-depth`` or ``space-to-depth:8`` (lossless, no weights; 4 by itself);
            a folder with a diffusers ``config.json``, or with one in ``vae/``; ``taef2`` weights
            (``encoder.safetensors`` beside ``decoder.safetensors``); or a hub id such as
            ``stabilityai/sd-vae-ft-mse``.

    Raises:
        ValueError: when there is no such thing, with what was tried.
    """
    name = str(source)
    if name.split(":")[0] == "space-to-depth":
        return SpaceToDepth(int(name.partition(":")[2] or 4))
    folder = Path(name)
    if (folder / "vae" / "config.json").is_file():
        folder = folder / "vae"
    if (folder / "config.json").is_file():
        return _from_folder(folder)
    if (folder / "encoder.safetensors").is_file():
        from semflow.networks.taef2 import TAEF2

        return TAEF2.load(folder)
    if folder.exists():
        raise ValueError(f"{name} has no config.json of a diffusers autoencoder, nor vae/ with one")
    return _from_hub(name)


def _from_folder(folder: Path) -> Autoencoder:
    where = folder / "config.json"
    config = trusted.read_json(where)
    if config.get("_class_name") == "SpaceToDepth":
        return SpaceToDepth(config.get("factor", 4))
    kind = trusted.class_named(config, trusted.AUTOENCODERS, where)
    return DiffusersAutoencoder(trusted.network_from(kind, config, folder))


def _from_hub(name: str) -> Autoencoder:
    """A hub id's, whose configuration is at its root or in ``vae/``."""
    from diffusers import AutoencoderKL

    subfolder = None
    try:
        try:
            config = AutoencoderKL.load_config(name)
        except (OSError, ValueError):
            subfolder = "vae"
            config = AutoencoderKL.load_config(name, subfolder=subfolder)
        kind = trusted.class_named(cast(dict[str, Any], config), trusted.AUTOENCODERS, name)
        model = kind.from_pretrained(name, subfolder=subfolder, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"no autoencoder {name!r}: it is neither 'space-to-depth[:factor]', nor a folder with "
            f"a diffusers autoencoder, nor a hub id that can be reached ({error})"
        ) from error
    return DiffusersAutoencoder(model)
