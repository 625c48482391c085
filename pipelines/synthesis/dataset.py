"""A synthesized dataset as it is written: a shard's files, and at the end its card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import pyarrow as pa

from infra import storage, tracking
from pipelines import config
from pipelines.inference.products import rows_of, write_shard
from pipelines.inference.settings import model_fingerprint
from pipelines.sharding.job import Row
from pipelines.sharding.threads import threads_for
from pipelines.synthesis import card, examples, formats, tally
from pipelines.synthesis.config import SynthesizeConfig
from semflow import Palette
from semflow.version import VERSION

PAGE = "quality.html"


class WriteImages:
    """A shard of pixels to images and masks in all formats, counts, and one file of the table."""

    def __init__(
        self, cfg: SynthesizeConfig, palette: Palette, fingerprint: str, shards: int
    ) -> None:
        self.cfg, self.palette, self.fingerprint = cfg, palette, fingerprint
        self.checked = cfg.quality.min_agreement is not None
        self.by_split = cfg.val_share > 0
        self.examples = examples.per_shard(shards)

    def __call__(self, shard: str, columns: Row) -> Row:
        rows: list[Row] = [{"kept": True} | row for row in rows_of(columns)]
        samples = [
            formats.Sample(row["name"], row["split"], row["pixels"], row["ids"], self.facts(row))
            for row in rows if row["kept"]
        ]  # fmt: skip
        counts = tally.count(rows, len(self.palette), checked=self.checked)
        files = dict(formats.files(self.cfg.format, shard, samples, self.palette.png_palette(),
                                   by_split=self.by_split))  # fmt: skip
        files[tally.path(shard)] = partial(_json, asdict(counts))
        if self.checked:
            files[examples.path(shard)] = partial(
                examples.encode, rows, self.examples, self.palette
            )
        table = self.table(rows)
        metadata = json.dumps({"fingerprint": self.fingerprint, "classes": self.palette.names})
        threads = threads_for(self.cfg.output, self.cfg.ray.gpus_per_actor)
        return write_shard(self.cfg.output, shard, table, files, metadata, threads)

    def facts(self, row: Row) -> Row:
        """What is known of an image, besides its name."""
        found = {"split": str(row["split"]), "source_mask": str(row["path"]),
                 "variant": int(row["variant"]), "edit": str(row["edit"]),
                 "sample": int(row["sample"]), "seed": int(row["seed"])}  # fmt: skip
        if self.checked:
            found |= {"attempts": int(row["attempts"]), "agreement": float(row["agreement"])}
        return found

    def table(self, rows: Sequence[Row]) -> pa.Table:
        """The table: where there is no file, ``image`` and ``mask`` are null."""
        places: list[tuple[str | None, str | None]] = [
            formats.folder_paths(row["name"], row["split"], by_split=self.by_split)
            if row["kept"] and "folder" in self.cfg.format
            else (None, None)
            for row in rows
        ]
        files = {"image": [a for a, _ in places], "mask": [b for _, b in places]}
        columns: dict[str, pa.Array] = {key: pa.array(v, pa.string()) for key, v in files.items()}
        columns["name"] = pa.array([str(row["name"]) for row in rows])
        facts = pa.Table.from_pylist([self.facts(row) for row in rows])
        columns |= dict(zip(facts.column_names, facts.columns, strict=True))
        columns["kept"] = pa.array([bool(row["kept"]) for row in rows])
        return pa.table(columns)


def _json(data: Any) -> bytes:
    return json.dumps(data).encode()


class Finish:
    """What is written once all shards are there: the card, and the page of quality control."""

    def __init__(
        self, cfg: SynthesizeConfig, index: Row, size: tuple[int, int], settings: Row,
        paths: Sequence[str],
    ) -> None:  # fmt: skip
        self.cfg, self.size, self.palette = cfg, size, Palette.from_json(index["palette"])
        self.checked = cfg.quality.min_agreement is not None
        self.provenance = settings | {
            "model": {"location": cfg.model, "fingerprint": model_fingerprint(index)}
            | {key: value for key, value in index["provenance"].items() if key != "config"},
            "masks": {"location": cfg.masks, "files": len(paths),
                      "names": config.fingerprint(list(paths))},
            "semflow": VERSION,
        }  # fmt: skip

    def __call__(self, shards: Sequence[Row], run: tracking.Run) -> Row:
        """From the table's files ``{path}``; returns what the summary says of it."""
        cfg, output = self.cfg, self.cfg.output
        names = [shard["path"].removesuffix(".parquet") for shard in shards]
        counts = tally.total(output, names, len(self.palette))
        found = card.describe(
            counts, self.palette, checked=self.checked, width=self.size[0], height=self.size[1],
            min_agreement=cfg.quality.min_agreement, formats=list(cfg.format),
            provenance=self.provenance,
        )  # fmt: skip
        card.write(output, found)
        summary: Row = {"kept": counts.kept}
        if self.checked:
            page = examples.page(found, output, names).encode()
            storage.write_bytes(storage.join(output, PAGE), page)
            run.file(PAGE, page)
            mean = found["agreement"]["mean"]
            run.metrics({"kept": counts.kept, "agreement": float("nan") if mean is None else mean})
            summary |= {"rejected": found["rejected"], "agreement": mean, "by_class": {
                c["name"]: {"kept": c["images"], "rejected": c["rejected"]}
                for c in found["classes"]
            }}  # fmt: skip
        return summary
