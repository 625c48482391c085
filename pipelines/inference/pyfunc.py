"""The model as MLflow loads and serves it: photos in, masks out.

    model = mlflow.pyfunc.load_model("models:/semflow/1")
    masks = model.predict(photos)      # uint8 [N, H, W, 3] -> class ids, uint8 [N, H, W]

MLflow keeps this file and the package ``semflow`` with the model, so that it loads where this
project is not installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel
from numpy.typing import NDArray
from torch.nn import functional

import semflow

BATCH = 16


class Masks(PythonModel):
    """Photos of any size to masks of that size."""

    def load_context(self, context: Any) -> None:
        self.model = semflow.SemFlow.load(context.artifacts["semflow"])
        self.model.to("cuda" if torch.cuda.is_available() else "cpu")

    def predict(
        self, context: Any, model_input: NDArray[Any], params: dict[str, Any] | None = None
    ) -> NDArray[np.uint8]:
        """Class ids ``[N, H, W]`` of photos ``[N, H, W, 3]``."""
        size = self.model.defaults.height, self.model.defaults.width
        masks = []
        for start in range(0, len(model_input), BATCH):
            photos = torch.from_numpy(np.asarray(model_input[start : start + BATCH]))
            pixels = functional.interpolate(
                photos.movedim(-1, 1).float(), size, mode="bicubic", antialias=True
            )
            ids = self.model.segment(pixels.clamp(0, 255) / 127.5 - 1).ids
            full = functional.interpolate(ids[:, None].float(), photos.shape[1:3])
            masks.append(full[:, 0].byte().cpu().numpy())
        return np.concatenate(masks)


def logged() -> dict[str, Any]:
    """What MLflow needs to know of it, besides the model's folder."""
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Schema, TensorSpec

    needed = ("torch", "diffusers", "safetensors", "numpy", "pillow")
    return {
        "python_model": __file__,
        "code_paths": [str(Path(semflow.__file__).parent)],
        "pip_requirements": list(needed),
        "signature": ModelSignature(
            Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1, 3))]),
            Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1))]),
        ),
    }


set_model(Masks())
