"""Every known corpus from a small tree with its true names and quirks."""

import io
import json
import tarfile
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines.corpora import Corpus, list_pairs
from pipelines.corpora.classes import with_classes
from pipelines.corpora.known import KNOWN
from pipelines.dataset.config import EncodeConfig
from pipelines.dataset.encoder import Decode
from tests.pictures import encoded, scene

IMAGE = scene(0)[0][:8, :8]


def put(root, path, data):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def values(*rows):
    """A mask of 8x8 whose bands hold these values."""
    return np.array(rows, np.uint8)[np.arange(8) * len(rows) // 8, None].repeat(8, axis=1)


def read(corpus, root, split):
    """What the encode sees: ``{id: class ids of the first column}``, and what is bad."""
    corpus = with_classes(corpus)
    cfg = EncodeConfig(corpus=replace(corpus, root=str(root)), height=8, width=8)
    listing = list_pairs(cfg.corpus, split)
    decode = Decode(cfg, 1)
    rows = {row["id"]: decode(row | {"shard": ""})[0] for row in listing.pairs.to_pylist()}
    errors = {key: row["error"] for key, row in rows.items() if row["error"]}
    assert not errors, errors
    return {key: list(dict.fromkeys(row["ids"][:, 0].tolist())) for key, row in rows.items()}, [
        bad.reason for bad in listing.bad
    ]


def test_cityscapes(tmp_path):
    for city, name in (("aachen", "aachen_000000_000019"), ("ulm", "ulm_000001_000019")):
        put(tmp_path, f"leftImg8bit/train/{city}/{name}_leftImg8bit.png", encoded(IMAGE))
        base = f"gtFine/train/{city}/{name}_gtFine"
        put(tmp_path, f"{base}_labelIds.png", encoded(values(0, 7, 26, 33)))
        put(tmp_path, f"{base}_labelTrainIds.png", encoded(values(255, 0, 13, 18)))
        put(tmp_path, f"{base}_instanceIds.png", encoded(values(7).astype(np.uint16)))
        put(tmp_path, f"{base}_color.png", encoded(IMAGE))
        put(tmp_path, f"{base}_polygons.json", b"{}")
    expected = {
        "aachen/aachen_000000_000019": [255, 0, 13, 18],
        "ulm/ulm_000001_000019": [255, 0, 13, 18],
    }
    assert read(KNOWN["cityscapes"][1], tmp_path, "train") == (expected, [])
    assert read(KNOWN["cityscapes-train-ids"][1], tmp_path, "train") == (expected, [])


def test_celebamask_hq_merged(tmp_path):
    for number in (0, 1, 27):
        put(tmp_path, f"CelebA-512-img/{number}.jpg", encoded(IMAGE, "JPEG"))
        put(tmp_path, f"CelebAMask-HQ-mergemask/{number}.png", encoded(values(0, 1, 18)))
    put(tmp_path, "metas/train.txt", b"0.jpg\n27.jpg\n99.jpg\n")
    put(tmp_path, "metas/val.txt", b"1\n")
    corpus = KNOWN["celebamask"][1]
    seen, bad = read(corpus, tmp_path, "train")
    assert seen == {"0": [0, 1, 18], "27": [0, 1, 18]}
    assert bad == ["listed, not there"]
    assert list(read(corpus, tmp_path, "val")[0]) == ["1"]


def test_celebamask_hq_as_handed_out(tmp_path):
    """Photos 0.jpg of twice the size, masks 00000_l_eye.png in folders of 2,000, RGB or grey."""
    big = np.asarray(Image.fromarray(IMAGE).resize((16, 16)))
    put(tmp_path, "CelebA-HQ-img/2012.jpg", encoded(big, "JPEG"))
    face, eye = np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8)
    face[2:], eye[4:6] = 255, 255
    folder = "CelebAMask-HQ-mask-anno/1"
    put(tmp_path, f"{folder}/02012_skin.png", encoded(np.stack([face] * 3, -1)))
    put(tmp_path, f"{folder}/02012_l_eye.png", encoded(eye))
    put(tmp_path, "metas/train.txt", b"2012\n")
    seen, bad = read(KNOWN["celebamask-parts"][1], tmp_path, "train")
    assert seen == {"2012": [0, 1, 4]}
    assert not bad


