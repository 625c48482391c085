"""A plan is only ever added to."""

import pyarrow as pa
import pytest

from pipelines.sharding import plan


def table(**rows):
    return pa.table({"id": list(rows), "bytes": list(rows.values())})


def extend(output, inputs, retry=()):
    return plan.extend(str(output), "train", 2, inputs, "id", lambda: retry)


def ids(output, part, shard):
    return plan.read_shard(str(output), "train", part, shard)["id"].to_pylist()


def test_what_is_new_gets_shards_of_its_own(tmp_path):
    first = extend(tmp_path, table(b=1, c=1, d=1))
    assert first.shards() == [["train/00000", "train/00001"]]
    second = extend(tmp_path, table(a=1, b=1, c=1, d=1, e=1, f=1))
    assert [ids(tmp_path, 0, 0), ids(tmp_path, 0, 1)] == [["b", "c"], ["d"]]
    assert [ids(tmp_path, 1, 0), ids(tmp_path, 1, 1)] == [["a", "e"], ["f"]]
    assert second.shards()[1] == ["train/00002", "train/00003"]
    again = extend(tmp_path, table(a=1, b=1, c=1, d=1, e=1, f=1))
    assert again == second
    assert again.inputs == 6


def test_a_changed_input_is_refused_unless_it_could_not_be_used(tmp_path):
    extend(tmp_path, table(a=1, b=1))
    with pytest.raises(ValueError, match=r"1 inputs of 'train' have changed.*b for one"):
        extend(tmp_path, table(a=1, b=2))
    mended = extend(tmp_path, table(a=1, b=2), retry=["b"])
    assert ids(tmp_path, 1, 0) == ["b"]
    assert mended.again == {"b": 1}
    assert extend(tmp_path, table(a=1, b=2), retry=["b"]).counts == (2, 1)  # once is enough


def test_what_went_away_stays_planned(tmp_path):
    extend(tmp_path, table(a=1, b=1))
    left = table(b=1)
    planned = extend(tmp_path, left)
    assert planned.inputs == 2
    assert plan.missing(planned, left, "id") == 1
