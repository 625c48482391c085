"""Values of files and numbers of classes: each value becomes its class, wherever it is read."""

import json

import numpy as np
import pytest
from PIL import Image

from semflow import make_palette
from semflow.card import model_card
from semflow.masks.classmap import ClassMap, UnknownValues
from semflow.masks.given import GivenMasks, anchored
from semflow.sampler import Defaults

VOID_0 = ClassMap(classes=3, ids=(1, 2, 3), ignore_ids=(0,))
GAPS = ClassMap(classes=3, ids=(7, 8, 11), ignore_ids=(0, 9, 255))
NEIGHBOURS = ClassMap(classes=3, ids=(0, 254, 255), ignore_ids=(253,))
UNSORTED = ClassMap(classes=3, ids=(2, 0, 1))


def numbers(class_map, *values, dtype=np.uint8):
    return class_map.numbers(np.array([values], dtype)).tolist()[0]


@pytest.mark.parametrize(
    ("class_map", "values", "expected"),
    [
        (VOID_0, (0, 1, 2, 3), [255, 0, 1, 2]),
        (GAPS, (0, 7, 8, 9, 11, 255), [255, 0, 1, 255, 2, 255]),
        (NEIGHBOURS, (0, 254, 255, 253), [0, 1, 2, 255]),
        (UNSORTED, (0, 1, 2, 255), [1, 2, 0, 255]),
        (ClassMap(classes=255), (0, 254, 255), [0, 254, 255]),
        (ClassMap(classes=2, ids=(0, 255), ignore_ids=()), (255, 0), [1, 0]),
        (ClassMap(classes=2, ids=(5, 9), ignore_ids=(), ignore_rest=True), (5, 0, 9), [0, 255, 1]),
    ],
)
def test_each_value_is_its_class(class_map, values, expected):
    for dtype in (np.uint8, np.uint16, np.int32, np.int64):
        assert numbers(class_map, *values, dtype=dtype) == expected
    assert numbers(ClassMap.from_json(json.loads(json.dumps(class_map.to_json()))), *values) == (
        expected
    )


def test_negative_and_wide_values_are_no_other_class_by_accident():
    for dtype, value in ((np.int16, -255), (np.int64, -1), (np.uint16, 256 + 7), (np.int8, -1)):
        with pytest.raises(UnknownValues, match=rf"values \[{value}\] are beyond the 3 classes"):
            numbers(GAPS, value, dtype=dtype)
    far = ClassMap(classes=2, ids=(1000, 66000), ignore_ids=(-1,))
    assert numbers(far, 66000, -1, 1000, dtype=np.int64) == [1, 255, 0]


def test_colours_are_values_too():
    class_map = ClassMap(classes=2, colours=("000000+#0a0000", "ff0080"), ignore_ids=())
    packed = np.array([[0, 0x0A0000, 0xFF0080]], np.uint32)
    assert class_map.numbers_of_colours(packed).tolist() == [[0, 0, 1]]
    with pytest.raises(UnknownValues, match=r"colours \['00ff00'\]"):
        class_map.numbers_of_colours(np.array([[0x00FF00]], np.uint32))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"classes": 256}, "256 classes"),
        ({"classes": 2, "ids": (1,)}, "1 ids for 2 classes"),
        ({"classes": 2, "ids": (1, 1)}, r"ids \[1\] are there twice"),
        ({"classes": 2, "ids": (1, 255)}, r"ids \[255\] are classes and are to be ignored"),
        ({"classes": 2, "colours": ("00ff00", "00FF00")}, "'00ff00'"),
    ],
)
def test_a_value_of_two_classes_is_refused(wrong, reason):
    with pytest.raises(ValueError, match=reason):
        ClassMap(**wrong)


def test_a_map_knows_whether_its_values_are_the_numbers():
    assert ClassMap(classes=3).as_numbers
    assert ClassMap(classes=11, ignore_ids=(11, 255)).as_numbers  # CamVid: 11 is no number
    assert ClassMap(classes=2, ids=(0, 7)).as_numbers  # 1 means nothing there
    for shifted in (VOID_0, NEIGHBOURS, UNSORTED, ClassMap(classes=2, ids=(7, 8), ignore_ids=(0,))):
        assert not shifted.as_numbers


