"""The model as a pipeline of diffusers: PIL, NumPy or torch in and out, photos of any size.

    pipe = SemFlowPipeline.from_pretrained("out/demo/run/model")
    masks = pipe.segment(photos).masks
    images = pipe.synthesize(masks, num_images_per_mask=4, generator=generator).images

A skin: what is computed is :class:`~semflow.sampler.SemFlow`'s, and so is the folder.

Time here is that of the paper's code: 0 at the photo, 1 at the mask, and the UNet is fed 1000 t.
For diffusers' flow-matching schedulers, whose ``sigma`` falls from 1 to 0 while they sample, that
is ``sigma = t`` when synthesizing, and ``sigma = 1 - t`` with ``invert_sigmas=True`` when
segmenting; their ``timesteps`` are 1000 t both ways. With the sigmas of
:meth:`semflow.Solver.times`, without the last, FlowMatchEulerDiscreteScheduler makes the steps of
the solver ``euler``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import Tensor

from semflow.codecs.blocks import Blocks
from semflow.codecs.refiner import Refiner
from semflow.flow.path import FlowName
from semflow.flow.solvers import Solver, SolverName
from semflow.flow.symmflow import FLOWS
from semflow.hub.hub import find_model
from semflow.hub.images import (
    OutputType,
    check_output_type,
    listed,
    margin_output,
    mask_output,
    read_mask,
    read_photo,
)
from semflow.hub.pipeline_output import SemFlowSegmentationOutput, SemFlowSynthesisOutput
from semflow.masks.given import GivenMasks, MasksAre
from semflow.masks.palette import Palette
from semflow.masks.perturb import Perturbation, draw_seeds
from semflow.networks.autoencoder import DiffusersAutoencoder
from semflow.networks.base import Autoencoder
from semflow.networks.precondition import Preconditioning
from semflow.networks.velocity import Velocity
from semflow.sampler import Defaults, SemFlow


class SemFlowPipeline(DiffusionPipeline):
    """Segments photos, and synthesizes photos from masks."""

    # Decoding needs the room that the UNet had.
    model_cpu_offload_seq = "unet->autoencoder"  # type: ignore[assignment]
    _optional_components = ["mask_codec", "refiner"]  # noqa: RUF012 (diffusers declares it so)
    # Small and asked for at both ends: it stays where it computes.
    _exclude_from_cpu_offload = ["mask_codec", "refiner"]  # noqa: RUF012

    def __init__(
        self,
        unet: torch.nn.Module,
        autoencoder: torch.nn.Module,
        palette: Palette | dict[str, Any] | None = None,
        defaults: Defaults | dict[str, Any] | None = None,
        provenance: dict[str, Any] | None = None,
        null_prompt: Tensor | None = None,
        flow: FlowName = "semflow",
        preconditioning: Preconditioning | dict[str, Any] | None = None,
        mask_codec: Blocks | None = None,
        refiner: Refiner | None = None,
    ) -> None:
        """Put the parts together; :meth:`from_pretrained` and :meth:`of` are the usual ways.

        Args:
            unet: the velocity, a UNet of diffusers.
            autoencoder: of diffusers, or one of ours.
            palette: anchors of the classes, or their JSON.
            defaults: picture size, solvers and perturbation, or their JSON.
            provenance: where the model comes from.
            null_prompt: ``[1, L, D]``, for a conditional UNet.
            flow: what the velocity was trained on.
            preconditioning: what of the velocity goes around the network, or its JSON.
            mask_codec: of a model whose masks have one; None is anchors through the autoencoder.
            refiner: of what is read of the masks, if the model has one.

        Raises:
            ValueError: when the parts do not fit (see :class:`~semflow.sampler.SemFlow`).
        """
        super().__init__()
        if palette is None or defaults is None:  # optional only in diffusers' eyes: not a network
            raise ValueError("a SemFlowPipeline needs a palette and defaults")
        self.register_modules(
            unet=unet, autoencoder=autoencoder, mask_codec=mask_codec, refiner=refiner
        )
        if isinstance(preconditioning, dict):
            preconditioning = Preconditioning.from_json(preconditioning)
        self.semflow = SemFlow(
            Velocity(unet, null_prompt, preconditioning),
            _as_autoencoder(autoencoder),
            palette if isinstance(palette, Palette) else Palette.from_json(palette),
            defaults if isinstance(defaults, Defaults) else Defaults.from_json(defaults),
            provenance,
            FLOWS[flow](),
            mask_codec,
            refiner,
        )
        self.register_to_config(
            palette=self.semflow.palette.to_json(),
            defaults=self.semflow.defaults.to_json(),
            provenance=self.semflow.provenance,
            flow=flow,
            preconditioning=preconditioning.to_json() if preconditioning else None,
        )
        if isinstance(autoencoder, Autoencoder):  # ours are small and have no hooks: they stay
            self.model_cpu_offload_seq = "unet"
            self._exclude_from_cpu_offload = ["autoencoder", "mask_codec", "refiner"]

    def __setattr__(self, name: str, value: Any) -> None:
        """A network that is exchanged, say for a compiled one, is exchanged in the model too."""
        super().__setattr__(name, value)
        if name == "unet" and "semflow" in self.__dict__:
            self.semflow.velocity.unet = value
        if name == "autoencoder" and "semflow" in self.__dict__:
            self.semflow.autoencoder = _as_autoencoder(value)

    @classmethod
    def of(cls, model: SemFlow) -> SemFlowPipeline:
        """The pipeline of a model; they share their networks."""
        inner = model.autoencoder
        return cls(
            model.velocity.unet,
            inner.model if isinstance(inner, DiffusersAutoencoder) else inner,
            model.palette,
            model.defaults,
            model.provenance,
            model.velocity.exact_prompt,
            model.path.name,
            model.velocity.preconditioning,
            model.own_codec,
            model.refiner,
        )

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        subfolder: str | None = None,
        torch_dtype: torch.dtype | None = None,
        dtype: torch.dtype | None = None,
        unet: torch.nn.Module | None = None,
        autoencoder: torch.nn.Module | None = None,
        use_safetensors: bool | None = None,
        **hub: Any,
    ) -> SemFlowPipeline:
        """Load a folder that ``train.py`` or :meth:`save_pretrained` wrote, or one on a hub.

        Args:
            pretrained_model_name_or_path: a folder, or a hub id.
            subfolder: of it, where it holds several models.
            torch_dtype: of the networks; latents, solver and palette stay float32.
            dtype: the same, as newer versions of diffusers spell it.
            unet: instead of the folder's.
            autoencoder: instead of the folder's.
            use_safetensors: nothing else is read; False is refused.
            hub: ``revision``, ``token``, ``cache_dir``, ``local_files_only``, ``force_download``.

        Raises:
            ValueError: when there is no SemFlow model, or pickles are asked for.
        """
        if use_safetensors is False:
            raise ValueError("a SemFlow folder is safetensors and JSON: use_safetensors=False")
        pipe = cls.of(SemFlow.load(find_model(pretrained_model_name_or_path, subfolder, **hub)))
        for name, network in (("unet", unet), ("autoencoder", autoencoder)):
            if network is not None:
                setattr(pipe, name, network)
        pipe.register_to_config(_name_or_path=str(pretrained_model_name_or_path))
        if chosen := dtype or torch_dtype:
            pipe.to(chosen)
        return pipe

    def save_pretrained(  # type: ignore[override]
        self, save_directory: str | Path, safe_serialization: bool = True, **kwargs: Any
    ) -> None:
        """Write the folder that :meth:`semflow.SemFlow.save` writes.

        Raises:
            ValueError: for options that this format does not have: pickles, variants.
        """
        refused = [name for name, value in kwargs.items() if value]
        if refused or not safe_serialization:
            raise ValueError(
                f"a SemFlow folder is safetensors and JSON: no {refused or 'pickles'} (to publish "
                "it, save it, and use 'hf upload')"
            )
        self.semflow.save(save_directory)

    @property
    def dtype(self) -> torch.dtype:
        """Of the UNet: the lossless autoencoder has none."""
        return cast(torch.dtype, self.unet.dtype)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class id."""
        return self.semflow.palette.names

    @torch.no_grad()
    def segment(
        self,
        images: Any,
        *,
        num_inference_steps: int | None = None,
        solver: Solver | SolverName | None = None,
        batch_size: int = 16,
        output_type: OutputType = "pil",
    ) -> SemFlowSegmentationOutput:
        """Class ids of photos, at each photo's own size.

        Args:
            images: a photo or several: PIL; NumPy ``[H, W, 3]``; torch ``[3, H, W]``; uint8, or
                float in [0, 1].
            num_inference_steps: of the solver, instead of the model's own.
            solver: instead of the model's own, or its name.
            batch_size: photos at once.
            output_type: "pil", "np" or "pt".

        Raises:
            ValueError: for what is no photo, with what is expected.
        """
        check_output_type(output_type)
        model, size = self.semflow, self._size
        chosen = _chosen(model.defaults.segment, solver, num_inference_steps)
        _at_least_one(batch_size=batch_size)
        photos = [read_photo(image, *size) for image in listed(images, 3)]
        output = SemFlowSegmentationOutput(masks=[], margins=[], nfe=0)
        with self._evaluations(chosen, math.ceil(len(photos) / batch_size)):
            for start in range(0, len(photos), batch_size):
                batch = photos[start : start + batch_size]
                found = model.segment(torch.stack([pixels for pixels, _ in batch]), chosen)
                for ids, margin, (_, own) in zip(found.ids, found.margin, batch, strict=True):
                    output.masks.append(mask_output(ids, own, output_type, model.palette))
                    output.margins.append(margin_output(margin, own, output_type))
                output.nfe = max(output.nfe, found.nfe)
        self.maybe_free_model_hooks()
        return output

    @torch.no_grad()
    def synthesize(
        self,
        masks: Any,
        *,
        num_images_per_mask: int = 1,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        seeds: Sequence[int] | None = None,
        num_inference_steps: int | None = None,
        solver: Solver | SolverName | None = None,
        perturbation: Perturbation | None = None,
        masks_are: MasksAre | None = None,
        batch_size: int = 16,
        output_type: OutputType = "pil",
    ) -> SemFlowSynthesisOutput:
        """Images of masks, at the model's size.

        Args:
            masks: a mask or several: PIL with one channel; NumPy or torch integers ``[H, W]``.
                Their values are class numbers, 0..K-1, and 255 for no class.
            num_images_per_mask: each from a perturbation of its own.
            generator: draws the seeds of the perturbations; or one generator an image.
            seeds: of the perturbations, one an image, instead of drawing them.
            num_inference_steps: of the solver, instead of the model's own.
            solver: instead of the model's own, or its name.
            perturbation: instead of the model's own.
            masks_are: "classes" if they have class numbers, "corpus" if they have the values of
                the corpus's own mask files (PIL may then be RGB, if these are). None is "classes",
                but a PIL mask that could be both and is not in this model's colours is refused.
            batch_size: images at once.
            output_type: "pil", "np" or "pt".

        Raises:
            ValueError: for what is no mask, with what is expected; for a value that is not taken;
                for a perturbation that could change a label.
        """
        check_output_type(output_type)
        model = self.semflow
        chosen = _chosen(model.defaults.synthesize, solver, num_inference_steps)
        _at_least_one(batch_size=batch_size, num_images_per_mask=num_images_per_mask)
        given = GivenMasks(
            classes=len(model.palette), corpus=model.defaults.class_map, masks_are=masks_are,
            option="masks_are='{}'",
        )  # fmt: skip
        ids = torch.stack(
            [read_mask(mask, *self._size, model.palette, given) for mask in listed(masks, 2)]
        ).repeat_interleave(num_images_per_mask, 0)
        drawn = draw_seeds(len(ids), generator, seeds)
        images, nfe = [], 0
        with self._evaluations(chosen, math.ceil(len(ids) / batch_size)):
            for start in range(0, len(ids), batch_size):
                part = slice(start, start + batch_size)
                made = model.synthesize(
                    ids[part], drawn[part], solver=chosen, perturbation=perturbation
                )
                images.append(made.images.float().cpu())
                nfe = max(nfe, made.nfe)
        self.maybe_free_model_hooks()
        processor = VaeImageProcessor(vae_scale_factor=model.autoencoder.factor)
        found = processor.postprocess(torch.cat(images), output_type=output_type)
        return SemFlowSynthesisOutput(images=found, seeds=drawn, nfe=nfe)

    @property
    def _size(self) -> tuple[int, int]:
        return self.semflow.defaults.height, self.semflow.defaults.width

    @contextmanager
    def _evaluations(self, solver: Solver, batches: int) -> Iterator[None]:
        """Show the evaluations of the UNet that ``batches`` take; dopri5 cannot say how many."""
        total = math.inf if solver.nfe is None else batches * solver.nfe
        with self.progress_bar(total=total) as bar:
            hook = self.semflow.velocity.register_forward_hook(lambda *_: bar.update() and None)
            try:
                yield
            finally:
                hook.remove()


def _as_autoencoder(network: torch.nn.Module) -> Autoencoder:
    return network if isinstance(network, Autoencoder) else DiffusersAutoencoder(network)


def _at_least_one(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} is at least 1, not {number}")


def _chosen(default: Solver, solver: Solver | str | None, steps: int | None) -> Solver:
    """The solver to use: the given one or the model's own, with ``steps`` equal steps if given."""
    if isinstance(solver, Solver):
        default = solver
    elif solver is not None:
        default = replace(default, name=cast(SolverName, solver), grid=())
    return default if steps is None else replace(default, steps=steps, grid=())
