import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.dataset import latents


def columns(rows=10):
    rng = np.random.default_rng(0)
    return {
        "id": [f"a{i}" for i in range(rows)],
        "view": list(range(rows)),
        "crop": [np.arange(4)] * rows,
        "flip": [i % 2 == 1 for i in range(rows)],
        "image_mean": list(rng.normal(size=(rows, 3, 2, 4)).astype(np.float16)),
        "mask_draw_0": list(rng.normal(size=(rows, 3, 2, 4)).astype(np.float16)),
        "mask_draw_10": list(rng.normal(size=(rows, 3, 2, 4)).astype(np.float16)),
        "mask_draw_2": list(rng.normal(size=(rows, 3, 2, 4)).astype(np.float16)),
        "mask": list(rng.integers(0, 9, (rows, 4, 8)).astype(np.uint8)),
    }


def test_a_shard_is_plain_parquet_with_canonical_tensors(tmp_path):
    data, groups = latents.parquet_bytes(latents.to_table(columns(), '{"x": 1}'), 4)
    assert groups == (4, 4, 2)
    file = pq.ParquetFile(io.BytesIO(data))
    assert file.num_row_groups == 3
    schema = file.schema_arrow
    assert schema.field("image_mean").type == pa.fixed_shape_tensor(pa.float16(), [3, 2, 4])
    assert schema.field("mask_draw_10").type == pa.fixed_shape_tensor(pa.float16(), [3, 2, 4])
    assert schema.field("mask").type == pa.binary(4 * 8)
    assert schema.names[4:] == ["mask", "image_mean", "mask_draw_0", "mask_draw_2", "mask_draw_10"]
    assert schema.field("crop").type == pa.fixed_shape_tensor(pa.int32(), [4])
    assert schema.metadata[b"semflow"] == b'{"x": 1}'


def test_row_groups_come_back_as_they_were(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(latents.parquet_bytes(latents.to_table(columns(), ""), 4)[0])
    table = latents.read_row_groups(str(path), [1, 2])
    expected = columns()
    assert table["id"].tolist() == expected["id"][4:]
    for name in ("mask_draw_2", "mask"):
        assert np.array_equal(table[name], np.stack(expected[name][4:])), name
    few = latents.to_numpy(latents.to_table(expected, "").slice(3, 5))
    assert np.array_equal(few["mask"], np.stack(expected["mask"][3:8]))
    assert table["image_mean"].dtype == np.float16


def test_a_dataset_without_a_manifest_is_unfinished(tmp_path):
    with pytest.raises(ValueError, match=r"no manifest\.json.*not finished"):
        latents.read_manifest(str(tmp_path))