def test_coco_stuff(tmp_path):
    name = "000000000009"
    put(tmp_path, f"train2017/{name}.jpg", encoded(IMAGE, "JPEG"))
    put(tmp_path, f"annotations/train2017/{name}.png", encoded(values(0, 12, 91, 181, 255)))
    put(tmp_path, "annotations/instances_train2017.json", b"{}")
    corpus = with_classes(KNOWN["cocostuff"][1])
    assert len(corpus.classes) == 171
    seen, bad = read(corpus, tmp_path, "train")
    names = [corpus.classes[c] for c in seen[name][:-1]]
    assert names == ["person", "stop sign", "banner", "wood"]
    assert seen[name][-1] == 255
    assert not bad


def test_ade20k(tmp_path):
    put(tmp_path, "images/training/ADE_train_00000001.jpg", encoded(IMAGE, "JPEG"))
    put(tmp_path, "annotations/training/ADE_train_00000001.png", encoded(values(0, 1, 150)))
    put(tmp_path, "objectInfo150.txt", b"Idx Ratio\n")
    seen, _ = read(KNOWN["ade20k"][1], tmp_path, "train")
    assert seen == {"ADE_train_00000001": [255, 0, 149]}


def test_voc(tmp_path):
    """Index PNGs with a palette, many photos without a mask, and lists that leave those out."""
    put(tmp_path, "ImageSets/Segmentation/train.txt", b"2007_000032\n")
    mask = Image.fromarray(values(0, 1, 20, 255))
    mask.putpalette([7 * i % 256 for i in range(768)])
    buffer = io.BytesIO()
    mask.save(buffer, "PNG")
    put(tmp_path, "SegmentationClass/2007_000032.png", buffer.getvalue())
    for name in ("2007_000032", "2007_000027"):
        put(tmp_path, f"JPEGImages/{name}.jpg", encoded(IMAGE, "JPEG"))
    assert read(KNOWN["voc"][1], tmp_path, "train") == ({"2007_000032": [0, 1, 20, 255]}, [])


def test_camvid_of_segnet(tmp_path):
    put(tmp_path, "train/0001TP_006690.png", encoded(IMAGE))
    put(tmp_path, "trainannot/0001TP_006690.png", encoded(values(0, 10, 11)))
    seen, _ = read(KNOWN["camvid-segnet"][1], tmp_path, "train")
    assert seen == {"0001TP_006690": [0, 10, 255]}


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_an_index(tmp_path, suffix):
    put(tmp_path, "deep/photo one.jpg", encoded(IMAGE, "JPEG"))
    put(tmp_path, "labels/1.png", encoded(values(0, 1)))
    rows = [
        {"picture": "deep/photo one.jpg", "label": "labels/1.png", "split": "train"},
        {"picture": "other.jpg", "label": "other.png", "split": "val"},
        {"picture": "lonely.jpg", "label": "", "split": "train"},
    ]
    if suffix == "csv":
        lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
        put(tmp_path, "index.csv", "\n".join(lines).encode())
    elif suffix == "jsonl":
        put(tmp_path, "index.jsonl", "\n".join(map(json.dumps, rows)).encode())
    else:
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "index.parquet")
    corpus = Corpus(kind="index", shards=f"index.{suffix}", images="picture", masks="label",
                    classes=("a", "b"))  # fmt: skip
    assert read(corpus, tmp_path, "train") == ({"deep/photo one": [0, 1]}, ["names no mask"])


