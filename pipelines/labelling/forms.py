"""Forms of masks: PNG, COCO panoptic, COCO RLE, Parquet.

A form says which files a labelled photo has of its own, what of it stands in a file of its shard,
and how the shards' files become one at the end of a job. Whatever is merged is read shard by shard:
nothing holds the whole corpus.

Category ids are class ids, the numbers in the index PNGs, in every form. An image id is a
number from 1, in the order in which photos came to the job.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from infra import storage
from pipelines.corpora import pixels
from pipelines.dataset.latents import parquet_bytes
from pipelines.sharding.threads import side_by_side
from semflow import Palette

FormName = Literal["png", "coco-panoptic", "coco-rle", "parquet"]


class Segment(NamedTuple):
    """All pixels of a class in a photo."""

    class_id: int
    area: int
    bbox: list[int]  # left, top, width, height


@dataclass(frozen=True)
class Labelled:
    """A photo's labels."""

    name: str
    """Of its files, without suffix."""
    path: str
    """Of the photo, below the folder of images."""
    image_id: int
    ids: pixels.Pixels
    """``[H, W]``, at the size that is written."""
    seen: pixels.Pixels
    """Ids at the size that the model saw."""
    confidence: pixels.Pixels
    """Margin of each pixel there, times 255."""

    @cached_property
    def class_margin(self) -> NDArray[np.float64]:
        """``[256]``, mean margin of the pixels of each class."""
        count = np.bincount(self.seen.ravel(), minlength=256)
        total = np.bincount(self.seen.ravel(), self.confidence.ravel(), 256)
        return total / 255 / np.maximum(count, 1)

    @cached_property
    def segments(self) -> list[Segment]:
        """Of the classes that are there, in their order."""
        areas, found = np.bincount(self.ids.ravel()), []
        for class_id in np.flatnonzero(areas).tolist():
            there = self.ids == class_id
            rows, columns = (np.flatnonzero(there.any(axis)).tolist() for axis in (1, 0))
            box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
            found.append(Segment(class_id, int(areas[class_id]), box))
        return found


class Form:
    """What a form writes; by itself nothing."""

    def __init__(self, palette: Palette) -> None:
        self.palette = palette

    def files(self, photo: Labelled) -> dict[str, bytes]:
        """The photo's own files, by path below the output."""
        return {}

    def entry(self, photo: Labelled) -> Any:
        """What the shard's file says of it."""
        return None

    def shard(self, number: str, entries: Sequence[Any]) -> dict[str, bytes]:
        """Files of a shard, by path below the output."""
        return {}

    def merge(self, output: str, numbers: Sequence[str]) -> list[str]:
        """Make one file of those of the shards; the paths that were written."""
        return []


class Png(Form):
    """``masks/NAME.png``: class ids, which viewers show in the anchors' colours."""

    @staticmethod
    def path(name: str) -> str:
        return f"masks/{name}.png"

    def files(self, photo: Labelled) -> dict[str, bytes]:
        return {self.path(photo.name): pixels.png(photo.ids, self.palette.png_palette())}


class Parquet(Form):
    """``parquet/00000.parquet``: a row a photo, with the mask as the bytes of an index PNG."""

    def entry(self, photo: Labelled) -> Any:
        mask = pixels.png(photo.ids, self.palette.png_palette())
        return {"image": photo.path, "image_id": photo.image_id, "mask": mask}

    def shard(self, number: str, entries: Sequence[Any]) -> dict[str, bytes]:
        table = pa.Table.from_pylist(list(entries))
        return {f"parquet/{number}.parquet": parquet_bytes(table, table.num_rows)[0]}


