"""Ray's private doors: what we use of Ray 2.60 that it does not promise to keep. One is left.

Others went once their public way was measured to cost nothing (docs/measurements/ray.md).
"""

from __future__ import annotations

import time
from typing import Any

from ray.data import DataContext
from ray.data._internal.execution.execution_callback import ExecutionCallback

PAUSE_SECONDS = 0.1


class _Pause(ExecutionCallback):
    def on_execution_step(self, executor: Any) -> None:
        time.sleep(PAUSE_SECONDS)


def pause(context: DataContext) -> None:
    """A pause in each round of Ray Data's scheduler.

    Its loop waits for tasks that are *unready*; where outputs are ready and the next stage is busy,
    as decoded pictures wait for an encoder on a GPU, it spins and takes most of a core from the
    stages (measured: 67 % of one; with the pause 4 %). The public way is to let it spin; labelling
    as with a GPU was 4 % slower so on two cores. It could go once Ray waits for room, too.
    """
    context.custom_execution_callback_classes = [_Pause]
