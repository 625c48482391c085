"""SemFlow: one rectified flow that labels photos and synthesizes them (arXiv 2405.20282).

The method alone: torch and diffusers, nothing of Ray, MLflow, pyarrow or object storage.
"""

from typing import TYPE_CHECKING, Any

from semflow.flow.objective import Objective
from semflow.flow.path import RectifiedFlow
from semflow.flow.solvers import Solver, integrate
from semflow.flow.symmflow import FLOWS, SymmetricFlow
from semflow.masks.palette import IGNORE, Palette, make_palette
from semflow.masks.perturb import Perturbation
from semflow.metrics.confusion import ConfusionMatrix
from semflow.networks.autoencoder import load_autoencoder
from semflow.networks.base import Autoencoder
from semflow.networks.ema import EMA
from semflow.networks.velocity import Velocity, make_velocity
from semflow.sampler import SemFlow
from semflow.tiles import segment_tiled
from semflow.version import VERSION

if TYPE_CHECKING:
    from semflow.hub.pipeline import SemFlowPipeline as SemFlowPipeline

__version__ = VERSION

__all__ = [
    "EMA",
    "FLOWS",
    "IGNORE",
    "Autoencoder",
    "ConfusionMatrix",
    "Objective",
    "Palette",
    "Perturbation",
    "RectifiedFlow",
    "SemFlow",
    "Solver",
    "SymmetricFlow",
    "Velocity",
    "integrate",
    "load_autoencoder",
    "make_palette",
    "make_velocity",
    "segment_tiled",
]


def __getattr__(name: str) -> Any:
    """``SemFlowPipeline``, when it is asked for: diffusers' pipelines take seconds to import."""
    if name == "SemFlowPipeline":
        from semflow.hub.pipeline import SemFlowPipeline

        return SemFlowPipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
