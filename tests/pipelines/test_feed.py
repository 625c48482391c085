"""The order of the training stream: every row once an epoch, from any position on."""

import numpy as np
import pytest

from pipelines.feed import Order, draw
from pipelines.pixels import png

ROWS = tuple((shard, group, 5 if group == 3 else 8) for shard in range(7) for group in range(4))


def rows_of(order: Order, first: int, last: int) -> list[tuple[int, int, int]]:
    """(shard, group, row) along the stream, windows ``first`` to ``last``."""
    found = []
    for number in range(first, last):
        window = order[number]
        sizes = {(s, g): n for s, g, n in order.rows}
        flat = [(s, g, i) for s, g in window.groups for i in range(sizes[s, g])]
        assert window.first == sum(len(order[n].order) for n in range(number))
        found += [flat[i] for i in window.order]
    return found


@pytest.mark.parametrize("window", [1, 3, 28, 100])
def test_every_row_comes_once_an_epoch_in_another_order_each_time(window):
    order = Order(ROWS, seed=1, window=window)
    every = sorted((s, g, i) for s, g, n in ROWS for i in range(n))
    epochs = [
        rows_of(order, e * order.windows_per_epoch, (e + 1) * order.windows_per_epoch)
        for e in range(1)
    ] + [list(rows_of(order, 0, 2 * order.windows_per_epoch))[order.epoch_rows :]]
    assert all(sorted(epoch) == every for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert epochs[0] != every


def test_the_order_is_the_seeds_alone():
    one, same, other = (Order(ROWS, seed=seed, window=4) for seed in (1, 1, 2))
    assert rows_of(one, 0, 7) == rows_of(same, 0, 7)
    assert rows_of(one, 0, 7) != rows_of(other, 0, 7)


@pytest.mark.parametrize("window", [1, 3, 28])
def test_a_position_finds_its_window(window):
    order = Order(ROWS, seed=0, window=window)
    for position in [*range(0, 3 * order.epoch_rows, 17), order.epoch_rows, order.epoch_rows - 1]:
        found = order[order.window_of(position)]
        assert found.first <= position < found.first + len(found.order)


def table(rows: int, std: bool = True):
    rng = np.random.default_rng(0)
    shape = (rows, 4, 2, 3)
    columns = {
        "image_mean": rng.normal(size=shape).astype(np.float16),
        "mask_draws": rng.normal(size=(rows, 5, *shape[1:])).astype(np.float16),
        "mask": np.array([png(np.full((4, 6), i, np.uint8)) for i in range(rows)], object),
    }
    return columns | ({"image_std": np.full(shape, 0.5, np.float16)} if std else {})


def test_chance_is_a_function_of_the_position():
    positions = np.arange(100, 108)
    whole = draw(table(8), positions, seed=3, online=False)
    for i in range(8):
        row = {name: column[i : i + 1] for name, column in table(8).items()}
        alone = draw(row, positions[i : i + 1], seed=3, online=False)
        for name, values in alone.items():
            assert np.array_equal(values[0], whole[name][i]), name
    other = draw(table(8), positions + 1, seed=3, online=False)
    assert not np.array_equal(other["uniform"], whole["uniform"])


def test_training_takes_perturbed_draws_and_samples_the_posterior():
    columns = table(1)
    many = {name: np.repeat(column, 4000, 0) for name, column in columns.items()}
    fed = draw(many, np.arange(4000), seed=0, online=False)
    draws = columns["mask_draws"][0]
    which = [int(np.flatnonzero([np.array_equal(x, d) for d in draws])[0]) for x in fed["x_1"]]
    counts = np.bincount(which, minlength=5)
    assert counts[0] == 0  # the clean one is for evaluation
    assert counts[1:].min() > 850
    mean, std = fed["x_0"].mean(0), fed["x_0"].std(0)
    np.testing.assert_allclose(mean, columns["image_mean"][0].astype(np.float32), atol=0.04)
    np.testing.assert_allclose(std, 0.5, atol=0.03)


def test_one_draw_and_no_spread_leave_no_choice():
    columns = table(3, std=False)
    columns["mask_draws"] = columns["mask_draws"][:, :1]
    fed = draw(columns, np.arange(3), seed=0, online=False)
    assert np.array_equal(fed["x_1"], columns["mask_draws"][:, 0])
    assert np.array_equal(fed["x_0"], columns["image_mean"])
    assert "x_1" not in draw(columns, np.arange(3), seed=0, online=True)
