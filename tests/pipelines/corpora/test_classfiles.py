"""Every form in which people name classes: read rightly, or refused with file and line."""

import json

import numpy as np
import pytest
from PIL import Image

from pipelines.corpora import Corpus
from pipelines.corpora.classes import with_classes
from pipelines.corpora.classfiles import parse
from pipelines.corpora.truth import label_map
from tests.pictures import encoded

NAMES = ("road", "traffic light", "sky")
BY_ORDER = (NAMES, (0, 1, 2), ())
BY_ID = (NAMES, (7, 26, 30), ())
BY_COLOUR = (NAMES, (0, 1, 2), ("804080", "faaa1e", "4682b4"))

READ = {
    "names": ("road\ntraffic light\nsky\n", BY_ORDER),
    "names with a header": ("name\nroad\ntraffic light\nsky\n", BY_ORDER),
    "names of which each has a comma": ("a, b\nc, d\n", (("a, b", "c, d"), (0, 1), ())),
    "names that count": ("lane 1\nlane 2\n", (("lane 1", "lane 2"), (0, 1), ())),
    "labelme": ("__ignore__\nroad\ntraffic light\nsky\n", BY_ORDER),
    "id name": ("7 road\n26 traffic light\n30 sky", BY_ID),
    "id name, in another order": ("30 sky\n7 road\n26 traffic light\n", BY_ID),
    "id: name": ("7: road\n26: traffic light\n30: sky", BY_ID),
    "id,name with a comment": ("# ids\n7,road\n\n26,traffic light\n30,sky\n", BY_ID),
    "id TAB name": ("7\troad\n26\ttraffic light\n30\tsky\n", BY_ID),
    "name,id": ("road,7\ntraffic light,26\nsky,30\n", BY_ID),
    "CSV name,id": ("name,id\nroad,7\ntraffic light,26\nsky,30\n", BY_ID),
    "CSV with more": ("ID;Category;Notes\n7;road;\n26;traffic light;x\n30;sky;y\n", BY_ID),
    "CSV with quotes": ('id,name\n0,"a, b"\n1,c\n', (("a, b", "c"), (0, 1), ())),
    "objectInfo150": (
        "Idx\tRatio\tTrain\tVal\tStuff\tName\n7\t0.1\t9\t1\t1\troad\n26\t0.1\t6\t6\t1\t"
        "traffic light\n30\t0.08\t8\t8\t1\tsky\n", BY_ID),
    "class_dict.csv": (
        "name, r, g, b\nroad, 128, 64, 128\ntraffic light, 250,170,30\nsky, 70,130,180", BY_COLOUR),
    "colours in hexadecimal": (
        "class,color\nroad,#804080\ntraffic light,FAAA1E\nsky,4682b4\n", BY_COLOUR),
    "labelmap.txt": (
        "# label:color_rgb:parts:actions\nroad:128,64,128::\ntraffic light:250,170,30::\n"
        "sky:70,130,180::\n", BY_COLOUR),
    "r g b name": ("128 64 128\troad\n250 170 30\ttraffic light\n70 130 180\tsky\n", BY_COLOUR),
    "name r g b": ("road 128 64 128\ntraffic light 250 170 30\nsky 70 130 180\n", BY_COLOUR),
    "JSON of names": (json.dumps(NAMES), BY_ORDER),
    "label2id": (json.dumps({"road": 7, "traffic light": 26, "sky": 30}), BY_ID),
    "id2label": (json.dumps({"7": "road", "30": "sky", "26": "traffic light"}), BY_ID),
    "id2label of names that are numbers": ('{"0": "1", "1": "0"}', (("1", "0"), (0, 1), ())),
    "config.json": (json.dumps({"id2label": {"7": "road", "26": "traffic light", "30": "sky"},
                                "label2id": {}, "hidden": 3}), BY_ID),
    "COCO": (json.dumps({"images": [], "categories": [
        {"id": 30, "name": "sky", "supercategory": "stuff"}, {"id": 7, "name": "road"},
        {"id": 26, "name": "traffic light"}]}), BY_ID),
    "Vistas": (json.dumps({"labels": [{"name": name, "color": [n, 2, 3]}
                                      for n, name in enumerate(NAMES)], "version": "1.2"}),
               BY_ORDER),
    "Ultralytics": (json.dumps({"names": {"7": "road", "26": "traffic light", "30": "sky"}}),
                    BY_ID),
}  # fmt: skip
"""Kind of file -> text, and names, ids and colours."""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("kind", READ)
def test_a_class_file_is_read(kind, encoding):
    content, expected = READ[kind]
    assert parse(content.encode(encoding), "x") == expected
    assert parse(content.replace("\n", "\r\n").encode(encoding), "x") == expected


