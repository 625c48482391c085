"""The features of FID and KID: Inception-v3 of 2015, as torch-fidelity computes them.

The network, its TensorFlow-like resizing to 299x299 and its weights, which are pytorch-fid's, are
the library's. It is no requirement of this project: the extra ``metrics`` brings it.
"""

from __future__ import annotations

import importlib
import io
import sys
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from semflow.metrics.weights import State, Unavailable, Weights

FEATURES = 2048
LIBRARY = "torch_fidelity"
INCEPTION = Weights(
    "Inception's weights for FID",
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
    "weights-inception-2015-12-05-6726825d.pth",
    "6726825d",
    "--metrics.inception",
    also=("pt_inception-2015-12-05-6726825d.pth",),  # pytorch-fid's name for it
)


class Inception(nn.Module):
    """uint8 images ``[B, 3, H, W]`` of any size to float32 ``[B, 2048]``.

    Images are resized to 299x299 by TensorFlow 1's bilinear interpolation, without antialiasing,
    within.
    """

    def __init__(self, state: State) -> None:
        """From a state dict.

        Raises:
            Unavailable: when torch-fidelity is not installed.
        """
        super().__init__()
        # The library would unpickle a file of others without restriction: it gets one of ours.
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        buffer.seek(0)
        self.network = network_class()(
            "inception-v3-compat", [str(FEATURES)], feature_extractor_weights_path=buffer
        )

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network(images)[0]
        return features

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process finds the library's class in its own way, which plain pickle would not.
        return type(self), (self.network.state_dict(),)


def network_class() -> Any:
    """torch-fidelity's ``FeatureExtractorInceptionV3``.

    Its package imports torchvision, which this network does not need, and which fails to import
    beside many a build of torch: then the network's own module is imported without the package.

    Raises:
        Unavailable: when the library is not installed.
    """
    spec = find_spec(LIBRARY)
    if spec is None or not spec.submodule_search_locations:
        raise Unavailable(
            "torch-fidelity is not installed: pip install 'semflow-ray[metrics]', or, beside a "
            "torch that no torchvision goes with, pip install --no-deps torch-fidelity"
        )
    before = {name for name in sys.modules if name.partition(".")[0] == LIBRARY}
    if LIBRARY not in before:
        package = ModuleType(LIBRARY)
        package.__path__ = list(spec.submodule_search_locations)
        sys.modules[LIBRARY] = package
    try:
        module = importlib.import_module(f"{LIBRARY}.feature_extractor_inceptionv3")
    finally:
        if LIBRARY not in before:
            for name in [name for name in sys.modules if name.partition(".")[0] == LIBRARY]:
                del sys.modules[name]
    return module.FeatureExtractorInceptionV3
