import pytest

from pipelines.evaluation.predictions import find, match


def pair(id_, image, mask="/c/masks/x.png", image_part="", mask_part=""):
    return {"id": id_, "image": image, "image_part": image_part, "mask": mask,
            "mask_part": mask_part}  # fmt: skip


def matched(pairs, names):
    rows, missing = match(pairs, {name: f"/p/{name}.png" for name in names})
    return {row["id"]: row["predicted"] for row in rows}, missing


def test_predictions_carry_the_path_of_a_photo_from_any_folder_on():
    pairs = [pair("a/1", "s3://c/val/a/1_left.png"), pair("b/1", "s3://c/val/b/1_left.png")]
    found, missing = matched(pairs, ["a/1_left", "b/1_left"])
    assert found == {"a/1": "/p/a/1_left.png", "b/1": "/p/b/1_left.png"}
    assert not missing
    assert matched(pairs, ["val/a/1_left"]) == ({"a/1": "/p/val/a/1_left.png"}, ["b/1"])
    # label.py keeps the suffix where two photos would be alike without it.
    assert matched([pair("1", "/c/1.jpg")], ["1.jpg"])[0] == {"1": "/p/1.jpg.png"}


def test_or_that_of_the_mask_or_the_id():
    assert matched([pair("9", "/c/i/9.jpg", "/c/m/9_ids.png")], ["9_ids"])[0]
    assert matched(
        [pair("k/7", "/c/0.tar", image_part="bytes:0:9", mask_part="bytes:9:9")], ["k/7"]
    )
    # A place in a tar has no name: that of the tar is not taken for one.
    assert matched([pair("7", "/c/0.tar", "/c/0.tar", "bytes:0:9", "bytes:9:9")], ["0"])[1] == ["7"]


def test_the_longest_path_wins_and_one_prediction_is_of_one_photo():
    pairs = [pair("a/1", "/c/a/1.png"), pair("b/1", "/c/b/1.png")]
    assert matched(pairs, ["a/1", "1"])[0] == {"a/1": "/p/a/1.png", "b/1": "/p/1.png"}
    with pytest.raises(ValueError, match=r"two photos, a/1 and b/1"):
        matched(pairs, ["1"])


def test_a_folder_without_predictions_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no predictions"):
        find(str(tmp_path), ("a", "b"))
