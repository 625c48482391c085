"""The model card: what a model's folder says of itself, for people and for model hubs.

Made from ``model_index.json`` alone, so that a card never says more than the folder knows.
"""

from __future__ import annotations

from typing import Any

USE = """\
from PIL import Image
from semflow import SemFlowPipeline

pipe = SemFlowPipeline.from_pretrained("PATH")
mask = pipe.segment(Image.open("photo.jpg")).masks[0]
mask.save("mask.png")
"""
"""Five lines; PATH is a folder or a hub id."""

_CARD = """\
---
library_name: semflow
pipeline_tag: image-segmentation
tags:
- semflow
- diffusers
- rectified-flow
- image-segmentation
- mask-to-image
# license: not stated. Whoever publishes this model says here which one holds.
---
# SemFlow: {classes} classes at {width}x{height} pixels

One rectified flow ([SemFlow, arXiv 2405.20282](https://arxiv.org/abs/2405.20282)) that segments
photos and synthesizes photos from masks. It is used with the package `semflow`:

```python
{use}```

From a mask: `pipe.synthesize(mask, num_images_per_mask=4).images`. Photos of any size are brought
to {width}x{height}, masks come back at the photo's own size.

## What it is

- Flow: {flow}.
- Velocity: a `{unet}` of diffusers, in `unet/`{around}.
- Autoencoder: {autoencoder}, in `autoencoder/`{codec}.
- Segmenting as saved: {segment}. Synthesizing: {synthesize}, from masks perturbed by
  {kind} noise of at most {amplitude:g} ({unit}). `model_index.json` says what holds now.

| id | class | anchor, RGB | in its corpus's files |
|--:|---|---|---|
{rows}

Masks that it makes, and masks that it is given, hold these ids, and 255 for no class. {files}

## How it was trained

{training}

## What is not known

- How good it is: the folder holds no scores.
- Which photos it was trained on, beyond what is above, and on which terms they and these weights
  may be used.
- What it does with photos that look unlike those; it has no class for what it has not seen.
"""

_FLOWS = {
    "semflow": "SemFlow's, straight from image to mask and back",
    "symmflow": "SymmFlow's ([arXiv 2506.10634](https://arxiv.org/abs/2506.10634)), noise to image "
    "beside mask to noise",
}

_AROUND = ", with a part that goes around it (`preconditioning.json`)"

_REFINED = ", read by a small network that also looks at the photo (`refiner/`)"

_CODEC = (
    "; masks have a mask codec of their own, in `mask_codec/`, and the colours below are for\n"
    "  people"
)

_TOLD = (
    "velocity", "init", "steps", "batch_size", "lr", "schedule", "ema_decay", "precision", "seed",
)  # fmt: skip
"""What a card tells of a training's configuration, in this order."""


def model_card(index: dict[str, Any]) -> str:
    """The card, Markdown with YAML front matter, of a model with this ``model_index.json``."""
    palette, defaults = index["palette"], index["defaults"]
    colours = ["{}, {}, {}".format(*colour) for colour in palette["colours"]]
    class_map = defaults.get("class_map")
    values = _values(class_map) if class_map else ["?"] * len(colours)
    return _CARD.format(
        use=USE,
        classes=len(palette["names"]),
        height=defaults["height"],
        width=defaults["width"],
        flow=_FLOWS[index.get("flow", "semflow")],
        unet=_class_name(index, "unet"),
        around=_AROUND if index.get("preconditioned") else "",
        autoencoder=f"`{_class_name(index, 'autoencoder')}`",
        codec=_CODEC if "mask_codec" in index else "",
        unit="of a code's channel" if "mask_codec" in index else "pixels in [-1, 1]",
        segment=_solver(defaults["segment"])
        + (_REFINED if "refiner" in index else _reading(defaults.get("window", 1))),
        synthesize=_solver(defaults["synthesize"]),
        **defaults["perturbation"],
        rows="\n".join(
            f"| {number} | {_cell(name)} | {colour} | {value} |"
            for number, (name, colour, value) in enumerate(
                zip(palette["names"], colours, values, strict=True)
            )
        ),
        files=_files(class_map),
        training=_training(index["provenance"]),
    )


def _values(class_map: dict[str, Any]) -> list[str]:
    """How each class stands in the files of the corpus."""
    return [str(value) for value in class_map["colours"] or class_map["ids"]]


def _files(class_map: dict[str, Any] | None) -> str:
    """What else there is to know of the corpus's own files."""
    if not class_map:
        return "What the\nfiles of its corpus hold, the folder does not say."
    ignored = ", ".join(map(str, class_map["ignore_ids"])) or "none"
    return f"In the\nfiles of its corpus the values of no class are: {ignored}." + (
        " So is any other." if class_map["ignore_rest"] else ""
    )


def _class_name(index: dict[str, Any], part: str) -> str:
    return str(index[part][1]) if part in index else "network"  # early folders do not name it


def _cell(text: str) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def _solver(solver: dict[str, Any]) -> str:
    if solver["name"] == "dopri5":
        return f"dopri5, tolerances {solver['rtol']:g} and {solver['atol']:g}"
    steps = "1 step" if solver["steps"] == 1 else f"{solver['steps']} steps"
    return f"{solver['name']}, {steps}{' of its own grid' if solver['grid'] else ''}"


def _reading(window: int) -> str:
    if window == 1:
        return ", each pixel by its nearest anchor"
    return f", each pixel by the class probabilities of {window}x{window} pixels around it"


def _training(provenance: dict[str, Any]) -> str:
    """What the provenance tells: its plain values, and the main ones of its configuration."""
    plain = {key: provenance[key] for key in provenance if _tells(key, provenance[key])}
    config = provenance.get("config") or {}
    plain |= {key: config[key] for key in _TOLD if config.get(key) is not None}
    if not plain:
        return "The folder does not say."
    return "\n".join(
        [f"- {key.replace('_', ' ')}: {_cell(value)}" for key, value in plain.items()]
        + ["", "`model_index.json` has the rest under `provenance`."]
    )


def _tells(key: str, value: Any) -> bool:
    """Whether it is a plain value, and no path, which means nothing elsewhere."""
    return isinstance(value, str | int | float) and key != "data"
