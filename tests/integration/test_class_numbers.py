"""A corpus whose values are no class numbers, through every job: no class is shifted, none lost."""

import json

import numpy as np
import pytest
from PIL import Image

from pipelines.corpora import Corpus
from pipelines.corpora.pixels import BadInput, resize_ids
from pipelines.dataset.latents import Rows, read_manifest
from pipelines.encode import encode
from pipelines.evaluation.config import ScoreConfig
from pipelines.inference.masks import mask_reader
from pipelines.label import label
from pipelines.labelling.config import LabelConfig
from pipelines.score import score
from pipelines.synthesis.config import SynthesizeConfig
from pipelines.synthesize import synthesize
from pipelines.train import train
from pipelines.training.config import TrainConfig
from semflow import SemFlow, Solver
from tests.integration.conftest import encode_config
from tests.pictures import encoded, scene, write_pair

IDS = (7, 1, 254)
"""Gaps, another order than the classes', and a neighbour of 255; 0 is void, as 255 is."""


def truth(number: int) -> np.ndarray:
    """Class numbers of a scene, some pixels of no class."""
    ids = scene(number)[1].copy()
    ids[:4], ids[:, :5] = 255, 255
    return ids


def in_file(ids: np.ndarray) -> np.ndarray:
    """Class numbers as the corpus's files hold them."""
    values = np.zeros_like(ids)
    for number, value in enumerate(IDS):
        values[ids == number] = value
    values[:, :2] = 255
    return values


@pytest.fixture(scope="module")
def made(ray_session, tmp_path_factory):
    """The corpus, its latents, and a model that was trained on them for a moment."""
    home = tmp_path_factory.mktemp("numbers")
    root = home / "corpus"
    for split, numbers in (("train", range(8)), ("val", range(8, 11))):
        for number in numbers:
            photo, mask = encoded(scene(number)[0]), encoded(in_file(truth(number)))
            write_pair(root, split, f"{number:04d}", photo, mask, "png")
    corpus = Corpus(
        root=str(root), classes=("sky", "road", "tree"), ids=IDS, ignore_ids=(0, 255)
    )  # fmt: skip
    encode(encode_config(root, home / "latents", corpus=corpus, views=1, draws=1))
    train(
        TrainConfig(
            data=str(home / "latents"), output=str(home / "run"), velocity="tiny", steps=2,
            batch_size=8, threads=1, validate_every=2, checkpoint_every=2, validate_rows=3,
            log_every=1, segment=Solver(steps=1), synthesize=Solver(steps=1),
        )
    )  # fmt: skip
    return home, corpus


def pixels(path):
    return np.asarray(Image.open(path))


def test_latents_have_class_numbers_and_the_model_has_the_whole_map(made):
    home, _ = made
    rows = Rows(read_manifest(str(home / "latents")), "val", 3)
    expected = [resize_ids(truth(number), 48, 32) for number in range(8, 11)]
    assert np.array_equal(rows.ids.numpy(), np.stack(expected))
    index = json.loads((home / "run/model/model_index.json").read_text())
    assert index["defaults"]["class_map"]["ids"] == list(IDS)
    assert index["defaults"]["class_map"]["ignore_ids"] == [0, 255]


def test_what_label_writes_becomes_the_same_classes_and_so_do_the_corpus_s_masks(made):
    home, corpus = made
    model = str(home / "run/model")
    label(LabelConfig(model=model, images=f"{corpus.root}/images/val", output=str(home / "labels")))
    of_labels = SynthesizeConfig(
        model=model, masks=str(home / "labels/masks"), output=str(home / "a")
    )
    of_corpus = SynthesizeConfig(
        model=model, masks=f"{corpus.root}/masks/val", output=str(home / "b"), masks_are="corpus"
    )
    for cfg in (of_labels, of_corpus):
        assert synthesize(cfg)["quarantined"] == []
    for number in range(8, 11):
        labelled = pixels(home / f"labels/masks/{number:04d}.png")
        assert set(np.unique(labelled)) <= {0, 1, 2}
        found = pixels(home / f"a/masks/{number:04d}-0.png")
        assert np.array_equal(found, resize_ids(labelled, 48, 32))
        found = pixels(home / f"b/masks/{number:04d}-0.png")
        assert np.array_equal(found, resize_ids(truth(number), 48, 32))


def test_the_corpus_s_masks_are_not_taken_for_class_numbers(made):
    home, _ = made
    model = SemFlow.load(home / "run/model")
    data = (home / "corpus/masks/val/0008.png").read_bytes()
    for masks_are in (None, "classes"):
        reader = mask_reader(model.palette, model.defaults, masks_are)
        with pytest.raises(BadInput, match=r"values \[7, 254\] .*; --masks-are corpus takes it"):
            reader.read(data)
    some = encoded(np.where(truth(8) == 1, 1, 0).astype(np.uint8))  # its road is 1, as numbers are
    with pytest.raises(BadInput, match="say --masks-are classes or --masks-are corpus"):
        mask_reader(model.palette, model.defaults, None).read(some)


def test_scores_are_those_of_the_classes(made, tmp_path):
    home, corpus = made

    def scored(labels, **options):
        return score(
            ScoreConfig(corpus=corpus, labels=str(labels), output=str(tmp_path / "scores"),
                        **options)
        )  # fmt: skip

    for number in range(8, 11):
        for kind, mask in (("numbers", truth(number)), ("values", in_file(truth(number)))):
            path = tmp_path / kind / f"{number:04d}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(encoded(mask))
    assert scored(tmp_path / "numbers")["miou"] == 1
    assert scored(tmp_path / "values", masks_are="corpus")["miou"] == 1
    wrong = scored(tmp_path / "values")
    assert wrong["miou"] < 0.5
    assert len(wrong["unknown_values"]) == 3
    assert "--masks-are corpus takes it" in wrong["unknown_values"][0]
    with pytest.raises(ValueError, match="masks are class numbers"):
        scored(home / "labels", masks_are="corpus")
    assert scored(home / "labels")["unknown_values"] == []
