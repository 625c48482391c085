"""Mask files that are handed to a model: what is taken for what, and what is refused."""

from dataclasses import asdict

import numpy as np
import pytest

from pipelines.corpora.classes import with_classes
from pipelines.corpora.known import KNOWN
from pipelines.corpora.masks import LabelMap
from pipelines.corpora.pixels import BadInput, png
from pipelines.corpora.truth import label_map
from pipelines.inference.masks import mask_reader, read_by
from semflow import make_palette
from semflow.masks.classmap import ClassMap
from semflow.sampler import Defaults
from tests.pictures import encoded, scene


def known(name):
    """A known corpus as a palette and a model's defaults."""
    corpus = with_classes(KNOWN[name][1])
    names = corpus.classes
    palette = make_palette("grid", names)
    return palette, Defaults(height=8, width=8, class_map=label_map(corpus))


def each_class(count):
    """A mask with a pixel of each class, and one of none."""
    return np.array([[*range(count), 255]], np.uint8)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("cityscapes", (0, 7, 8, 11, 26, 33, 255)),
        ("ade20k", (0, 1, 2, 150)),
        ("cocostuff", (0, 181, 255)),
        ("voc", (0, 20, 255)),
        ("camvid", (0, 10, 11)),
    ],
)
def test_our_masks_and_a_known_corpus_s_become_the_same_classes(name, values):
    palette, defaults = known(name)
    count = len(palette)
    ids = each_class(count)
    ours = png(ids, palette.png_palette())
    assert np.array_equal(mask_reader(palette, defaults, None).read(ours), ids)
    assert np.array_equal(mask_reader(palette, defaults, "classes").read(encoded(ids)), ids)
    raw = {value: number for number, value in enumerate(defaults.class_map.values)}
    expected = [[raw.get(value, 255) for value in values]]
    of_corpus = encoded(np.array([values], np.uint8))
    for model, preset in ((defaults, None), (Defaults(height=8, width=8), name)):
        assert mask_reader(palette, model, "corpus", preset).read(of_corpus).tolist() == expected


def test_ade20k_s_own_masks_are_not_taken_for_numbers_without_a_word():
    palette, defaults = known("ade20k")
    wall = encoded(np.array([[1, 1, 2]], np.uint8))
    with pytest.raises(BadInput, match=r"of class 1 if .* class numbers, and of class 0 if"):
        mask_reader(palette, defaults, None).read(wall)
    assert mask_reader(palette, defaults, "corpus").read(wall).tolist() == [[0, 0, 1]]
    assert mask_reader(palette, defaults, "classes").read(wall).tolist() == [[1, 1, 2]]


def test_masks_that_are_pictures_are_a_corpus_s():
    palette = make_palette("sphere", 2)
    class_map = ClassMap(classes=2, colours=("000000", "ff0000"))
    defaults = Defaults(height=8, width=8, class_map=class_map)
    data = encoded(np.array([[[0, 0, 0], [255, 0, 0]]], np.uint8))
    assert mask_reader(palette, defaults, "corpus").read(data).tolist() == [[0, 1]]
    with pytest.raises(BadInput, match=r"mode RGB .*; --masks-are corpus takes it"):
        mask_reader(palette, defaults, None).read(data)


def test_a_broken_file_is_broken_whatever_it_would_be():
    palette, defaults = known("cityscapes")
    cut = encoded(scene(0)[1])[:60]
    for data, reason in ((b"", "is empty"), (cut, "not a whole image")):
        for masks_are in (None, "classes", "corpus"):
            with pytest.raises(BadInput, match=reason):
                mask_reader(palette, defaults, masks_are).read(data)


def test_what_does_not_fit_the_model_is_refused_at_once():
    palette, defaults = known("cityscapes")
    old = Defaults(height=8, width=8)
    for model, masks_are, corpus, reason in (
        (old, "corpus", None, "does not say what the values"),
        (defaults, None, "cityscapes", "goes with --masks-are corpus"),
        (defaults, "classes", "cityscapes", "goes with --masks-are corpus"),
        (defaults, "corpus", "citiscapes", "there are cityscapes"),
        (defaults, "corpus", "camvid", "has the classes"),
        (defaults, "corpus", "celebamask-parts", "several files"),
        (defaults, "corpus", "folder", "names no classes"),
    ):
        with pytest.raises(ValueError, match=reason):
            mask_reader(palette, model, masks_are, corpus)


def test_advice_names_no_option_that_the_job_has_not():
    """synthesize and serve have --corpus PRESET, and none of the options below it."""
    coloured = encoded(np.zeros((4, 4, 3), np.uint8))
    for class_map in (ClassMap(classes=2), ClassMap(classes=2, colours=("ff0000", "00ff00"))):
        with pytest.raises(BadInput) as of_corpus:
            LabelMap(**asdict(class_map)).read(coloured)
        assert "--corpus." in str(of_corpus.value)
        with pytest.raises(BadInput) as of_model:
            read_by(class_map, coloured)
        assert "--corpus." not in str(of_model.value)
