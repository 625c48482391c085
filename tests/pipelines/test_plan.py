"""A plan is only ever added to."""

import pyarrow as pa
import pytest

from pipelines import plan


def table(**rows):
    return pa.table({"id": list(rows), "bytes": list(rows.values())})


def extend(output, inputs, retry=()):
    return plan.extend(str(output), plan.read(str(output), "train", 2), inputs, "id", retry)


def test_what_is_new_gets_shards_of_its_own(tmp_path):
    first = extend(tmp_path, table(b=1, c=1, d=1))
    assert first.shards() == [["train/00000", "train/00001"]]
    second = extend(tmp_path, table(a=1, b=1, c=1, d=1, e=1, f=1))
    assert second.parts[0].equals(first.parts[0])
    assert second.parts[1]["id"].to_pylist() == ["a", "e", "f"]
    assert second.shards()[1] == ["train/00002", "train/00003"]
    again = extend(tmp_path, table(a=1, b=1, c=1, d=1, e=1, f=1))
    assert again == plan.read(str(tmp_path), "train", 2)
    assert again.inputs == 6


def test_a_changed_input_is_refused_unless_it_could_not_be_used(tmp_path):
    extend(tmp_path, table(a=1, b=1))
    with pytest.raises(ValueError, match=r"1 inputs of 'train' have changed.*b for one"):
        extend(tmp_path, table(a=1, b=2))
    mended = extend(tmp_path, table(a=1, b=2), retry=["b"])
    assert mended.parts[1]["id"].to_pylist() == ["b"]
    assert mended.keys("id") == {"a": 0, "b": 1}
    assert len(extend(tmp_path, table(a=1, b=2), retry=["b"]).parts) == 2  # once is enough


def test_what_went_away_stays_planned(tmp_path):
    extend(tmp_path, table(a=1, b=1))
    assert extend(tmp_path, table(b=1)).inputs == 2
