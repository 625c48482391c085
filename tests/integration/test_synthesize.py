"""A synthesized dataset: edited, checked, read by others, and the same however it was stopped."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image

from pipelines.inference.masks import mask_reader
from pipelines.inference.predictors import ModelOptions
from pipelines.synthesis.config import SynthesizeConfig
from pipelines.synthesis.drafts import DecodeMask, drafts
from pipelines.synthesis.edits import Edits, Recipe
from pipelines.synthesis.quality import Quality, agreement, attempt_seed
from pipelines.synthesize import synthesize
from semflow import SemFlow
from tests.pictures import CLASSES, encoded, scene

NAMES = ["a", "b.v2", "deep/c", "deep/ünï d", "e", "f", "g", "h"]
LEAST = 0.986
"""The model is hardly more than the identity: its images show their masks almost whole."""


@pytest.fixture(scope="module")
def made(ray_session, model, tmp_path_factory):
    masks, output = tmp_path_factory.mktemp("masks"), tmp_path_factory.mktemp("synth") / "out"
    for number, name in enumerate(NAMES):
        ids = scene(number)[1].copy()
        ids[:3, :5] = 9
        path = masks / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encoded(ids))
    cfg = SynthesizeConfig(
        model=str(model), masks=str(masks), output=str(output), masks_are="corpus",
        samples=2, images_per_shard=10,
        edits=Edits(variants=1, swap=("sky=tree",), paste=("road",), shift=0.2, flip=True),
        quality=Quality(min_agreement=LEAST, attempts=2), val_share=0.4,
        format=("folder", "webdataset", "parquet"), actors=ModelOptions(batch_size=4),
    )  # fmt: skip
    return cfg, synthesize(cfg)


@pytest.fixture(scope="module")
def table(made):
    return pq.read_table(Path(made[0].output) / "table").to_pylist()


def pixels(output, path):
    return np.array(Image.open(Path(output) / path))


def test_every_draft_is_in_the_table_and_only_the_kept_ones_are_files(made, table):
    cfg, summary = made
    assert len(table) == summary["rows"] == len(NAMES) * 2 * 2
    kept = [row for row in table if row["kept"]]
    assert 0 < len(kept) == summary["kept"] < len(table)
    assert summary["rejected"] == len(table) - len(kept)
    for row in table:
        assert row["kept"] == (row["agreement"] >= LEAST)
        assert row["kept"] or row["attempts"] == 2
        assert (row["image"] is not None) == row["kept"]
    for folder, key in (("images", "image"), ("masks", "mask")):
        written = {str(p.relative_to(cfg.output)) for p in Path(cfg.output, folder).rglob("*.png")}
        assert written == {row[key] for row in kept}
        assert all(path.startswith(f"{folder}/{row['split']}/") for path in written
                   for row in kept if row[key] == path)  # fmt: skip


def test_masks_are_the_edited_ones_and_the_table_says_what_was_done(made, table, model):
    cfg, _ = made
    paths = sorted(f"{name}.png" for name in NAMES)
    plan = list(drafts(cfg.masks, paths, seed=0, samples=2, variants=1, val_share=0.4,
                       pasting=True))  # fmt: skip
    semflow = SemFlow.load(model)
    reader = mask_reader(semflow.palette, semflow.defaults, "corpus")
    decode = DecodeMask(cfg.masks, (48, 32), reader, Recipe.of(cfg.edits, CLASSES))
    seeds = {}
    for row, known in zip(plan, table, strict=True):
        seeds[row["name"]] = [attempt_seed(row["seed"], n) for n in range(2)]
        (expected,) = decode(row)
        assert known["name"] == row["name"]
        assert known["edit"] == expected["edit"]
        assert (known["edit"] != "") == (row["variant"] == 1)
        assert known["seed"] in seeds[row["name"]]
        if known["kept"]:
            assert np.array_equal(pixels(cfg.output, known["mask"]), expected["ids"])
    done = [json.loads(row["edit"]) for row in table if row["edit"]]
    assert {key for one in done for key in one} == {"swap", "paste", "donor", "flip"}


def test_the_agreement_is_that_of_the_image_as_written(made, table, model):
    cfg, _ = made
    semflow = SemFlow.load(model)
    for row in [row for row in table if row["kept"]][:4]:
        image = torch.from_numpy(pixels(cfg.output, row["image"])).movedim(-1, 0)[None]
        seen = semflow.segment(image.float() / 127.5 - 1).ids[0].byte().numpy()
        found = agreement(seen, pixels(cfg.output, row["mask"]), 3).agreement
        assert found == pytest.approx(row["agreement"], abs=2e-3)  # batches round differently


READ = """
import glob, hashlib, json, os, sys
import datasets, numpy as np, torch, webdataset
from PIL import Image

root, cache = sys.argv[1:]
found = {"huggingface": {}, "webdataset": {}, "folder": {}}

def note(reader, split, name, image, mask):
    image, mask = np.asarray(image), np.asarray(mask)
    assert image.dtype == mask.dtype == np.uint8, (image.dtype, mask.dtype)
    assert image.shape == (*mask.shape, 3), (image.shape, mask.shape)
    digest = hashlib.sha256(image.tobytes() + mask.tobytes()).hexdigest()
    found[reader][f"{split}/{name}"] = digest

