"""Read a latent dataset back, all of it, and say what is wrong with it."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import ray.data

from infra import storage
from pipelines.config import RayOptions, UserError
from pipelines.dataset.latents import (
    METADATA_KEY,
    Manifest,
    Shard,
    draw_column,
    read_manifest,
    to_numpy,
)
from pipelines.sharding import raydata, runner
from semflow.masks.palette import IGNORE


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """Which dataset to read back."""

    data: str
    """Folder or URI of a latent dataset."""
    quick: bool = False
    """Only compare names and sizes of the files with the manifest: seconds for any dataset."""
    limit: float = 1e4
    """A latent beyond this is called out of range."""
    ray: RayOptions = field(default_factory=RayOptions)


class CheckShard:
    """A Ray Data function: a shard's number to what is wrong with it, and its rows' names."""

    def __init__(self, manifest: Manifest, limit: float) -> None:
        self.manifest, self.limit = manifest, limit

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        split, number = row["split"], row["number"]
        shard = self.manifest.split(split).shards[number]
        faults, names = check_shard(self.manifest, shard, self.limit)
        # Eight bytes a row are what the driver keeps, so that a billion rows are no trouble.
        hashes = pd.util.hash_array(np.array(names, dtype=object)) if names else np.zeros(0, "u8")
        return {"split": split, "path": shard.path, "faults": json.dumps(faults),
                "hashes": hashes.tobytes()}  # fmt: skip


def check_shard(manifest: Manifest, shard: Shard, limit: float) -> tuple[list[str], list[str]]:
    """What is wrong with a shard, and the id and view of each of its rows."""
    try:
        data = storage.read_bytes(manifest.shard_uri(shard))
    except FileNotFoundError:
        return ["is missing"], []
    faults = []
    if len(data) != shard.bytes:
        faults.append(f"has {len(data)} bytes instead of {shard.bytes}")
    if storage.digest(data) != shard.sha256:
        faults.append("digest differs: its bytes were changed")
    try:
        file = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True)
        table = file.read()
    except (pa.ArrowException, OSError) as error:
        return [*faults, f"cannot be read: {error}"], []
    metadata = file.metadata
    groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    if groups != list(shard.row_groups):
        faults.append(f"has row groups of {groups}, the manifest says {list(shard.row_groups)}")
    written = json.loads((table.schema.metadata or {}).get(METADATA_KEY, b"{}"))
    if written.get("recipe") != manifest.recipe:
        faults.append("was made by another recipe than the manifest's")
    faults += _schema_faults(manifest, table.schema)
    if any("column" in fault for fault in faults):
        return faults, []
    columns = to_numpy(table)
    names = [f"{i}\t{v}" for i, v in zip(columns["id"], columns["view"], strict=True)]
    for name in latent_columns(manifest):
        if name in columns:
            values = columns[name].astype(np.float32)
            if not np.isfinite(values).all():
                faults.append(f"{name} has NaN or infinity")
            elif np.abs(values).max(initial=0) > limit:
                faults.append(f"{name} reaches {np.abs(values).max():.3g}, beyond {limit:g}")
            elif name == "image_std" and values.min(initial=0) < 0:
                faults.append("image_std is negative")
    classes, size = len(manifest.palette), (manifest.height, manifest.width)
    masks = columns["mask"]
    if masks.shape[1:] != size or ((masks >= classes) & (masks != IGNORE)).any():
        faults.append(f"masks are of another size than {size} or have ids beyond the classes")
    return faults, names


def _schema_faults(manifest: Manifest, schema: pa.Schema) -> list[str]:
    from semflow import load_autoencoder  # only its shapes; a local folder or no weights at all

    latents = latent_columns(manifest)
    wanted = {"id", "view", "crop", "flip", "mask", *latents}
    faults = [f"column {name} is missing" for name in sorted(wanted - set(schema.names))]
    if faults:
        return faults
    kinds = {schema.field(name).type for name in latents}
    if len(kinds) > 1 or not isinstance(min(kinds, key=str), pa.FixedShapeTensorType):
        return [f"columns {', '.join(latents)} are not all tensors of one shape"]
    source = manifest.recipe["autoencoder"]["source"]
    if source.startswith("space-to-depth"):
        shape = load_autoencoder(source).latent_size(manifest.height, manifest.width)
        if tuple(kinds.pop().shape) != shape:
            faults.append(f"column image_mean is {schema.field('image_mean').type.shape}")
    return faults


def latent_columns(manifest: Manifest) -> list[str]:
    """The columns of latents that a shard must have."""
    stochastic = manifest.recipe["autoencoder"]["stochastic"]
    draws = [draw_column(draw) for draw in range(manifest.recipe["draws"])]
    return ["image_mean", *(["image_std"] if stochastic else []), *draws]


def verify(cfg: VerifyConfig) -> dict[str, list[str]]:
    """Every fault, by the file that has it; prints a table of the splits.

    Raises:
        ValueError: when there is no finished dataset.
    """
    manifest = read_manifest(cfg.data)
    faults: dict[str, list[str]] = defaultdict(list)
    there = storage.find(manifest.uri, (".parquet",))
    rows = {name: split.rows for name, split in manifest.splits.items()}
    if cfg.quick:
        faults |= sizes_differ(manifest, there)
    else:
        rows = read_back(manifest, cfg.limit, faults)
    faults |= strangers(manifest, there)
    print(f"{'split':12} {'shards':>7} {'rows':>10} {'MB':>10}  {'checked':8} state")
    for name, split in manifest.splits.items():
        bad = [path for path in faults if path == name or path.startswith(f"{name}/")]
        size = sum(shard.bytes for shard in split.shards) / 1e6
        checked = "sizes" if cfg.quick else "all"
        print(f"{name:12} {len(split.shards):7} {rows[name]:10} {size:10.1f}  {checked:8} "
              f"{'BAD' if bad else 'good'}")  # fmt: skip
    for path, found in faults.items():
        for fault in found[:5]:
            print(f"{path}: {fault}")
    return dict(faults)


def sizes_differ(manifest: Manifest, there: dict[str, int]) -> dict[str, list[str]]:
    """Shards that are missing or of another size, in a listing of files with their bytes."""
    faults = {}
    for split in manifest.splits.values():
        for shard in split.shards:
            if shard.path not in there:
                faults[shard.path] = ["is missing"]
            elif there[shard.path] != shard.bytes:
                faults[shard.path] = [f"has {there[shard.path]} bytes instead of {shard.bytes}"]
    return faults


def strangers(manifest: Manifest, there: dict[str, int]) -> dict[str, list[str]]:
    """Files among the shards that the manifest does not know."""
    known = {shard.path for split in manifest.splits.values() for shard in split.shards}
    fault = "is not in the manifest; whoever reads the folder whole would read it"
    return {
        path: [fault]
        for path in sorted(there.keys() - known)
        if path.split("/")[0] in manifest.splits
    }


def read_back(manifest: Manifest, limit: float, faults: dict[str, list[str]]) -> dict[str, int]:
    """Read every shard; add what is wrong to ``faults``. Returns the rows found in each split."""
    numbers = [
        {"split": name, "number": number}
        for name, split in manifest.splits.items()
        for number in range(len(split.shards))
    ]
    with raydata.ordered():
        dataset = ray.data.from_items(numbers, override_num_blocks=max(1, len(numbers)))
        results = dataset.map(CheckShard(manifest, limit)).iter_rows()
    hashes: dict[str, list[Any]] = {name: [] for name in manifest.splits}
    for result in runner.progress(results, "verify", len(numbers)):
        if found := json.loads(result["faults"]):
            faults[result["path"]] = found
        hashes[result["split"]].append(np.frombuffer(result["hashes"], "u8"))
    rows = {}
    for name, split in manifest.splits.items():
        seen = np.sort(np.concatenate(hashes[name] or [np.zeros(0, "u8")]))
        rows[name] = len(seen)
        if twice := int((seen[1:] == seen[:-1]).sum()):
            faults[name].append(f"{twice} rows are there twice (same id and view)")
        if len(seen) != split.rows:
            faults[name].append(f"{len(seen)} rows, not {split.rows}")
    return rows


def main(args: list[str]) -> None:
    from pipelines import config

    cfg = config.parse(VerifyConfig, __doc__, args=args)
    if not cfg.quick:
        raydata.init(cfg.ray.address)
    faults = verify(cfg)
    if faults:
        raise UserError(
            f"{len(faults)} files of {cfg.data} are bad. Remove their records in _progress/ and "
            "manifest.json, and the same encode makes them again"
        )
