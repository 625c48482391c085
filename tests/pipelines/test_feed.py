"""The order of the training stream: every row once an epoch, from any position on."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines import latents
from pipelines.feed import Order, ReadWindow

ROWS = tuple((shard, group, 5 if group == 3 else 8) for shard in range(7) for group in range(4))


def rows_of(order: Order, windows: int) -> list[tuple[int, int, int]]:
    """(shard, row group, row) along the stream, of so many windows."""
    found = []
    for number in range(windows):
        window = order[number]
        assert window.first == len(found)
        assert len(window.order) == order.window
        sizes = {(s, g): n for s, g, n in order.rows}
        flat = [(s, g, i) for s, g in window.groups for i in range(sizes[s, g])]
        found += [flat[i] for i in window.order]
    return found


@pytest.mark.parametrize("window", [1, 24, 203, 1000])
def test_every_row_comes_once_an_epoch_in_another_order_each_time(window):
    order = Order(ROWS, seed=1, window=window)
    every = sorted((s, g, i) for s, g, n in ROWS for i in range(n))
    length = len(every)
    stream = rows_of(order, -(-3 * length // window))
    epochs = [stream[e * length : (e + 1) * length] for e in range(3)]
    assert all(sorted(epoch) == every for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] != every


def test_a_window_reads_little_more_than_its_rows():
    order = Order(ROWS, seed=1, window=64)
    sizes = {(s, g): n for s, g, n in ROWS}
    read = [sum(sizes[group] for group in order[number].groups) for number in range(50)]
    assert max(read) <= 64 + 4 * 8  # a part of a row group at either end, twice at an epoch's seam
    assert sum(read) / (50 * 64) < 1.2


def test_the_order_is_the_seeds_alone():
    one, same, other = (Order(ROWS, seed=seed, window=24) for seed in (1, 1, 2))
    assert rows_of(one, 9) == rows_of(same, 9)
    assert rows_of(one, 9) != rows_of(other, 9)


def test_a_window_is_whole_batches_of_about_so_many_row_groups():
    shards = (latents.Shard("a", 70, 0, "", (32, 32, 6)),) * 20
    assert Order.of(latents.Split(1400, 1400, shards, ()), 0, 16, 48).window == 528


ROWS_A_GROUP, SHAPE, SIZE = 4, (4, 2, 3), (4, 6)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """40 rows in 10 row groups: row i has mask i and latents i, its draw k is i + k/10."""
    folder = tmp_path_factory.mktemp("latents")
    number = np.arange(40)
    whole = number.reshape(-1, 1, 1, 1) * np.ones(SHAPE)
    columns = {
        "id": [f"{i}" for i in number],
        "mask": np.stack([np.full(SIZE, i, np.uint8) for i in number]),
        "image_mean": whole, "image_std": np.full(whole.shape, 0.5),
    } | {f"mask_draw_{k}": whole + k / 10 for k in range(5)}  # fmt: skip
    data, groups = latents.parquet_bytes(latents.to_table(columns, ""), ROWS_A_GROUP)
    (folder / "0.parquet").write_bytes(data)
    split = latents.Split(40, 40, (latents.Shard("0.parquet", 40, len(data), "x", groups),), ())
    recipe = {"autoencoder": {"stochastic": True}, "draws": 5}
    return latents.Manifest(str(folder), "", recipe, {}, None, *SIZE, {"train": split}, 0, {})


def read(manifest, start=0, stop=400, seed=3, **recipe):
    manifest = replace(manifest, recipe=manifest.recipe | recipe)
    order = Order.of(manifest.split("train"), seed, 3, 6)
    windows = range(start // order.window, (stop - 1) // order.window + 1)
    reader = ReadWindow(manifest, "train", order, start, stop, online=False)
    parts = [reader.rows(number) for number in windows]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def test_chance_does_not_depend_on_where_a_run_began(written):
    whole, resumed = read(written), read(written, start=57, stop=311)
    assert whole["position"].tolist() == list(range(400))
    for name, values in resumed.items():
        assert np.array_equal(values, whole[name][57:311]), name
    assert not np.array_equal(read(written, seed=4)["uniform"], whole["uniform"])


def test_a_row_stays_together(written):
    fed = read(written)
    row = fed["ids"][:, 0, 0]
    assert np.array_equal(np.sort(row.reshape(10, 40)), np.tile(np.arange(40), (10, 1)))
    assert np.abs(fed["x_0"].mean((1, 2, 3)) - row).max() < 0.6  # 24 values, spread 0.5
    assert np.abs(fed["x_1"][:, 0, 0, 0] - row - 0.25).max() < 0.2


def test_training_takes_perturbed_draws_and_samples_the_posterior(written):
    fed = read(written, stop=8000)
    row = fed["ids"][:, 0, 0]
    which = np.rint(10 * (fed["x_1"][:, 0, 0, 0].astype(np.float32) - row)).astype(int)
    counts = np.bincount(which, minlength=5)
    assert counts[0] == 0  # the clean one is for evaluation
    assert counts[1:].min() > 1700
    for i in range(40):
        assert len(set(which[row == i])) == 4  # every row sees every draw
    noise = fed["x_0"] - row.reshape(-1, 1, 1, 1)
    assert abs(noise.mean()) < 0.005
    assert abs(noise.std() - 0.5) < 0.005
    assert abs(fed["uniform"].mean() - 0.5) < 0.02


def test_one_draw_and_no_spread_leave_no_choice(written):
    fed = read(written, autoencoder={"stochastic": False}, draws=1)
    row = fed["ids"][:, 0, 0]
    assert np.array_equal(fed["x_1"][:, 0, 0, 0], row)
    assert np.array_equal(fed["x_0"][:, 0, 0, 0], row)
