"""Ray Tune, started or gone on with."""

from __future__ import annotations

from typing import Any, cast

from ray import tune
from ray.tune.logger import JsonLoggerCallback

from infra import storage


def fit(
    trainable: Any,
    space: dict[str, Any],
    output: str,
    name: str,
    tune_config: tune.TuneConfig,
    **options: Any,
) -> list[tuple[Any, tune.Result]]:
    """Run a search to its end; what an interrupted one had finished is not run again.

    Args:
        trainable: what a trial runs.
        space: Tune's parameter space; the same as before, if it goes on.
        output: folder or URI of the search.
        name: of Tune's folder there.
        tune_config: how a new search goes; one that goes on keeps its own.
        options: of a new search's ``RunConfig``; callbacks are added to those that write results.

    Returns:
        Tune's trials, each with its result. A restored search has them in another order, and the
        result of a trial that could not even start has no configuration: its trial does.
    """
    filesystem, path = storage.arrow(output)
    if tune.Tuner.can_restore(f"{path}/{name}", storage_filesystem=filesystem):
        tuner = tune.Tuner.restore(
            f"{path}/{name}", trainable, param_space=space, storage_filesystem=filesystem,
            restart_errored=True,
        )  # fmt: skip
    else:
        callbacks = [*options.pop("callbacks", []), cast(Any, JsonLoggerCallback)()]
        tuner = tune.Tuner(
            trainable,
            param_space=space,
            tune_config=tune_config,
            run_config=tune.RunConfig(
                name=name, storage_path=path, storage_filesystem=filesystem, verbose=0,
                callbacks=callbacks, **options,
            ),
        )  # fmt: skip
    results = tuner.fit()
    trials = cast(Any, results)._experiment_analysis.trials
    return [(trial, results[i]) for i, trial in enumerate(trials)]
