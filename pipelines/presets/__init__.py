"""Presets: named configurations, chosen by the first word of the command line.

A file holds one data set's, for encode and train; its docstring, which ``--help`` shows, has the
commands from the corpus to a report.
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from types import ModuleType

from pipelines.corpora.known import KNOWN
from pipelines.dataset.config import EncodeConfig
from pipelines.presets import camvid, celebamask, cityscapes, cocostuff, digits
from pipelines.training.config import TrainConfig

_FILES: dict[str, ModuleType] = {
    "camvid": camvid,
    "digits": digits,
    "celebamask": celebamask,
    "cityscapes": cityscapes,
    "cocostuff": cocostuff,
}
_SIBLINGS: dict[str, ModuleType] = {
    "celebamask-parts": celebamask,
    "cityscapes-train-ids": cityscapes,
}
"""The same corpora in another layout; latents and training are the same."""


def _teaches(file: ModuleType) -> str:
    return inspect.cleandoc(file.__doc__ or "")


ENCODE: dict[str, tuple[str, EncodeConfig]] = {
    name: (_teaches(file), file.ENCODE) for name, file in _FILES.items()
}
ENCODE |= {
    name: (
        f"{KNOWN[name][0]}\n\n{_teaches(file)}",
        replace(file.ENCODE, corpus=KNOWN[name][1]),
    )
    for name, file in _SIBLINGS.items()
}
ENCODE |= {
    name: (about, EncodeConfig(corpus=corpus))
    for name, (about, corpus) in KNOWN.items()
    if name not in ENCODE
}

TRAIN: dict[str, tuple[str, TrainConfig]] = {
    name: (_teaches(file), file.TRAIN) for name, file in _FILES.items()
}