def test_an_index_names_no_files_elsewhere_unless_it_may(tmp_path):
    """Whoever wrote it chose what is read with this user's rights; a bad row is a line."""
    put(tmp_path, "corpus/a.png", encoded(IMAGE))
    put(tmp_path, "corpus/b.png", encoded(values(0, 1)))
    put(tmp_path, "more/c.png", encoded(IMAGE))
    strange = [
        "/etc/passwd", "../more/c.png", "x/../../more/c.png", "..\\more\\c.png", "%2e%2e/c.png",
        "file:///etc/passwd", "http://10.0.0.1/c.png", f"{tmp_path}/more/c.png",
        f"{tmp_path}/corpus/../more/c.png", f"{tmp_path}/corpus-2/c.png", "s3://k:secret@b/c.png",
    ]  # fmt: skip
    names = [*strange, "a.png", f"{tmp_path}/corpus/a.png"]
    lines = ["id,image,mask", *(f"{n},{name},b.png" for n, name in enumerate(names))]
    put(tmp_path, "corpus/index.csv", "\n".join(lines).encode())
    corpus = Corpus(kind="index", shards="index.csv", classes=("a", "b"), images="image",
                    masks="mask", splits=("train",))  # fmt: skip
    seen, bad = read(corpus, tmp_path / "corpus", "train")
    assert seen == {"11": [0, 1], "12": [0, 1]}
    assert len(bad) == len(strange)
    assert all("out" in reason or "elsewhere" in reason or "@" in reason for reason in bad)
    assert "secret" not in " ".join(bad)
    allowed = replace(corpus, allow=(f"{tmp_path}/more",))
    assert read(allowed, tmp_path / "corpus", "train")[0] == {
        "7": [0, 1],
        "11": [0, 1],
        "12": [0, 1],
    }


def test_webdataset(tmp_path):
    """Keys that begin anew in each shard, names beyond 100 characters, and other members."""
    for shard in (0, 1):
        with tarfile.open(tmp_path / f"train-{shard:06d}.tar", "w") as tar:
            members = {
                "000.jpg": encoded(IMAGE, "JPEG"), "000.seg.png": encoded(values(0, shard)),
                "000.json": b"{}", "long" * 40 + ".jpg": encoded(IMAGE, "JPEG"),
            }  # fmt: skip
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    corpus = replace(KNOWN["webdataset"][1], classes=("a", "b"))
    seen, bad = read(corpus, tmp_path, "train")
    assert seen == {"train-000000/000": [0], "train-000001/000": [0, 1]}
    assert bad == ["an image without a mask"] * 2


def write_tar(path, *members):
    """Members ``(name, bytes)``, or ``(name, kind of link, where it leads)``."""
    with tarfile.open(path, "w") as tar:
        for name, *what in members:
            info = tarfile.TarInfo(name)
            if len(what) == 2:
                info.type, info.linkname = what
                tar.addfile(info)
            else:
                info.size = len(what[0])
                tar.addfile(info, io.BytesIO(what[0]))


def wds(**options):
    return replace(KNOWN["webdataset"][1], classes=("a", "b"), **options)


