"""The model as people use it: segment a photo, synthesize one from a mask, save, load.

Shapes: B batch, H and W pixels, C latent channels, h and w latent size. Pixels are float in
[-1, 1], ids integers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from semflow.card import model_card
from semflow.codecs.anchors import Anchors
from semflow.codecs.base import MaskCodec
from semflow.codecs.blocks import Blocks
from semflow.codecs.refiner import Refiner
from semflow.flow.path import RectifiedFlow
from semflow.flow.solvers import Solution, Solver, integrate
from semflow.flow.symmflow import FLOWS
from semflow.masks.classmap import ClassMap
from semflow.masks.decoding import check_window
from semflow.masks.palette import Palette
from semflow.masks.perturb import Perturbation
from semflow.networks import trusted
from semflow.networks.autoencoder import DiffusersAutoencoder, load_autoencoder
from semflow.networks.base import Autoencoder
from semflow.networks.velocity import Velocity

FORMAT = 1
MOST_SIDE = 2**15
"""Pixels: more than any photo has, and few enough for memory."""
INDEX, AUTOENCODER, CARD = "model_index.json", "autoencoder", "README.md"
MASK_CODEC, REFINER = "mask_codec", "refiner"


class Segmentation(NamedTuple):
    """What a photo shows."""

    ids: Tensor  # [B, H, W] int64, class ids
    margin: Tensor  # [B, H, W] in [0, 1], see codec.Read
    picture: Tensor  # [B, 3, H, W] in about [-1, 1], the mask picture before it was decoded
    nfe: int


class Synthesis(NamedTuple):
    """What a mask could have been taken of."""

    images: Tensor  # [B, 3, H, W] in [-1, 1]
    nfe: int


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What a model was made for; a folder carries it, a caller may override it."""

    height: int
    width: int
    segment: Solver = field(default_factory=Solver)
    synthesize: Solver = field(default_factory=Solver)
    perturbation: Perturbation = field(default_factory=Perturbation)
    class_map: ClassMap | None = None
    """What the values of its corpus's own mask files mean, where that is known. Folders of earlier
    versions do not say: their ``ignore_ids`` are values without the ids that they belong to."""
    window: int = 1
    """Pixels a side over which class probabilities are averaged when a picture is read as a mask
    (:mod:`semflow.masks.decoding`); 1 takes the nearest anchor, as the paper does. A model with a
    refiner has no need of it."""

    def __post_init__(self) -> None:
        check_window(self.window)
        for side in (self.height, self.width):
            if not isinstance(side, int) or not 1 <= side <= MOST_SIDE:
                raise ValueError(f"a picture's sides lie in 1..{MOST_SIDE} pixels, not {side!r}")

    def to_json(self) -> dict[str, Any]:
        """JSON data, for :meth:`from_json`."""
        return asdict(self) | {"class_map": self.class_map and self.class_map.to_json()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Defaults:
        class_map = data.get("class_map")
        return cls(
            height=data["height"],
            width=data["width"],
            segment=Solver(**data["segment"]),
            synthesize=Solver(**data["synthesize"]),
            perturbation=Perturbation(**data["perturbation"]),
            class_map=class_map and ClassMap.from_json(class_map),
            window=data.get("window", 1),
        )


class SemFlow(nn.Module):
    """A velocity model between an autoencoder's latents, and the palette that gives them names."""

    def __init__(
        self,
        velocity: Velocity,
        autoencoder: Autoencoder,
        palette: Palette,
        defaults: Defaults,
        provenance: dict[str, Any] | None = None,
        path: RectifiedFlow | None = None,
        codec: Blocks | None = None,
        refiner: Refiner | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            velocity: the learned field.
            autoencoder: the frozen one that made the latents it was trained on.
            palette: anchors of the classes.
            defaults: picture size, solvers and perturbation to use when none are given.
            provenance: where it comes from, JSON: dataset fingerprint, steps, run.
            path: what the field was trained on; None is SemFlow's, straight from image to mask.
            codec: of the masks; None is the paper's, anchors through the autoencoder.
            refiner: of what is read of the masks; None takes the defaults' window.

        Raises:
            ValueError: when the perturbation could change a label with this palette, the size does
                not divide by the autoencoder's factor, the class map has other classes, or the
                codec's latents have another shape.
        """
        super().__init__()
        defaults.perturbation.check(palette)
        if defaults.class_map and defaults.class_map.classes != len(palette):
            raise ValueError(
                f"a class map of {defaults.class_map.classes} classes for {len(palette)} anchors"
            )
        autoencoder.latent_size(defaults.height, defaults.width)
        self.velocity, self.autoencoder, self.palette = velocity, autoencoder, palette
        self.defaults, self.provenance = defaults, provenance or {}
        self.path = path or RectifiedFlow()
        self.own_codec, self.refiner = codec, refiner
        if refiner and refiner.classes != len(palette):
            raise ValueError(f"a refiner for {refiner.classes} classes, not {len(palette)}")
        check_codec(codec, palette, autoencoder)

    @property
    def codec(self) -> MaskCodec:
        """How masks become latents, and are read from them."""
        return self.own_codec or Anchors(self.palette, self.autoencoder)

    @property
    def device(self) -> torch.device:
        """Where it computes; with accelerate's offloading, not where the weights wait meanwhile."""
        hooks = (getattr(network, "_hf_hook", None) for network in self.velocity.children())
        at = next((getattr(hook, "execution_device", None) for hook in hooks if hook), None)
        return next(self.velocity.parameters()).device if at is None else torch.device(at)

    def field(self, x: Tensor, t: Tensor) -> Tensor:
        """The velocity ``[B, C, h, w]`` at states ``x`` and times ``t`` ``[B]``, in float32."""
        return cast(Tensor, self.velocity(x, t).float())

    def flow(
        self, x: Tensor, t_0: float, t_1: float, solver: Solver, twin: Tensor | None = None
    ) -> Solution:
        """Carry states ``[B, C, h, w]`` along the flow in float32: 0 -> 1 towards the mask.

        ``path.depart`` makes a state of latents, ``path.arrive`` takes them out of one.
        With reversible-heun and the ``twin`` of the solution that arrived at ``x``, the way back
        ends where that one began.
        """
        return integrate(self.field, x.float(), t_0, t_1, solver, twin)

    @torch.inference_mode()
    def segment(self, images: Tensor, solver: Solver | None = None) -> Segmentation:
        """Segment images ``[B, 3, H, W]`` in [-1, 1], of the model's size or near it."""
        return self.segment_latents(self.autoencoder.encode(images.to(self.device)).mean, solver)

    @torch.inference_mode()
    def segment_latents(self, x_0: Tensor, solver: Solver | None = None) -> Segmentation:
        """Segment image latents ``[B, C, h, w]``."""
        x_1, nfe = self.mask_latents(x_0, solver)
        photos = self.autoencoder.decode(x_0.to(self.device)) if self.refiner else None
        found = self.codec.read(x_1, self.defaults.window, self.refiner, photos)
        return Segmentation(*found, nfe)

    def mask_latents(self, x_0: Tensor, solver: Solver | None = None) -> tuple[Tensor, int]:
        """Where image latents ``[B, C, h, w]`` end as a mask's, and the evaluations that took."""
        start = self.path.depart(x_0.to(self.device), 0.0)
        solution = self.flow(start, 0.0, 1.0, solver or self.defaults.segment)
        return self.path.arrive(solution.x, 1.0), solution.nfe

    @torch.inference_mode()
    def synthesize(
        self,
        ids: Tensor,
        seeds: Sequence[int] | None = None,
        *,
        solver: Solver | None = None,
        perturbation: Perturbation | None = None,
    ) -> Synthesis:
        """Make an image of each mask.

        Args:
            ids: class ids ``[B, H, W]``.
            seeds: one a mask, for its perturbation, and for the noise that symmflow starts from;
                None leaves the masks clean.
            solver: instead of the model's own.
            perturbation: instead of the model's own; checked against the palette.
        """
        x_1 = self.encode_masks(ids, seeds, perturbation)
        return self.synthesize_latents(x_1, solver, seeds=seeds)

    @torch.inference_mode()
    def encode_masks(
        self,
        ids: Tensor,
        seeds: Sequence[int] | None = None,
        perturbation: Perturbation | None = None,
    ) -> Tensor:
        """Latents ``[B, C, h, w]`` of masks ``[B, H, W]``, perturbed if there are ``seeds``.

        Raises:
            ValueError: when the perturbation could change a label.
        """
        perturbation = perturbation or self.defaults.perturbation
        perturbation.check(self.palette)
        return self.codec.encode(ids.to(self.device), perturbation, seeds)

    @torch.inference_mode()
    def synthesize_latents(
        self, x_1: Tensor, solver: Solver | None = None, *, seeds: Sequence[int] | None = None
    ) -> Synthesis:
        """Make an image of each mask latent ``[B, C, h, w]``; ``seeds`` are of symmflow's noise."""
        start = self.path.depart(x_1.to(self.device), 1.0, seeds)
        solution = self.flow(start, 1.0, 0.0, solver or self.defaults.synthesize)
        images = self.autoencoder.decode(self.path.arrive(solution.x, 0.0))
        return Synthesis(images.clamp(-1, 1), solution.nfe)

    def with_defaults(self, **changes: Any) -> SemFlow:
        """The same model with other defaults (fields of :class:`Defaults`)."""
        return self._with(replace(self.defaults, **changes), self.refiner)

    def with_refiner(self, refiner: Refiner) -> SemFlow:
        """The same model, whose masks are read through a refiner."""
        return self._with(self.defaults, refiner)

    def _with(self, defaults: Defaults, refiner: Refiner | None) -> SemFlow:
        return SemFlow(
            self.velocity, self.autoencoder, self.palette, defaults, self.provenance, self.path,
            self.own_codec, refiner,
        )  # fmt: skip

    def save(self, folder: str | Path) -> None:
        """Write one folder, diffusers' style: safetensors and JSON, all that using it takes.

        With a model card, ``README.md``, for people.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / INDEX).unlink(missing_ok=True)  # until it is whole again, it is no model
        self.velocity.save(folder)
        for part in (AUTOENCODER, MASK_CODEC, REFINER):
            for file in folder.glob(f"{part}/*.*"):  # another kind's would be taken for it
                file.unlink()
        self.autoencoder.save(folder / AUTOENCODER)
        if self.own_codec:
            self.own_codec.save(folder / MASK_CODEC)
        if self.refiner:
            self.refiner.save(folder / REFINER)
        index = self.index() | {"weights": trusted.digests(folder)}
        (folder / CARD).write_text(model_card(index))
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")  # last: it makes it whole

    def index(self) -> dict[str, Any]:
        """``model_index.json``: all but the weights, and what diffusers calls the networks."""
        inner, unet = self.autoencoder, self.velocity.unet
        if isinstance(inner, DiffusersAutoencoder):
            library, autoencoder = "diffusers", type(inner.model).__name__
        else:
            library, autoencoder = type(inner).__module__, type(inner).__name__
        return {
            "_class_name": "SemFlow",
            "format": FORMAT,
            "flow": self.path.name,
            "unet": ["diffusers", type(getattr(unet, "_orig_mod", unet)).__name__],
            "autoencoder": [library, autoencoder],
            **({"mask_codec": self.own_codec.identity()} if self.own_codec else {}),
            **({"refiner": self.refiner.identity()} if self.refiner else {}),
            "preconditioned": self.velocity.preconditioning is not None,
            "defaults": self.defaults.to_json(),
            "palette": self.palette.to_json(),
            "provenance": self.provenance,
        }

    @classmethod
    def load(cls, folder: str | Path) -> SemFlow:
        """Read a folder that :meth:`save` wrote, in evaluation mode.

        Raises:
            ValueError: when the folder is no SemFlow model, a later version's, damaged, or not to
                be trusted (:mod:`semflow.networks.trusted`).
        """
        path = Path(folder) / INDEX
        if not path.is_file():
            raise ValueError(f"{folder} is no SemFlow model: it has no {INDEX}")
        index = trusted.read_json(path)
        if index.get("_class_name") != "SemFlow" or index.get("format") != FORMAT:
            raise ValueError(
                f"{path} is a {index.get('_class_name')} of format {index.get('format')}; "
                f"this version reads SemFlow, format {FORMAT}"
            )
        trusted.check_digests(folder, index.get("weights"))
        try:
            palette, defaults = (
                Palette.from_json(index["palette"]), Defaults.from_json(index["defaults"])
            )  # fmt: skip
            path_, provenance = FLOWS[index.get("flow", "semflow")](), dict(index["provenance"])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(
                f"{path} is not as SemFlow writes it ({type(error).__name__}: {error}): it was "
                "changed by hand or damaged; copy the model's folder again"
            ) from error
        codec = Blocks.load(Path(folder) / MASK_CODEC, palette) if "mask_codec" in index else None
        classes = len(palette)
        refiner = Refiner.load(Path(folder) / REFINER, classes) if "refiner" in index else None
        model = cls(
            Velocity.load(folder), load_autoencoder(Path(folder) / AUTOENCODER), palette, defaults,
            provenance, path_, codec, refiner,
        )  # fmt: skip
        return model.eval().requires_grad_(False)


def check_codec(codec: Blocks | None, palette: Palette, autoencoder: Autoencoder) -> None:
    """Refuse a codec of masks whose latents are not like the photo's, or a palette without one.

    Raises:
        ValueError: saying what differs.
    """
    if codec is None:
        if palette.style is not None:
            raise ValueError("the palette's colours are for people alone: a mask codec is missing")
        return
    own, photo = (
        (codec.shape.channels, codec.shape.factor),
        (autoencoder.channels, autoencoder.factor),
    )
    if own != photo:
        raise ValueError(f"the mask codec has {own[0]} channels for blocks of {own[1]} pixels, the "
                         f"autoencoder {photo[0]} for {photo[1]}")  # fmt: skip
    if palette.style != codec.shape.style:
        raise ValueError(f"the palette knows of {palette.style} channels for a perturbation, the "
                         f"mask codec has {codec.shape.style}")  # fmt: skip