def given(corpus, masks_are=None):
    return GivenMasks(classes=3, corpus=corpus, masks_are=masks_are)


def read(reading, *values, ours=False):
    mask = np.array([values], np.uint8)
    return reading.read(lambda by: by.numbers(mask), anchored=ours).tolist()[0]


def test_numbers_are_numbers_whatever_the_corpus_has():
    for corpus in (None, VOID_0, GAPS, NEIGHBOURS, UNSORTED):
        assert read(given(corpus, "classes"), 0, 1, 2, 255) == [0, 1, 2, 255]
        assert read(given(corpus), 0, 1, 2, 255, ours=True) == [0, 1, 2, 255]
    assert read(given(None), 0, 2, 255) == [0, 2, 255]  # an old model: nothing else is known
    assert read(given(VOID_0), 0, 1, 255) == [0, 1, 255]  # the corpus has no 255: no doubt
    assert read(given(GAPS), 1, 2) == [1, 2]


def test_what_could_be_both_is_refused_until_somebody_says_what_it_is():
    for corpus, values in ((VOID_0, (1, 2)), (NEIGHBOURS, (0, 255)), (UNSORTED, (0, 1))):
        with pytest.raises(ValueError, match="--masks-are classes or --masks-are corpus"):
            read(given(corpus), *values)
    assert read(given(VOID_0, "corpus"), 1, 2, 0) == [0, 1, 255]
    assert read(given(NEIGHBOURS, "corpus"), 0, 255, 254) == [0, 2, 1]
    with pytest.raises(ValueError, match="has the anchors' colours"):
        read(given(VOID_0, "corpus"), 0, 1, ours=True)
    assert read(given(ClassMap(classes=3), "corpus"), 0, 1, ours=True) == [0, 1]


def test_a_value_that_is_not_taken_is_named_with_who_would_take_it():
    with pytest.raises(ValueError, match=r"\[3\] .*0\.\.2.*; --masks-are corpus takes it$"):
        read(given(VOID_0), 0, 3)
    with pytest.raises(ValueError, match=r"\[1\] .*3 given ids.*; --masks-are classes takes it$"):
        read(given(GAPS, "corpus"), 0, 1)
    with pytest.raises(ValueError, match=r"\[77\] .*\)$"):
        read(given(GAPS), 77)
    with pytest.raises(ValueError, match="does not say what the values of its corpus"):
        given(None, "corpus")


def test_our_masks_are_known_by_their_colours():
    palette = make_palette("sphere", 3)
    image = Image.fromarray(np.zeros((2, 2), np.uint8))
    assert not anchored(image, palette)
    image.putpalette(palette.png_palette())
    assert anchored(image, palette)
    image.putpalette([1] * 768)
    assert not anchored(image, palette)


def test_a_model_s_json_has_the_whole_map_and_old_ones_have_none():
    defaults = Defaults(height=8, width=8, class_map=GAPS)
    data = json.loads(json.dumps(defaults.to_json()))
    assert data["class_map"]["ids"] == [7, 8, 11]
    assert Defaults.from_json(data) == defaults
    old = {k: v for k, v in data.items() if k != "class_map"} | {"ignore_ids": [0, 255]}
    assert Defaults.from_json(old).class_map is None


def test_the_card_says_what_files_hold():
    index = {
        "palette": make_palette("grid", ["a", "b", "c"]).to_json(), "provenance": {},
        "defaults": json.loads(json.dumps(Defaults(height=8, width=8, class_map=GAPS).to_json())),
    }  # fmt: skip
    card = model_card(index)
    assert "| 2 | c | 0, 0, 100 | 11 |" in card
    assert "of no class are: 0, 9, 255." in card
    index["defaults"]["class_map"] = None
    assert "| 2 | c | 0, 0, 100 | ? |" in model_card(index)