PHOTO, ZERO, ONE = encoded(IMAGE), encoded(values(0)), encoded(values(1))
TARS = {
    "dots in keys": (
        [("cam.1.jpg", PHOTO), ("cam.1.seg.png", ONE), ("cam.2.jpg", PHOTO),
         ("cam.2.seg.png", ZERO), ("22.05.JPEG", PHOTO), ("22.05.SEG.PNG", ONE)], {},
        {"cam.1": [1], "cam.2": [0], "22.05": [1]}, []),
    "folders with dots, and a leading ./": (
        [("./v1.0/a.jpg", PHOTO), ("./v1.0/a.seg.png", ONE)], {}, {"./v1.0/a": [1]}, []),
    "suffixes that end alike": (
        [("a.png", PHOTO), ("a.seg.png", ONE), ("a.depth.png", ZERO), ("a.json", b"{}")], {},
        {"a": [1]}, []),
    "asked for as .png": (
        [("a.b.jpg", PHOTO), ("a.b.png", ONE)], {"images": ".jpg", "masks": ".png"}, {"a.b": [1]},
        []),
    "a key there twice": (
        [("a.jpg", PHOTO), ("a.seg.png", ONE), ("b.jpg", PHOTO), ("b.seg.png", ZERO),
         ("a.jpg", PHOTO)], {}, {"b": [0]},
        ["the key is there twice, and nothing says which photo and which mask are one sample"]),
    "no partner": (
        [("a.jpg", PHOTO), ("b.seg.png", ONE), ("c.d.jpg", PHOTO), ("e.jpg", PHOTO),
         ("e.seg.png", ONE)], {}, {"e": [1]},
        ["an image without a mask", "a mask without an image", "an image without a mask"]),
    "hard and symbolic links": (
        [("x/a.jpg", PHOTO), ("a.seg.png", ONE), ("x/b.jpg", tarfile.LNKTYPE, "x/a.jpg"),
         ("x/b.seg.png", tarfile.SYMTYPE, "../a.seg.png"), ("a.jpg", tarfile.LNKTYPE, "x/a.jpg"),
         ("x/a.seg.png", tarfile.SYMTYPE, "gone.png")], {}, {"x/b": [1], "a": [1]},
        ["a link to x/gone.png, which is no file of the tar", "an image without a mask"]),
    "hidden copies": (
        [("a.jpg", PHOTO), ("a.seg.png", ONE), ("._a.jpg", b"x"), ("__MACOSX/a.jpg", b"x"),
         (".thumbs/a.jpg", PHOTO)], {}, {"a": [1]}, []),
}  # fmt: skip
"""Kind -> members, options, what is read, and what is named."""


@pytest.mark.parametrize("kind", TARS)
def test_keys_of_webdataset(tmp_path, kind):
    members, options, expected, named = TARS[kind]
    write_tar(tmp_path / "train-0.tar", *members)
    seen, bad = read(wds(**options), tmp_path, "train")
    assert seen == {f"train-0/{key}": value for key, value in expected.items()}
    assert bad == named


def test_members_that_nobody_asks_for_are_counted_by_kind(tmp_path):
    write_tar(tmp_path / "train-0.tar", *TARS["suffixes that end alike"][0], ("b.json", b"{}"))
    (*left,) = list_pairs(replace(wds(), root=str(tmp_path)), "train").left
    assert left == [(".json", 2, "train-0.tar: a.json"), (".png", 1, "train-0.tar: a.depth.png")]


def test_hugging_face_parquet_and_saved_to_disk(tmp_path):
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [
        {"image": {"bytes": encoded(IMAGE), "path": None},
         "label": {"bytes": encoded(values(0, c)), "path": None}} for c in (0, 1, 1)
    ]  # fmt: skip
    table = pa.Table.from_pylist(rows, pa.schema([("image", image), ("label", image)]))
    (tmp_path / "data").mkdir()
    pq.write_table(table, tmp_path / "data/train-00000-of-00001.parquet", row_group_size=2)
    (tmp_path / "train").mkdir()
    with pa.ipc.new_stream(tmp_path / "train/data-00000-of-00001.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    hf_disk(tmp_path, "data-00000-of-00001.arrow")
    for name, stem in (
        ("tables", "data/train-00000-of-00001"), ("hf-disk", "train/data-00000-of-00001"),
    ):  # fmt: skip
        seen, bad = read(replace(KNOWN[name][1], classes=("a", "b")), tmp_path, "train")
        assert seen == {f"{stem}/00000{n}": c for n, c in enumerate(([0], [0, 1], [0, 1]))}
        assert not bad


def saved_rows(*classes):
    """A table of rows whose masks hold these classes."""
    return pa.Table.from_pylist([{"image": PHOTO, "label": encoded(values(c))} for c in classes])


def write_arrow(path, table):
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)


