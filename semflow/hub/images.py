"""Photos and masks as people hand them over (PIL, NumPy, torch), and back.

Shapes: H and W a picture's own height and width, h and w the model's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from semflow.masks.classmap import ClassMap, ClassNumbers, RawValues
from semflow.masks.colours import packed
from semflow.masks.given import GivenMasks, anchored
from semflow.masks.palette import Palette

OutputType = Literal["pil", "np", "pt"]


def check_output_type(output_type: str) -> None:
    """Refuse what is no :data:`OutputType`, before any work is done.

    Raises:
        ValueError: with those that there are.
    """
    if output_type not in get_args(OutputType):
        raise ValueError(f"no output_type {output_type!r}; there are {get_args(OutputType)}")


def listed(pictures: Any, dims: int) -> list[Any]:
    """One picture, a list of them, or an array with a first axis of them, as a list.

    Args:
        pictures: PIL, NumPy or torch.
        dims: axes of a single picture that is an array.

    Raises:
        ValueError: when there are none, or an array has too many or too few axes.
    """
    if isinstance(pictures, np.ndarray | Tensor):
        if pictures.ndim not in (dims, dims + 1):
            raise ValueError(
                f"an array of {dims} axes is one picture, one of {dims + 1} several; "
                f"this one has the shape {tuple(pictures.shape)}"
            )
        pictures = [pictures] if pictures.ndim == dims else list(pictures)
    elif isinstance(pictures, Sequence) and not isinstance(pictures, str | bytes):
        pictures = [one for each in pictures for one in listed(each, dims)]
    else:
        pictures = [pictures]
    if not pictures:
        raise ValueError("no pictures were given")
    return list(pictures)


def read_photo(photo: Any, height: int, width: int) -> tuple[Tensor, tuple[int, int]]:
    """A photo as ``[3, h, w]`` float32 in [-1, 1], and its own height and width.

    PIL images are turned as their EXIF orientation says, as viewers do; 8-bit photos are resized by
    Pillow's bicubic filter, as the encoding and labelling jobs do it.

    Args:
        photo: PIL; NumPy ``[H, W, 3]`` or torch ``[3, H, W]``, uint8 or float in [0, 1].
        height: h.
        width: w.

    Raises:
        ValueError: for another type, shape or range.
    """
    if isinstance(photo, Image.Image):
        if photo.mode.startswith(("I", "F")):
            raise ValueError(f"a photo of mode {photo.mode}: convert it to 8-bit RGB first")
        return _resized_bytes(ImageOps.exif_transpose(photo).convert("RGB"), height, width)
    if isinstance(photo, np.ndarray) and photo.ndim == 3 and photo.shape[2] == 3:
        photo = torch.from_numpy(np.ascontiguousarray(photo)).movedim(-1, 0)
    elif not (isinstance(photo, Tensor) and photo.ndim == 3 and photo.shape[0] == 3):
        shape = tuple(getattr(photo, "shape", ()))
        raise ValueError(
            f"a photo is a PIL image, a NumPy array [H, W, 3] or a tensor [3, H, W], not "
            f"{type(photo).__name__}{f' {shape}' if shape else ''}"
        )
    if photo.dtype == torch.uint8:
        array = photo.movedim(0, -1).contiguous().cpu().numpy()
        return _resized_bytes(Image.fromarray(array), height, width)
    if not photo.is_floating_point() or not bool(((photo >= 0) & (photo <= 1)).all()):
        raise ValueError(
            f"a photo of {photo.dtype} whose values are not floats in [0, 1]; give uint8 in 0..255 "
            "or scale it (SemFlow.segment, below this pipeline, takes [-1, 1])"
        )
    size = (photo.shape[1], photo.shape[2])
    pixels = photo.float()
    if size != (height, width):
        pixels = F.interpolate(pixels[None], (height, width), mode="bicubic", antialias=True)[0]
    return pixels.clamp(0, 1) * 2 - 1, size


def _resized_bytes(photo: Image.Image, height: int, width: int) -> tuple[Tensor, tuple[int, int]]:
    small = np.array(photo.resize((width, height), Image.Resampling.BICUBIC))
    pixels = torch.from_numpy(small).movedim(-1, 0).float() / 127.5 - 1
    return pixels, (photo.height, photo.width)


def to_bytes(pixels: Tensor) -> Tensor:
    """Pixels in [-1, 1], clipped there, as uint8 of the same shape."""
    return ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().byte()


def read_mask(mask: Any, height: int, width: int, palette: Palette, given: GivenMasks) -> Tensor:
    """A mask as class numbers ``[h, w]`` uint8, resized by nearest, 255 for no class.

    Args:
        mask: a PIL image of one channel; NumPy or torch integers ``[H, W]``. Arrays are class
            numbers where nothing else is said.
        height: h.
        width: w.
        palette: whose colours an image has that we made.
        given: what its values are.

    Raises:
        ValueError: for colours where one channel is expected, another type, or a value that is not
            taken.
    """
    ours = anchored(mask, palette) if isinstance(mask, Image.Image) else not given.masks_are
    ids = given.read(lambda by: _numbers(mask, by), anchored=ours)
    return torch.from_numpy(_nearest(ids, (height, width)))


def _numbers(mask: Any, by: ClassMap) -> ClassNumbers:
    """A mask as class numbers ``[H, W]``, read by a map."""
    if isinstance(mask, Image.Image):
        if by.colours and mask.mode in ("RGB", "RGBA"):
            shown = packed(np.asarray(mask.convert("RGB")))
            return by.numbers_of_colours(RawValues(shown))
        if len(mask.getbands()) > 1:
            raise ValueError(
                f"a mask of mode {mask.mode} with {len(mask.getbands())} channels, where one "
                "channel of class ids is expected"
            )
        mask = np.asarray(mask)
    if isinstance(mask, Tensor):
        mask = mask.cpu().numpy()
    if not isinstance(mask, np.ndarray) or mask.ndim != 2 or mask.dtype.kind not in "iub":
        shape = f" {mask.shape} of {mask.dtype}" if isinstance(mask, np.ndarray) else ""
        raise ValueError(
            "a mask is a PIL image of one channel, or integers [H, W], not "
            f"{type(mask).__name__}{shape}"
        )
    return by.numbers(RawValues(mask))


def _nearest(array: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """An array ``[h, w]`` at another (height, width), by nearest."""
    resized = Image.fromarray(array).resize(size[::-1], Image.Resampling.NEAREST)
    return np.array(resized)


def mask_output(
    ids: Tensor, size: tuple[int, int], output_type: OutputType, palette: Palette
) -> Image.Image | NDArray[np.uint8] | Tensor:
    """Class ids ``[h, w]`` at a photo's own size: an index image whose viewers see the anchors,
    NumPy uint8 ``[H, W]`` or torch int64 ``[H, W]``.
    """
    full = _nearest(ids.byte().cpu().numpy(), size)
    if output_type == "pt":
        return torch.from_numpy(full).long()
    if output_type == "np":
        return full
    image = Image.fromarray(full)
    image.putpalette(palette.png_palette())  # turns "L" into "P" and leaves the ids as they are
    return image


def margin_output(
    margin: Tensor, size: tuple[int, int], output_type: OutputType
) -> NDArray[np.float32] | Tensor:
    """A margin ``[h, w]`` at a photo's own size, as float32."""
    full = _nearest(margin.float().cpu().numpy(), size)
    return torch.from_numpy(full) if output_type == "pt" else full
