import shutil

import pytest

from pipelines.corpora import Bad, Corpus, list_pairs
from pipelines.inference.products import unique_names
from tests.pictures import encoded, scene, write_good, write_pair


def test_pairs_are_sorted_and_lonely_files_are_named(tmp_path):
    write_good(tmp_path, "train", 3)
    (tmp_path / "images/train/0001.png").unlink()
    (tmp_path / "masks/train/0002.png").unlink()
    (tmp_path / "images/train/.hidden.png").write_bytes(b"")
    pairs, bad, _ = list_pairs(Corpus(root=str(tmp_path)), "train")
    assert pairs["id"].to_pylist() == ["0000"]
    assert bad == [
        Bad(f"{tmp_path}/images/train/0002.png", "an image without a mask"),
        Bad(f"{tmp_path}/masks/train/0001.png", "a mask without an image"),
    ]


@pytest.mark.parametrize(
    "name",
    ["with space", "ünï-cødé 日本", "per%20cent", "quote'\"", "#hash?&=+", "[br]{ace}*", "a.b.c"],
)
def test_odd_characters_in_names(tmp_path, name):
    image, ids = scene(0)
    write_pair(tmp_path, "train", f"deep/{name}", encoded(image), encoded(ids), "png")
    pairs, bad, _ = list_pairs(Corpus(root=str(tmp_path)), "train")
    assert pairs["id"].to_pylist() == [f"deep/{name}"]
    assert not bad
    from infra import storage

    assert storage.read_bytes(pairs["image"][0].as_py()) == encoded(image)


def test_two_photos_of_one_name_are_not_both_used(tmp_path):
    write_good(tmp_path, "train", 1)
    (tmp_path / "images/train/0000.jpg").write_bytes(b"x")
    pairs, bad, _ = list_pairs(Corpus(root=str(tmp_path)), "train")
    assert pairs.num_rows == 1
    assert "a second file of the name '0000'" in bad[0].reason


def test_a_missing_folder_or_no_pair_says_where(tmp_path):
    with pytest.raises(FileNotFoundError, match="images/train"):
        list_pairs(Corpus(root=str(tmp_path)), "train")
    write_good(tmp_path, "train", 1)
    (tmp_path / "masks/train/0000.png").rename(tmp_path / "masks/train/other.png")
    with pytest.raises(ValueError, match="no photo has a mask"):
        list_pairs(Corpus(root=str(tmp_path)), "train")


def test_a_class_cannot_be_ignored_too():
    with pytest.raises(ValueError, match="are classes"):
        Corpus(classes=("a", "b"), ignore_ids=(1,))


def test_product_names_drop_the_suffix_unless_two_would_be_alike():
    assert unique_names(["a.jpg", "b/c.png", "b/c.jpg"]) == ["a", "b/c.png", "b/c.jpg"]
    odd = ["a.jpg", "a.jpg.png", "a.png"]
    assert unique_names(odd) == odd


def test_linked_folders_are_read_and_copies_in_hidden_ones_are_not(tmp_path):
    write_good(tmp_path / "corpus", "train", 2)
    write_good(tmp_path / "disk2", "train", 1, start=7)
    for kind in ("images", "masks"):
        (tmp_path / f"corpus/{kind}/train/more").symlink_to(tmp_path / f"disk2/{kind}/train")
        shown = tmp_path / f"corpus/{kind}/train"
        shutil.copytree(shown, shown / ".ipynb_checkpoints", symlinks=True)
    pairs, bad, _ = list_pairs(Corpus(root=str(tmp_path / "corpus")), "train")
    assert pairs["id"].to_pylist() == ["0000", "0001", "more/0007"]
    assert not bad