def hf_disk(root, *names, **more):
    state = {"_data_files": [{"filename": name} for name in names], "_split": None} | more
    put(root, "train/state.json", json.dumps(state).encode())
    return replace(KNOWN["hf-disk"][1], classes=("a", "b"))


def test_of_what_was_saved_to_disk_state_json_says_what_is_data(tmp_path):
    for name, cells in (("data-00000-of-00002", [0, 1]), ("data-00001-of-00002", [1]),
                        ("cache-8dcc9daf3fee7dd9", [1, 1]), ("mine", [0])):  # fmt: skip
        write_arrow(tmp_path / f"train/{name}.arrow", saved_rows(*cells))
    corpus = hf_disk(tmp_path, "data-00000-of-00002.arrow", "data-00001-of-00002.arrow")
    seen, bad = read(corpus, tmp_path, "train")
    first, second = "train/data-00000-of-00002", "train/data-00001-of-00002"
    assert seen == {f"{first}/000000": [0], f"{first}/000001": [1], f"{second}/000000": [1]}
    assert bad == []
    assert list_pairs(replace(corpus, root=str(tmp_path)), "train").left == [
        (".arrow", 2, "train/cache-8dcc9daf3fee7dd9.arrow")
    ]
    (tmp_path / "train/state.json").unlink()  # without it, names say what the library left there
    (tmp_path / "train/mine.arrow").unlink()
    assert read(corpus, tmp_path, "train")[0] == seen


def test_what_state_json_lists_is_there_or_named_and_indices_are_refused(tmp_path):
    write_arrow(tmp_path / "train/data-00000-of-00001.arrow", saved_rows(0))
    corpus = hf_disk(tmp_path, "data-00000-of-00001.arrow", "gone.arrow")
    assert read(corpus, tmp_path, "train")[1] == ["state.json lists it, not there"]
    hf_disk(tmp_path, "data-00000-of-00001.arrow", _indices_data_files=[{"filename": "i.arrow"}])
    with pytest.raises(ValueError, match="flatten_indices"):
        read(corpus, tmp_path, "train")


def test_parquet_files_that_say_how_many_they_are(tmp_path):
    corpus = replace(KNOWN["tables"][1], classes=("a", "b"))
    (tmp_path / "data").mkdir()
    for number in (0, 2):
        pq.write_table(saved_rows(1), tmp_path / f"data/train-{number:05d}-of-00003.parquet")
    assert read(corpus, tmp_path, "train")[1] == ["of this set by the names of others, not there"]
    part = replace(corpus, shards="data/train-00002-of-00003.parquet")
    assert read(part, tmp_path, "train") == ({"data/train-00002-of-00003/000000": [1]}, [])
    pq.write_table(saved_rows(1), tmp_path / "data/train-00000-of-00001.parquet")
    with pytest.raises(ValueError, match=r"two sets of files, .*-of-00001.parquet and .*-of-00003"):
        read(corpus, tmp_path, "train")


def test_masks_that_are_pictures(tmp_path):
    colours = np.array([[128, 64, 128], [64, 0, 128], [192, 0, 0], [1, 2, 3]], np.uint8)
    put(tmp_path, "images/train/a.png", encoded(IMAGE))
    put(tmp_path, "masks/train/a.png", encoded(colours[values(0, 1, 2, 3)]))
    corpus = Corpus(classes=("road", "car"), colours=("804080", "400080+c00000"), ignore_rest=True)
    assert read(corpus, tmp_path, "train")[0] == {"a": [0, 1, 255]}
    strict = Corpus(classes=("road", "car"), colours=("804080", "400080+c00000"))
    with pytest.raises(AssertionError, match="010203"):
        read(strict, tmp_path, "train")


