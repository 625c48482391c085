"""A checkpoint of the released SemFlow as a model folder, which every job and pipeline here takes.

    python -m semflow.released --checkpoint DIR --stable-diffusion DIR --classes names.txt \\
        --output out/released

The released code (github.com/wang-chaoyang/SemFlow) keeps Stable Diffusion 1.5's UNet, fine-tuned;
its autoencoder and the embedding of the empty sentence are Stable Diffusion's own. Euler, 25 steps
each way; the palette is the paper's grid, the perturbation +-0.05.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors.torch import load_file
from torch import Tensor

from semflow.flow.solvers import Solver
from semflow.masks.palette import PaletteKind, make_palette
from semflow.networks.autoencoder import load_autoencoder
from semflow.networks.base import weights_hash
from semflow.networks.velocity import SD15, Velocity, null_prompt
from semflow.sampler import Defaults, SemFlow

NAMES = (
    "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin",
    "model.safetensors", "pytorch_model.bin",
)  # fmt: skip
"""What diffusers and accelerate call a file of weights."""


def load_unet(checkpoint: str | Path) -> Any:
    """The UNet of a released checkpoint, in float32.

    Args:
        checkpoint: a folder with a diffusers UNet, or with one in ``unet/``: ``config.json`` beside
            ``.safetensors`` or ``.bin``. Or weights alone, a file or a folder with one, which are
            taken for Stable Diffusion 1.5's UNet. ``.bin`` is read without running what a pickle
            may hold (``weights_only``).

    Raises:
        ValueError: when there is nothing of the kind, or the weights are another network's.
    """
    import diffusers

    kind: Any = diffusers.UNet2DConditionModel
    path = Path(checkpoint)
    if (path / "unet").is_dir():
        path = path / "unet"
    try:
        if (path / "config.json").is_file():
            unet, info = kind.from_pretrained(
                path, torch_dtype=torch.float32, low_cpu_mem_usage=False, output_loading_info=True,
                use_safetensors=any(path.glob("*.safetensors")),
            )  # fmt: skip
            if wrong := [*info["missing_keys"], *info["unexpected_keys"]]:  # diffusers only warns
                raise ValueError(f"{path}: the weights do not fit config.json: {wrong[:3]}, ...")
            return unet
        file = next((path / name for name in NAMES if (path / name).is_file()), path)
        if not file.is_file():
            raise ValueError(f"{path} has no config.json of a UNet, nor any of {', '.join(NAMES)}")
        with torch.device("meta"):  # its random weights would take gigabytes and be thrown away
            unet = kind(in_channels=4, out_channels=4, **SD15)
        unet.load_state_dict(read_tensors(file), assign=True)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path} holds no UNet that can be read: {error}") from error
    return unet.float()


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file, or of one of torch's, read without its code.

    Raises:
        ValueError: when it holds anything else.
    """
    if file.suffix == ".safetensors":
        return load_file(file)
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # UnpicklingError, EOFError, RuntimeError, by what is wrong
        raise ValueError(f"{file} is no file of plain tensors: {error}") from error
    if isinstance(found, Tensor):
        found = {"null_prompt": found}
    if not isinstance(found, dict) or not all(isinstance(v, Tensor) for v in found.values()):
        raise ValueError(
            f"{file} is no state dict: tensors by name are expected (for a DeepSpeed checkpoint, "
            "its own zero_to_fp32.py makes one)"
        )
    return found


def read_null_prompt(file: str | Path) -> Tensor:
    """The embedding ``[1, L, D]`` of the empty sentence, from a file with one tensor.

    Raises:
        ValueError: when it holds another number of tensors, or one of another shape.
    """
    tensors = list(read_tensors(Path(file)).values())
    if (
        len(tensors) != 1
        or tensors[0].ndim not in (2, 3)
        or tensors[0].shape[:-2] not in ((), (1,))
    ):
        shapes = [tuple(tensor.shape) for tensor in tensors]
        raise ValueError(f"{file}: one tensor [1, L, D] is expected, not {shapes}")
    return tensors[0].float().reshape(1, *tensors[0].shape[-2:])


def import_released(
    checkpoint: str | Path,
    autoencoder: str | Path,
    prompt: Tensor,
    names: Sequence[str],
    *,
    palette: PaletteKind = "grid",
    height: int = 512,
    width: int = 512,
    steps: int = 25,
) -> SemFlow:
    """A released checkpoint and what it was trained with, as a model.

    Args:
        checkpoint: as :func:`load_unet` takes it.
        autoencoder: as :func:`~semflow.networks.autoencoder.load_autoencoder` takes it.
        prompt: the empty sentence's embedding ``[1, L, D]``.
        names: of the classes, in the order of their ids.
        palette: the paper's grid, unless it was trained with another one.
        height: of its pictures.
        width: of its pictures.
        steps: of Euler, each way.

    Raises:
        ValueError: when there is no such thing, or the parts do not fit together.
    """
    unet, encoder = load_unet(checkpoint), load_autoencoder(autoencoder)
    if unet.config.in_channels != encoder.channels:
        raise ValueError(
            f"{checkpoint} is for latents of {unet.config.in_channels} channels, the autoencoder "
            f"{autoencoder} makes {encoder.channels}"
        )
    if prompt.shape[-1] != unet.config.cross_attention_dim:
        raise ValueError(
            f"the null prompt has {prompt.shape[-1]} features, the UNet expects "
            f"{unet.config.cross_attention_dim}: it is another text encoder's"
        )
    solver = Solver(steps=steps)
    defaults = Defaults(height=height, width=width, segment=solver, synthesize=solver)
    provenance = {
        "imported": "a checkpoint of the released code, github.com/wang-chaoyang/SemFlow",
        "unet_sha256": weights_hash(unet),
    }
    velocity = Velocity(unet, prompt)
    made = SemFlow(velocity, encoder, make_palette(palette, names), defaults, provenance)
    return made.eval().requires_grad_(False)


def main(args: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--checkpoint", required=True, help="the fine-tuned UNet: a folder, or a file of weights")
    add("--stable-diffusion", help="folder or hub id: its text encoder gives the null prompt, and "
        "it has the autoencoder")  # fmt: skip
    add("--autoencoder", help="folder or hub id, instead of that one's")
    add("--null-prompt", help="a file with the empty sentence's embedding, instead of that one's")
    add("--classes", required=True, help="a file with a class name a line, in the order of the ids")
    add("--palette", default="grid", choices=get_args(PaletteKind), help="grid is the paper's")
    add("--height", type=int, default=512, help="of the pictures it was trained on")
    add("--width", type=int, default=512, help="1024 for Cityscapes")
    add("--steps", type=int, default=25, help="of Euler, each way")
    add("--output", required=True, help="folder of the model")
    given = parser.parse_args(args)
    source = given.stable_diffusion
    if not source and not (given.autoencoder and given.null_prompt):
        parser.error("give --stable-diffusion, or both --autoencoder and --null-prompt")
    names = [line.strip() for line in Path(given.classes).read_text().splitlines() if line.strip()]
    prompt = read_null_prompt(given.null_prompt) if given.null_prompt else null_prompt(source)
    model = import_released(
        given.checkpoint, given.autoencoder or source, prompt, names, palette=given.palette,
        height=given.height, width=given.width, steps=given.steps,
    )  # fmt: skip
    model.save(given.output)
    print(f"{given.output}: {len(names)} classes at {given.width}x{given.height}")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, FileNotFoundError) as problem:
        sys.exit(f"error: {problem}")
