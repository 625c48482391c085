"""Weights of the networks of metrics: by path, from torch.hub's cache, or fetched."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

State = Mapping[str, Tensor]


class Unavailable(RuntimeError):
    """A network cannot be had here; the message says why, and how to get it."""


@dataclass(frozen=True)
class Weights:
    """A published file of weights."""

    name: str
    """What it is, for people."""
    url: str
    sha256: str
    """Its digest, or the beginning of it that its publisher gives."""
    option: str
    """Of the command line, that names a file."""
    also: tuple[str, ...] = ()
    """Other names under which the same file is handed out."""

    def find(self, path: str | Path | None = None, *, download: bool = False) -> State:
        """The state dict: of ``path``, else from torch.hub's cache, else fetched into it.

        Raises:
            FileNotFoundError: when there is nothing at ``path``.
            Unavailable: when it is not there and not to be fetched, or cannot be.
            ValueError: when a file is not the published one.
        """
        if path is not None:
            if not Path(path).is_file():
                raise FileNotFoundError(f"{self.option} names {path}, where there is no file")
            return self.read(Path(path))
        file = Path(self.url.rpartition("/")[2])
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        for name in (file.name, *self.also):
            if (folder / name).is_file():
                return self.read(folder / name)
        if not download:
            raise Unavailable(
                f"{self.name} are not here: give them with {self.option} FILE, or fetch them once "
                f"with --metrics.download ({self.url} to {folder})"
            )
        folder.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(self.url, str(folder / file), self.sha256)
        except (OSError, RuntimeError) as error:
            raise Unavailable(f"{self.name} could not be fetched: {error}") from error
        return self.read(folder / file)

    def read(self, path: Path) -> State:
        """The state dict of a file, on the CPU; no code in it is run.

        Raises:
            ValueError: when it is not the published one.
        """
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if not digest.startswith(self.sha256):
            raise ValueError(
                f"{path} are not {self.name}: its SHA-256 is {digest}, that of {self.url} begins "
                f"with {self.sha256}"
            )
        state: State = torch.load(path, map_location="cpu", weights_only=True)
        return state