LISTS = {
    "ids with dots": (["o1.view01", "o1.view02", "plain"], "o1.view01\no1.view02\nplain\n"),
    "names with suffixes": (["o1.view01", "b"], "o1.view01.jpg\nb.PNG\n"),
    "blanks in ids": (["my photo 1", "my photo 2"], "my photo 1\nmy photo 2.jpg\n"),
    "more behind a blank": (["2007_000032", "b"], "2007_000032  1\nb -1\n"),
    "folders": (["aachen/a_0", "ulm/a_0"], "images/aachen/a_0.jpg\nulm/a_0\n"),
    "photo TAB mask": (["aachen/a_0", "my photo"],
                       "images/aachen/a_0.jpg\tmasks/aachen/a_0.png\n"
                       "images/my photo.jpg\tmasks/my photo.png\n"),
    "photo, mask": (["aachen/a_0", "b"], '"images/aachen/a_0.jpg","masks/aachen/a_0.png"\nb, b\n'),
    "photo mask": (["aachen/a_0", "b"], "images/aachen/a_0.jpg masks/aachen/a_0.png\nb.jpg b.png"),
    "lines of Windows, blank ones and a remark": (["a", "b"], "# ids\r\n\r\na\r\nb \r\n"),
}  # fmt: skip
"""Kind -> the ids of its lines, and the file."""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("kind", LISTS)
def test_lists_of_every_kind(tmp_path, kind, encoding):
    ids, content = LISTS[kind]
    for id_ in (*ids, "unlisted"):
        put(tmp_path, f"images/{id_}.jpg", PHOTO)
        put(tmp_path, f"masks/{id_}.png", ONE)
    put(tmp_path, "train.txt", content.encode(encoding))
    corpus = Corpus(images="images/{id}.jpg", masks="masks/{id}.png", lists="{split}.txt",
                    classes=("a", "b"))  # fmt: skip
    assert read(corpus, tmp_path, "train") == ({key: [1] for key in ids}, [])