for split, rows in datasets.load_dataset(root, cache_dir=cache).items():
    assert isinstance(rows.features["image"], datasets.Image), rows.features
    assert isinstance(rows.features["mask"], datasets.Image), rows.features
    for row in rows:
        note("huggingface", split, row["name"], row["image"], row["mask"])

for split in ("train", "val"):
    shards = sorted(glob.glob(f"{root}/webdataset/{split}-*.tar"))
    for row in webdataset.WebDataset(shards, shardshuffle=False).decode("pil"):
        mask = np.asarray(row["mask.png"])[..., 0]  # its decoder makes all pictures RGB
        note("webdataset", split, row["json"]["name"], row["png"], mask)

class Folder(torch.utils.data.Dataset):
    def __init__(self, split):
        self.images, self.masks = f"{root}/images/{split}", f"{root}/masks/{split}"
        self.names = sorted(glob.glob("**/*.png", root_dir=self.images, recursive=True))
    def __len__(self):
        return len(self.names)
    def __getitem__(self, n):
        return [Image.open(f"{where}/{self.names[n]}") for where in (self.images, self.masks)]

for split in ("train", "val"):
    rows = Folder(split)
    for n in range(len(rows)):
        note("folder", split, rows.names[n].removesuffix(".png"), *rows[n])

assert not [name for name in sys.modules if name.split(".")[0] in ("pipelines", "semflow")]
print(json.dumps(found))
"""


def test_others_read_the_same_images_and_masks_without_us(made, table, tmp_path):
    cfg, _ = made
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", READ, cfg.output, str(tmp_path / "cache")],
        cwd="/", env=os.environ | offline, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    kept = {f"{row['split']}/{row['name']}" for row in table if row["kept"]}
    assert found["folder"].keys() == kept
    assert found["huggingface"] == found["folder"]
    assert found["webdataset"] == found["folder"]


def test_no_mask_is_in_both_splits_nor_pasted_across_them(table):
    sources = {"train": set(), "val": set()}
    for row in table:
        sources[row["split"]] |= {row["source_mask"]}
        if row["edit"] and "donor" in (done := json.loads(row["edit"])):
            sources[row["split"]] |= {done["donor"]}
    assert sources["train"]
    assert sources["val"]
    assert not sources["train"] & sources["val"]


def test_the_card_counts_what_is_there(made, table):
    cfg, summary = made
    card = json.loads(Path(cfg.output, "card.json").read_text())
    kept = [row for row in table if row["kept"]]
    assert card["images"] == len(kept)
    assert sum(card["splits"].values()) == len(kept)
    masks = [pixels(cfg.output, row["mask"]) for row in kept]
    for number, one in enumerate(card["classes"]):
        assert one["name"] == CLASSES[number]
        assert one["pixels"] == sum(int((mask == number).sum()) for mask in masks)
        assert one["images"] == sum(bool((mask == number).any()) for mask in masks)
        counted = {"kept": one["images"], "rejected": one["rejected"]}
        assert summary["by_class"][one["name"]] == counted
    mean = np.mean([row["agreement"] for row in table])
    assert card["agreement"]["mean"] == pytest.approx(mean)
    assert sum(card["agreement"]["histogram"]) == len(table)
    assert card["diversity"]["mean_distance"] > 0
    assert card["provenance"]["masks"]["files"] == len(NAMES)
    text = Path(cfg.output, "README.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    assert front["size_categories"] == ["n<1K"]
    (config,) = front["configs"]
    assert {file["path"] for file in config["data_files"]} == {
        "data/train-*.parquet", "data/val-*.parquet"
    }  # fmt: skip
    assert cfg.output not in text + json.dumps(card)
    page = Path(cfg.output, "quality.html").read_text()
    assert page.count("data:image/png;base64,") == len(table)  # all, being so few


def digests(output):
    return {
        str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in Path(output).rglob("*")
        if path.is_file() and path.name != "mlflow.json"
    }


def test_a_run_that_was_stopped_ends_with_the_same_bytes_in_all_forms(made, tmp_path):
    from dataclasses import replace

    cfg, summary = made
    output = tmp_path / "copy"
    shutil.copytree(cfg.output, output)
    # Stopped between a shard's files and its record, after half of another shard's files, and
    # then once more before the summary.
    gone = [
        "images.json",
        "README.md",
        "_progress/table/00001.json",
        "_progress/table/00002.json",
        "_progress/tally/00001.json",
        "_progress/examples/00002.json",
        max(str(tar.relative_to(output)) for tar in (output / "webdataset").glob("val-*.tar")),
    ]
    half = ["card.json", "table/00001.parquet", "data/train-00001.parquet",
            "webdataset/train-00001.tar"]  # fmt: skip
    for path in gone:
        (output / path).unlink()
    for path in half:
        (output / path).write_bytes((output / path).read_bytes()[:100])
    shutil.rmtree(output / "masks/val")
    first = (output / "table/00000.parquet").stat().st_mtime_ns
    assert synthesize(replace(cfg, output=str(output))) == summary
    assert digests(output) == digests(cfg.output)
    assert (output / "table/00000.parquet").stat().st_mtime_ns == first  # what was done stays


def test_edits_of_unknown_classes_end_before_any_work(made, tmp_path):
    from dataclasses import replace

    wrong = replace(made[0], edits=Edits(variants=1, paste=("lorry",)), output=str(tmp_path / "o"))
    with pytest.raises(ValueError, match="no class of the model; it knows sky, road, tree"):
        synthesize(wrong)
    assert not (tmp_path / "o").exists()
