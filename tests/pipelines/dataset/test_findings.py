"""What an encode counts is said: empty classes, what is ignored, pictures in two splits."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pipelines.corpora import Corpus, list_splits
from pipelines.dataset import findings
from pipelines.dataset.config import EncodeConfig
from pipelines.dataset.encoder import Decode, Encoder, WriteShard
from pipelines.dataset.latents import Manifest, Split
from pipelines.train import check
from pipelines.training.config import TrainConfig
from tests.pictures import encoded, scene, write_pair


def encode(root, **corpus):
    """What an encode of a corpus counts, without Ray: its manifest."""
    given = Corpus(root=str(root), **({"classes": ("ground", "thing")} | corpus))
    cfg = EncodeConfig(corpus=given, height=48, width=64, draws=1, palette="grid", views=2)
    palette = cfg.make_palette()
    encoder, write = Encoder(cfg, palette), WriteShard(str(root / "out"), 8, len(palette), "", {})
    records, splits = {}, {}
    for split, listing in list_splits(given).items():
        decode = Decode(cfg, cfg.views_of(split))
        rows = [row for pair in listing.pairs.to_pylist() for row in decode(pair | {"shard": ""})]
        assert not [row["error"] for row in rows if row["error"]]
        columns = encoder({key: np.array([row[key] for row in rows]) for key in rows[0]})
        kept = {k: v for k, v in columns.items() if k not in ("shard", "source", "error")}
        records[split] = [write(f"{split}/0", kept)]
        splits[split] = Split.of(records[split], len(rows), len(palette))
    found = json.loads(json.dumps(findings.findings(records)))  # as a manifest stores it
    return Manifest(str(root / "out"), "", {}, {}, palette, 48, 64, splits, 0, {}, found)


def corpus_of(root, change, *, per_split=2):
    for split, first in (("train", 0), ("val", 100)):
        for number in range(first, first + per_split):
            image, ids = scene(number)
            write_pair(root, split, f"{number}", encoded(image), encoded(change(ids)), "png")


def said(manifest):
    return list(findings.said(manifest, ["train", "val"]))


def test_a_good_corpus_has_nothing_to_say(tmp_path):
    corpus_of(tmp_path, lambda ids: ids)
    manifest = encode(tmp_path, classes=("sky", "road", "tree"))
    assert said(manifest) == []
    check(TrainConfig(output=str(tmp_path / "run")), manifest)


def test_masks_of_0_and_255_leave_a_class_empty_and_no_training_begins(tmp_path):
    corpus_of(tmp_path, lambda ids: np.where(ids > 0, 255, 0).astype(np.uint8))
    manifest = encode(tmp_path)
    empty, ignored, *_ = said(manifest)
    assert empty == ("1 of 2 classes have not one pixel in 'train': thing (ignored are the values "
                     "255)")  # fmt: skip
    assert ignored.endswith("of the pixels of 'train' are ignored, neither trained on nor scored "
                            "(ignored are the values 255)")  # fmt: skip
    with pytest.raises(ValueError, match=r"only 'ground' has a pixel in 'train'.*--corpus.ids 0 2"):
        check(TrainConfig(output=str(tmp_path / "run")), manifest)
    named = encode(tmp_path, ids=(0, 255))
    assert said(named) == []
    assert min(named.splits["train"].class_pixels) > 0


def test_a_mask_of_one_bit_has_the_classes_0_and_1(tmp_path):
    corpus_of(tmp_path, lambda ids: Image.fromarray(ids > 0))
    manifest = encode(tmp_path)
    assert said(manifest) == []
    whole = np.bincount(np.concatenate([scene(n)[1].ravel() > 0 for n in (100, 101)]))
    assert manifest.splits["val"].class_pixels == tuple(whole)


def test_values_that_are_not_taken_are_counted(tmp_path):
    corpus_of(tmp_path, lambda ids: ids + 5)
    manifest = encode(tmp_path, ids=(5, 9), ignore_rest=True)
    found = manifest.findings["ignored"]["val"]
    counts = np.bincount(np.concatenate([scene(n)[1].ravel() for n in (100, 101)]))
    assert found["values"] == {"6": counts[1], "7": counts[2]}
    assert found["share"] == pytest.approx(counts[1:].sum() / counts.sum())


def test_colours_that_are_not_taken_are_counted_as_colours(tmp_path):
    table = np.array([[0, 0, 0], [1, 2, 3], [255, 0, 0]], np.uint8)
    corpus_of(tmp_path, lambda ids: table[ids])
    manifest = encode(tmp_path, colours=("000000", "ff0000"), ignore_colours=("010203",))
    assert manifest.findings["ignored"]["train"]["values"].keys() == {"010203"}


def test_a_picture_in_two_splits_is_counted_whatever_its_name_and_file(tmp_path):
    corpus_of(tmp_path, lambda ids: ids.clip(0, 1), per_split=3)
    image, ids = scene(1)
    write_pair(tmp_path, "val", "copy", encoded(image, "TIFF"), encoded(ids.clip(0, 1)), "tif")
    manifest = encode(tmp_path)
    assert manifest.findings["shared"] == {"pictures": 1, "examples": [["1", "copy"]]}
    assert said(manifest) == ["1 pictures of 'train' are in 'val' too, '1' and 'copy' for one: "
                              "scores will be too good"]  # fmt: skip


def test_a_dataset_of_before_has_no_findings_and_its_classes_are_looked_at(tmp_path):
    corpus_of(tmp_path, lambda ids: ids.clip(0, 1))
    manifest = replace(encode(tmp_path, classes=("a", "b", "c")), findings={})
    assert said(manifest) == [
        f"1 of 3 classes have not one pixel in {split!r}: c" for split in ("train", "val")
    ]