def test_a_list_pairs_what_has_other_names_and_says_what_is_gone(tmp_path):
    put(tmp_path, "images/p1.jpg", PHOTO)
    put(tmp_path, "masks/m1.png", ONE)
    put(tmp_path, "train.txt", b"p1.jpg\tm1.png\ngone.jpg\tgone.png\n")
    corpus = Corpus(images="images/{id}.jpg", masks="masks/{id}.png", lists="{split}.txt",
                    classes=("a", "b"))  # fmt: skip
    assert read(corpus, tmp_path, "train") == ({"p1": [1]}, ["listed, not there"])
    put(tmp_path, "train.txt", "p1\nhärte\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"train\.txt, line 2: byte 0xe4 is not UTF-8"):
        read(corpus, tmp_path, "train")


def test_suffixes_compare_without_case_and_what_can_be_opened_is_taken(tmp_path):
    for name, kind in (("a.JPG", "JPEG"), ("b.jfif", "JPEG"), ("c.GIF", "GIF"), ("d.avif", "AVIF"),
                       ("e.jp2", "JPEG2000"), ("f.ppm", "PPM"), ("g.Jpe", "JPEG")):  # fmt: skip
        put(tmp_path, f"images/train/{name}", encoded(IMAGE, kind))
        put(tmp_path, f"masks/train/{name[0]}.gif", encoded(values(0, 1), "GIF"))
    put(tmp_path, "images/train/notes.txt", b"x")
    put(tmp_path, "images/train/more.TXT", b"x")
    put(tmp_path, "masks/train/0123", b"x")
    corpus = Corpus(root=str(tmp_path), classes=("a", "b"))
    assert read(corpus, tmp_path, "train") == ({key: [0, 1] for key in "abcdefg"}, [])
    left = list_pairs(corpus, "train").left
    assert left == [(".txt", 2, "images/train/more.TXT"),
                    ("without a suffix", 1, "masks/train/0123")]  # fmt: skip
    explicit = replace(corpus, images="images/{split}/{id}.jpg")
    assert list(read(explicit, tmp_path, "train")[0]) == ["a"]


def test_a_mask_that_keeps_its_values_goes_before_a_jpeg_of_it(tmp_path):
    put(tmp_path, "images/train/a.jpg", PHOTO)
    put(tmp_path, "masks/train/a.png", ONE)
    put(tmp_path, "masks/train/a.jpg", PHOTO)
    assert read(Corpus(classes=("a", "b")), tmp_path, "train") == ({"a": [1]}, [])


def test_an_index_says_which_splits_it_has_and_what_is_no_path(tmp_path):
    put(tmp_path, "i.csv", b"image,mask,split\n1,2,training\na.jpg,b.png,test\n")
    corpus = Corpus(root=str(tmp_path), kind="index", shards="i.csv", images="image", masks="mask",
                    classes=("a", "b"))  # fmt: skip
    with pytest.raises(ValueError, match=r"no row is of the split 'train'; there are test, train"):
        list_pairs(corpus, "train")
    rows = [{"image": 1, "mask": 2}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "i.parquet")
    with pytest.raises(ValueError, match="row 0: 1 is of the type int, not a path"):
        list_pairs(replace(corpus, shards="i.parquet"), "train")


def index_of(root, data, name="i.json"):
    put(root, name, data if isinstance(data, bytes) else json.dumps(data).encode())
    return Corpus(root=str(root), kind="index", shards=name, images="image", masks="mask",
                  splits=("train",), classes=("a", "b"))  # fmt: skip


ROWS = [{"image": "a.jpg", "mask": "a.png"}, {"image": "b.jpg", "mask": "b.png"}]


def test_an_index_of_json_is_lines_or_one_list(tmp_path):
    indented = json.dumps(ROWS, indent=2).encode()
    lines = "\n".join(map(json.dumps, ROWS)).encode()
    for data in (ROWS, indented, lines):
        assert list_pairs(index_of(tmp_path, data), "train").pairs["id"].to_pylist() == ["a", "b"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [(["a.jpg", "b.jpg"], "is no index, where .* but a list of str"), ([], "a list of nothing"),
     ([ROWS], "a list of list"), ([*ROWS, "c"], "a list of dict, str"), ("a.jpg", "is no index"),
     ({"pairs": ROWS}, "has no column image, mask; it has pairs"), (b"", "is no index"),
     ({"image": ["a.jpg"], "mask": ["a.png"]}, "is of the type list, not a path"),
     ([{"image": {"path": "a"}, "mask": "b"}], "is of the type dict, not a path"),
     (b"[" * 100_000, "is no index"), ([ROWS[0], {"image": 3, "mask": "b"}], "is no index"),
     (b'{"image": "a", "image": "b", "mask": "c"}\n{"image": "a"', "is no index")],
)  # fmt: skip
def test_json_of_another_kind_is_a_sentence(tmp_path, data, reason):
    with pytest.raises(ValueError, match=reason):
        list_pairs(index_of(tmp_path, data), "train")


def test_a_column_twice_is_a_sentence(tmp_path):
    corpus = index_of(tmp_path, b"image,mask,mask\na,b,c\n", "i.csv")
    with pytest.raises(ValueError, match="more than one column mask"):
        list_pairs(corpus, "train")


def test_names_of_two_normal_forms_are_one_name_where_that_is_clear(tmp_path):
    composed, apart = "caf\u00e9", "cafe\u0301"
    put(tmp_path, f"images/train/{composed}.jpg", b"1")
    put(tmp_path, f"masks/train/{apart}.png", b"1")
    corpus = Corpus(root=str(tmp_path), splits=("train",), classes=("a", "b"))
    found = list_pairs(corpus, "train")
    assert found.pairs["id"].to_pylist() == [composed]
    assert found.pairs["mask"].to_pylist()[0].endswith(f"{apart}.png")
    assert found.bad == []
    put(tmp_path, f"images/train/{apart}.jpg", b"1")  # now each has its own, or none
    found = list_pairs(corpus, "train")
    assert found.pairs["id"].to_pylist() == [apart]
    assert "the id 'caf\\xe9'" in found.bad[0].reason