REFUSED = {
    "an id twice": ("1 a\n1 b\n", r"x, line 2: the id 1 is there twice, first in line 1"),
    "a name twice": ("a\nb\n\na\n", r"x, line 4: the name 'a' is there twice"),
    "a colour twice": ("a:1,2,3::\nb:1,2,3::\n", r"x, line 2: the colour '010203' is there"),
    "a key twice": ('{"a": 0, "a": 1}', r"x: the key 'a' is there twice"),
    "one class": ("a\n", r"x: 1 classes"),
    "nothing": ("", r"x: 0 classes"),
    "some with ids": ("1 road\nsky\n", r"x, line 2: 'sky' is not of the form of line 1"),
    "a header of other words": ("Klasse,Wert\nroad,0\nsky,1\n", r"x, line 2: 'road,0' is not"),
    "a header without names": ("id,r,g,b\n0,1,2,3\n", r"x, line 1: no column of id, r, g, b"),
    "columns without a header": ("road\tflat\t1\nsky\tstuff\t0\n", r"x, line 1: 3 columns"),
    "ids and more without a header": ("0,road,flat\n1,sky,stuff\n", r"x, line 1: 3 columns"),
    "a short row": ("id,name\n0,road\n1\n", r"x, line 3: 1 columns, the header has 2"),
    "an id that is none": ("id,name\n0,road\nx,sky\n", r"x, line 3: .*'x'"),
    "an id that no mask has": ("id,name\n0,road\n-1,plate\n", r"x, line 3: no mask has .* -1"),
    "a colour that is none": ("name,r,g,b\na,0,0,0\nb,0,300,0\n", r"x, line 3: '0,300,0' is no"),
    "names or ids": ("road 7\nsky 9\n", r"x, line 1: is 'road 7' a name, or a name and its id"),
    "YAML": ("names:\n- road\n- sky\n", r"x, line 1: 'names:' is no class"),
    "JSON cut short": ('{"a": 0,\n"b": ', r"x, line 2: no JSON"),
    "other JSON": ('{"a": {"b": 1}}', r"x: JSON, but neither"),
    "categories without ids": ('[{"name": "a", "id": "x"}]', r"x: JSON, but neither"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_a_class_file_that_cannot_be_is_refused_with_its_line(kind):
    content, reason = REFUSED[kind]
    with pytest.raises(ValueError, match=reason):
        parse(content, "x")


def test_other_encodings_are_refused_by_name():
    with pytest.raises(ValueError, match=r"x, line 2: byte 0xe4 is not UTF-8"):
        parse("wall\ntür, härte\n".replace("ü", "u").encode("latin-1"), "x")
    with pytest.raises(ValueError, match=r"x, line 1: a zero byte, as in UTF-16"):
        parse("wall\nsky\n".encode("utf-16-le"), "x")


def test_a_table_of_colours_reads_masks_of_colours_and_its_void_is_none(tmp_path):
    table = "name,r,g,b\nvoid,224,224,192\nroad,0,0,0\nsky,128,0,0\n"
    (tmp_path / "class_dict.csv").write_text(table)
    given = Corpus(class_file=f"{tmp_path}/class_dict.csv", ignore_colours=("e0e0c0",))
    corpus = with_classes(given)
    assert (corpus.classes, corpus.colours) == (("road", "sky"), ("000000", "800000"))
    shown = np.array([[0, 0, 0], [128, 0, 0], [224, 224, 192]], np.uint8)[[[0, 1], [2, 1]]]
    expected = [[0, 1], [255, 1]]
    assert label_map(corpus).read(encoded(shown)).tolist() == expected
    backwards = Image.fromarray(np.array([[2, 1], [0, 1]], np.uint8))
    backwards.putpalette([224, 224, 192, 128, 0, 0, 0, 0, 0])
    assert label_map(corpus).read(encoded(backwards)).tolist() == expected


def test_ids_beside_colours_order_classes_and_do_not_read_masks(tmp_path):
    (tmp_path / "t.csv").write_text("id,name,color\n1,sky,800000\n0,road,000000\n")
    corpus = with_classes(Corpus(class_file=f"{tmp_path}/t.csv"))
    assert (corpus.classes, corpus.ids) == (("road", "sky"), ())
    assert corpus.colours == ("000000", "800000")


def test_no_class_file_and_no_classes():
    with pytest.raises(ValueError, match="name the classes"):
        with_classes(Corpus())
