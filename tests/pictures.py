"""Corpora for tests: small real folders, good and bad."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from semflow import Palette

CLASSES = ("sky", "road", "tree")
PALETTE = Palette(
    ((36, 62, 187), (125, 140, 1), (222, 180, 195)), CLASSES, ignore_colour=(128, 128, 128)
)
"""As one machine found ``sphere``'s: another finds others, and what a random model makes of them
would differ, too."""


def encoded(array: np.ndarray | Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def scene(seed: int, height: int = 48, width: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """A photo and its ids: three bands whose colours follow the class, with noise."""
    rng = np.random.default_rng(seed)
    ids = np.zeros((height, width), np.uint8)
    first, second = sorted(rng.integers(4, height - 4, 2))
    ids[first:], ids[second:] = 1, 2
    colours = np.array([[120, 170, 240], [90, 90, 90], [40, 130, 50]], np.float64)
    image = colours[ids] + rng.normal(0, 8, (height, width, 3))
    return image.clip(0, 255).astype(np.uint8), ids


def write_pair(root: Path, split: str, name: str, image: bytes, mask: bytes, kind: str) -> None:
    for folder, data, suffix in (("images", image, kind), ("masks", mask, "png")):
        path = root / folder / split / f"{name}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def write_good(root: Path, split: str, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        image, ids = scene(number)
        write_pair(root, split, f"{number:04d}", encoded(image), encoded(ids), "png")


def png_chunk(kind, data):
    crc = zlib.crc32(kind + data)
    return len(data).to_bytes(4, "big") + kind + data + crc.to_bytes(4, "big")


def bomb(width, height, grey=False):
    """A PNG of some hundred bytes whose header promises a picture of any size."""
    colour = 0 if grey else 2
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, colour, 0, 0, 0])
    start = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header)
    return start + png_chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + png_chunk(b"IEND", b"")


def with_broken_exif(png: bytes) -> bytes:
    """The PNG with an EXIF block that ends in its own header."""
    return png[:33] + png_chunk(b"eXIf", b"Exif\0\0II*\0") + png[33:]  # behind IHDR


def hostile() -> dict[str, bytes]:
    """Files that are no photos, by name, whatever they say that they are."""
    image, ids = scene(0)
    good = encoded(image)
    return {
        "bomb.png": bomb(30_000, 30_000),
        "broken.jpg": b"no photo",
        "cut.png": good[: len(good) // 2],
        "empty.png": b"",
        "exif.png": with_broken_exif(good),
        "program.png": encoded(image, "EPS"),
        "wide.tif": encoded((ids / 3).astype(np.float32), "TIFF"),
    }


def padded(size: int) -> bytes:
    """A JPEG with so many bytes of nothing before its header, which Pillow passes one by one."""
    jpeg = encoded(scene(0)[0], "JPEG")
    return jpeg[:20] + bytes(size) + jpeg[20:]  # behind its first segment


def many_scans(count: int, side: int = 2000) -> bytes:
    """A progressive JPEG of one colour, whose last scan comes so many times: 20 bytes each."""
    jpeg = encoded(np.full((side, side), 99, np.uint8), "JPEG", progressive=True)
    last = jpeg.rindex(b"\xff\xda")
    return jpeg[:last] + jpeg[last:-2] * count + jpeg[-2:]