class CocoPanoptic(Form):
    """``coco/panoptic.json`` with ``coco/panoptic/NAME.png``: one segment a class, no instances.

    A pixel of the PNG is its segment's id, ``R + 256 G + 65536 B``: the class id and 1, since COCO
    keeps 0 for what is not labelled.
    """

    def files(self, photo: Labelled) -> dict[str, bytes]:
        picture = np.zeros((*photo.ids.shape, 3), np.uint8)
        picture[..., 0] = photo.ids + 1  # at most 255: a palette has no more classes than that
        return {f"coco/panoptic/{photo.name}.png": pixels.png(picture)}

    def entry(self, photo: Labelled) -> Any:
        height, width = photo.ids.shape
        image = {"id": photo.image_id, "file_name": photo.path, "width": width, "height": height}
        segments = [
            {"id": s.class_id + 1, "category_id": s.class_id, "area": s.area, "bbox": s.bbox,
             "iscrowd": 0}
            for s in photo.segments
        ]  # fmt: skip
        annotation = {
            "image_id": photo.image_id,
            "file_name": f"{photo.name}.png",
            "segments_info": segments,
        }
        return image, annotation

    def categories(self) -> list[dict[str, Any]]:
        return [
            {"id": n, "name": name, "supercategory": name, "isthing": 0, "color": list(colour)}
            for n, (name, colour) in enumerate(
                zip(self.palette.names, self.palette.colours, strict=True)
            )
        ]

    def shard(self, number: str, entries: Sequence[Any]) -> dict[str, bytes]:
        images, annotations = (list(column) for column in zip(*entries, strict=True))
        data = {"categories": self.categories(), "images": images, "annotations": annotations}
        return {f"coco/{number}.panoptic.json": _json(data)}

    def merge(self, output: str, numbers: Sequence[str]) -> list[str]:
        path = "coco/panoptic.json"
        with storage.writer(storage.join(output, path)) as file, tempfile.TemporaryFile() as later:
            file.write(b'{"categories": ' + _json(self.categories()) + b',\n"images": [')
            comma = b"\n"
            for data in _read(output, numbers, "panoptic"):
                for image, annotation in zip(data["images"], data["annotations"], strict=True):
                    file.write(comma + _json(image))
                    later.write(comma + _json(annotation))
                    comma = b",\n"
            file.write(b'\n],\n"annotations": [')
            later.seek(0)
            shutil.copyfileobj(later, file)
            file.write(b"\n]}\n")
        return [path]


class CocoRle(Form):
    """``coco/rle.json``: COCO's list of results, a mask a class in compressed run lengths.

    The score is the mean margin of the segment's pixels.
    """

    def entry(self, photo: Labelled) -> Any:
        from pycocotools import mask

        columns = np.asfortranarray(photo.ids)  # COCO's runs go down the columns
        return [
            {
                "image_id": photo.image_id,
                "category_id": s.class_id,
                "segmentation": {
                    "size": list(columns.shape),
                    "counts": mask.encode((columns == s.class_id).view(np.uint8))[
                        "counts"
                    ].decode(),
                },
                "bbox": s.bbox,
                "area": s.area,
                "score": round(float(photo.class_margin[s.class_id]), 4),
            }
            for s in photo.segments
        ]

    def shard(self, number: str, entries: Sequence[Any]) -> dict[str, bytes]:
        return {f"coco/{number}.rle.json": _json([result for one in entries for result in one])}

    def merge(self, output: str, numbers: Sequence[str]) -> list[str]:
        path = "coco/rle.json"
        with storage.writer(storage.join(output, path)) as file:
            file.write(b"[")
            comma = b"\n"
            for results in _read(output, numbers, "rle"):
                for result in results:
                    file.write(comma + _json(result))
                    comma = b",\n"
            file.write(b"\n]\n")
        return [path]


FORMS: dict[FormName, type[Form]] = {
    "png": Png,
    "coco-panoptic": CocoPanoptic,
    "coco-rle": CocoRle,
    "parquet": Parquet,
}


def _json(data: Any) -> bytes:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()


def _read(output: str, numbers: Sequence[str], kind: str) -> Iterator[Any]:
    """The shards' JSON files, a few ahead."""
    uris = ({"uri": storage.join(output, f"coco/{number}.{kind}.json")} for number in numbers)
    return side_by_side(lambda row: storage.read_json(row["uri"]), uris)
