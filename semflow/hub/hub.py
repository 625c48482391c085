"""A model's folder by its path or its id on a model hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

FILES = ("*.json", "*.safetensors", "*README.md")
"""What is fetched: no pickles."""


def find_model(
    source: str | Path,
    subfolder: str | None = None,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
) -> Path:
    """The folder of a model; one on the hub is fetched, as far as using it takes.

    Args:
        source: a folder, or a hub id, to which the options after ``subfolder`` belong.
        subfolder: of it, where it holds several models.
        revision: branch, tag or commit.
        token: for what is not public.
        cache_dir: where downloads are kept.
        local_files_only: take what was downloaded before.
        force_download: download again.

    Raises:
        ValueError: when there is no such folder, and no such model that can be reached.
    """
    inside = subfolder or ""
    if Path(source).is_dir():
        return Path(source) / inside
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    options: dict[str, Any] = {
        "revision": revision, "token": token, "cache_dir": cache_dir,
        "local_files_only": local_files_only, "force_download": force_download,
    }  # fmt: skip
    wanted = [f"{inside}/{pattern}" if inside else pattern for pattern in FILES]
    try:
        return Path(snapshot_download(str(source), allow_patterns=wanted, **options)) / inside
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise ValueError(
            f"no model {str(source)!r}: it is neither a folder nor a hub id that can be reached "
            f"({error})"
        ) from error
