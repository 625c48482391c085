"""Pages: their templates, pictures inside them, and where they go."""

from __future__ import annotations

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, Template, select_autoescape

from infra import storage, tracking


def embedded(images: dict[str, bytes]) -> dict[str, str]:
    """Pictures as a page holds them: base64."""
    return {name: base64.b64encode(data).decode() for name, data in images.items()}


def publish(run: tracking.Run, output: str, page: str, images: dict[str, bytes]) -> None:
    """Write a page and its pictures to ``output``, and give them to MLflow."""
    storage.write_bytes(storage.join(output, "report.html"), page.encode())
    run.file("report.html", page.encode())
    for name, data in images.items():
        storage.write_bytes(storage.join(output, f"{name}.png"), data)
        run.picture(name, data)


def template(name: str, folder: Path) -> Template:
    """One of the pages in ``folder``; what it shows of users' data is escaped."""
    where = FileSystemLoader([folder, Path(__file__).parent])  # style.html is here
    environment = Environment(loader=where, autoescape=select_autoescape())
    return environment.get_template(name)
