"""The order of the training stream: every row once an epoch, from any step on, for all workers."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines.dataset import latents
from pipelines.training.feed import Feed, Order

GROUPS = tuple((shard, group, 5 if group == 3 else 8) for shard in range(7) for group in range(4))
ROWS = sorted((s, g, i) for s, g, n in GROUPS for i in range(n))


def rows_of(order: Order, window: int, lanes: range | None = None) -> np.ndarray:
    """(epoch, shard, row group, row) of a window, ``[depth, lanes, 4]``."""
    part = order.part(window, lanes or range(order.batch_size))
    flat = [
        (epoch, *order.groups[group][:2], row)
        for epoch, group in part.groups
        for row in range(order.groups[group][2])
    ]
    return np.array(flat)[part.rows]


@pytest.mark.parametrize(("batch_size", "depth"), [(1, 1), (8, 3), (29, 7), (4, 250)])
def test_every_row_comes_once_an_epoch_in_another_order_each_time(batch_size, depth):
    order = Order(GROUPS, 1, batch_size, depth)
    windows = -(-3 * len(ROWS) // (batch_size * depth))
    stream = np.concatenate([rows_of(order, n).reshape(-1, 4) for n in range(windows)])
    epochs = [[tuple(row[1:]) for row in stream if row[0] == epoch] for epoch in range(3)]
    assert all(sorted(epoch) == ROWS for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] != ROWS
    # An epoch ends where the next begins, but for the rows of one window.
    assert np.flatnonzero(stream[:, 0] == 0)[-1] < len(ROWS) + batch_size * depth


def test_the_lanes_of_workers_are_those_of_one():
    order = Order(GROUPS, 1, 12, 20)
    for window in range(5):
        whole = rows_of(order, window)
        for workers in (2, 3, 12):
            share = 12 // workers
            parts = [
                rows_of(order, window, range(n * share, (n + 1) * share)) for n in range(workers)
            ]
            assert np.array_equal(np.concatenate(parts, axis=1), whole)


def test_the_rows_of_a_batch_come_from_all_over_the_split():
    order = Order(GROUPS, 1, 8, 8)
    batches = [batch for window in range(3) for batch in rows_of(order, window)]
    distinct = [len({tuple(row[1:3]) for row in batch}) for batch in batches]
    assert min(distinct) >= 4  # of 8: a row group reaches into two lanes at most
    assert np.mean(distinct) > 6


def test_a_worker_reads_little_more_than_its_rows():
    order = Order(GROUPS, 1, 12, 20)
    for lanes in (range(12), range(4, 8)):
        read = [
            sum(order.groups[group][2] for _, group in order.part(n, lanes).groups)
            for n in range(50)
        ]
        assert max(read) <= 20 * len(lanes) + 4 * 8  # at either end, twice at an epoch's seam
        assert sum(read) < 50 * (20 * len(lanes) + 1.5 * 8)


def test_the_order_is_the_seeds_alone():
    one, same, other = (Order(GROUPS, seed, 8, 3) for seed in (1, 1, 2))
    assert np.array_equal(rows_of(one, 9), rows_of(same, 9))
    assert not np.array_equal(rows_of(one, 9), rows_of(other, 9))


def test_a_window_is_whole_batches_of_about_so_many_row_groups():
    shards = (latents.Shard("a", 70, 0, "", (32, 32, 6)),) * 20
    split = latents.Split(1400, 1400, shards, ())
    assert Order.of(split, 0, 16, 48).depth == 11
    assert Order.of(split, 0, 100, 48).depth == 29  # an epoch has no more batches
    assert Order.of(split, 0, 16, 2000).depth == 1


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


def read(manifest, first=0, stop=100, lanes=range(4), seed=3, online=False, **recipe):
    """Batches of 4 rows from windows of 3 batches, ``[steps, lanes, ...]``."""
    manifest = replace(manifest, recipe=manifest.recipe | recipe)
    order = Order.of(manifest.split("train"), seed, 3, 4)
    batches = list(Feed(manifest, "train", order, lanes, online).batches(first, stop))
    return {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}


@pytest.mark.parametrize(("first", "stop"), [(0, 1), (3, 9), (16, 77), (99, 100)])
def test_resumed_is_uninterrupted_and_two_workers_are_one(written, first, stop):
    whole = read(written)
    resumed = [read(written, first, stop, lanes) for lanes in (range(2), range(2, 4))]
    assert whole.keys() == resumed[0].keys() == {"x_0", "x_1", "ids", "uniform", "seed"}
    for name, values in whole.items():
        both = np.concatenate([part[name] for part in resumed], axis=1)
        assert np.array_equal(both, values[first:stop]), name
    assert not np.array_equal(read(written, seed=4)["uniform"], whole["uniform"])


def test_no_chance_is_given_twice(written):
    fed = read(written)
    assert len(np.unique(fed["uniform"])) == 400
    assert len(np.unique(fed["seed"])) == 400
    assert len(np.unique(fed["x_0"] - fed["ids"][..., None, :2, :3])) > 0.99 * fed["x_0"].size


def test_a_row_stays_together(written):
    fed = read(written, stop=300)  # whole windows and whole epochs
    row = fed["ids"][..., 0, 0]
    assert np.array_equal(np.bincount(row.ravel()), np.full(40, 30))
    assert np.abs(fed["x_0"].mean((2, 3, 4)) - row).max() < 0.6  # 24 values, spread 0.5
    assert np.abs(fed["x_1"][..., 0, 0, 0] - row - 0.25).max() < 0.2


def test_training_takes_perturbed_draws_and_samples_the_posterior(written):
    fed = read(written, stop=2000)
    row = fed["ids"][..., 0, 0]
    which = np.rint(10 * (fed["x_1"][..., 0, 0, 0].astype(np.float32) - row)).astype(int)
    counts = np.bincount(which.ravel(), minlength=5)
    assert counts[0] == 0  # the clean one is for evaluation
    assert counts[1:].min() > 1700
    for i in range(40):
        assert len(set(which[row == i])) == 4  # every row sees every draw
    noise = fed["x_0"] - row[..., None, None, None]
    assert abs(noise.mean()) < 0.005
    assert abs(noise.std() - 0.5) < 0.005
    assert abs(fed["uniform"].mean() - 0.5) < 0.02


def test_one_draw_and_no_spread_leave_no_choice(written):
    fed = read(written, autoencoder={"stochastic": False}, draws=1)
    row = fed["ids"][..., 0, 0]
    assert np.array_equal(fed["x_1"][..., 0, 0, 0], row)
    assert np.array_equal(fed["x_0"][..., 0, 0, 0], row)


def test_masks_that_are_encoded_online_are_not_read(written):
    assert read(written, stop=2, online=True).keys() == {"x_0", "ids", "uniform", "seed"}
