"""A cell of a table that holds no picture says what it holds, sample by sample."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.corpora import Corpus, list_pairs, parts
from pipelines.corpora.pixels import BadInput
from pipelines.dataset.config import EncodeConfig
from pipelines.dataset.encoder import Decode
from tests.pictures import encoded, scene

PHOTO, MASK = (encoded(array) for array in scene(0))
CELLS = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def errors(root, masks, kind):
    columns = {"image": pa.array([PHOTO] * len(masks)), "label": pa.array(masks, kind)}
    (root / "data").mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), root / "data/train-0.parquet", row_group_size=2)
    corpus = Corpus(root=str(root), kind="tables", shards="data/{split}-*.parquet", images="image",
                    masks="label", classes=("a", "b", "c"))  # fmt: skip
    decode = Decode(EncodeConfig(corpus=corpus, height=48, width=64), 1)
    rows = [decode(row | {"shard": ""})[0] for row in list_pairs(corpus, "train").pairs.to_pylist()]
    return [(row["source"].rpartition("/")[2], row["error"]) for row in rows if row["error"]]


@pytest.mark.parametrize(
    ("value", "kind", "reason"),
    [(None, pa.binary(), "the mask is null"), (None, CELLS, "the mask is null"),
     ({"bytes": None, "path": None}, CELLS, "the mask is null"),
     ({"bytes": None, "path": "m.png"}, CELLS, "the mask is a path, 'm.png', without its bytes"),
     ({"bytes": b"", "path": "m/1.png"}, CELLS, "the file is empty"),
     (b"", pa.binary(), "the file is empty")],
)  # fmt: skip
def test_each_sample_has_its_line_and_its_words(tmp_path, value, kind, reason):
    good = {"bytes": MASK, "path": None} if kind == CELLS else MASK
    found = errors(tmp_path, [value, good, value, value], kind)
    assert len({source for source, _ in found}) == 3
    assert found[-1][0] == "000003)"
    assert {error.partition(" (column")[0] for _, error in found} == {reason}


@pytest.mark.parametrize(
    ("value", "kind", "reason"),
    [("m/1.png", pa.string(), "is a path, 'm/1.png'"), ([1, 2], pa.list_(pa.int64()), "type list"),
     (7, pa.int64(), "type int")],
)  # fmt: skip
def test_a_column_of_another_type_is_named(tmp_path, value, kind, reason):
    for _, error in errors(tmp_path, [value, value], kind):
        assert reason in error
        assert "(column 'label')" in error


def test_what_is_no_file_is_a_reason_that_is_true(tmp_path):
    (tmp_path / "dead.png").symlink_to("gone.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    reasons = {
        "never.png": "is not there", "file/a.png": "is not there", "folder.png": "is a folder",
        "dead.png": "is a link to 'gone.png', which leads to no file",
        "loop.png": "is a link to 'loop.png', which leads to no file",
        "a" * 300: "is no name of a file",
    }  # fmt: skip
    for name, reason in reasons.items():
        with pytest.raises(BadInput, match=f"^{reason}"):
            parts.read(f"{tmp_path}/{name}")
