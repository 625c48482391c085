"""Edited masks: what changes is what was asked for, and the same each time."""

import json

import numpy as np
import pytest

from pipelines.inference.masks import MaskReader
from pipelines.synthesis import edits
from pipelines.synthesis.drafts import DecodeMask, drafts, edit_seed, sample_seed
from pipelines.synthesis.edits import Edits, Recipe
from semflow import make_palette
from semflow.masks.given import GivenMasks
from tests.pictures import encoded

NAMES = ("road", "car", "truck", "sky")


def street() -> np.ndarray:
    """Road with two cars that meet at no corner, one more pixel of a car, and ignored pixels."""
    ids = np.zeros((20, 30), np.uint8)
    ids[2:6, 3:8], ids[10:14, 20:26], ids[18, 2] = 1, 1, 1
    ids[:, 29] = 255
    return ids


def rng(seed=0):
    return np.random.default_rng(seed)


def test_components_are_connected_also_at_corners_and_no_specks():
    ids = street()
    assert [part.sum() for part in edits.components(ids, 1)] == [20, 24, 1]
    assert [part.sum() for part in edits.components(ids, 1, least=0.01)] == [20, 24]
    ids[6, 8] = ids[7, 9] = 1  # a diagonal below the first car
    assert edits.components(ids, 1)[0].sum() == 22


def test_swap_changes_one_whole_component_and_nothing_else():
    ids, recipe = street(), Recipe(swap=((1, 2),), least=0.01)
    sizes = set()
    for seed in range(20):
        result, done = edits.swap(ids, recipe, rng(seed))
        changed = result != ids
        assert (ids[changed] == 1).all()
        assert (result[changed] == 2).all()
        assert done == {"from": 1, "to": 2, "pixels": changed.sum()}
        sizes.add(changed.sum())
    assert sizes == {20, 24}  # each car in its turn, never the speck
    everything, _ = edits.swap(ids, recipe._replace(swap_all=True), rng())
    assert np.array_equal(everything, np.where(ids == 1, 2, ids))


def test_what_is_not_there_is_not_swapped():
    result, done = edits.swap(street(), Recipe(swap=((2, 1), (3, 0))), rng())
    assert np.array_equal(result, street())
    assert done == {}


def test_paste_puts_a_donors_components_where_they_were_or_a_bounded_shift_away():
    ids, donor = np.full((20, 30), 3, np.uint8), street()
    for seed in range(20):
        still, done = edits.paste(ids, donor, Recipe(paste=(1,), least=0.01), rng(seed))
        assert set(still[donor == 1]) <= {1, 3}
        assert (still[donor != 1] == 3).all()
        assert sum(part["pixels"] for part in done) == (still == 1).sum() > 0
        recipe = Recipe(paste=(1,), least=0.01, shift=0.1)
        _, done = edits.paste(ids, donor, recipe, rng(seed))
        assert all(abs(part["right"]) <= 3 and abs(part["down"]) <= 2 for part in done)
    assert np.array_equal(ids, np.full((20, 30), 3))  # not changed in place


@pytest.mark.parametrize(("down", "right"), [(0, 0), (3, -4), (-3, 4), (19, -29)])
def test_moving_is_cut_off_at_the_border(down, right):
    part = street() == 1
    result = edits.moved(part, down, right)
    expected = np.zeros_like(part)
    for y, x in np.argwhere(part):
        if 0 <= y + down < 20 and 0 <= x + right < 30:
            expected[y + down, x + right] = True
    assert np.array_equal(result, expected)


def test_mirroring_twice_is_nothing():
    assert np.array_equal(edits.mirror(edits.mirror(street())), street())
    assert not np.array_equal(edits.mirror(street()), street())


def test_an_edit_is_the_same_each_time_and_flips_where_nothing_else_can_be_done():
    recipe = Recipe(swap=((1, 2),), paste=(1,), shift=0.2, flip=True)
    one, done = edits.edit(street(), street()[::-1], recipe, rng(3))
    other, again = edits.edit(street(), street()[::-1], recipe, rng(3))
    assert np.array_equal(one, other)
    assert done == again
    for seed in range(10):
        flipped, done = edits.edit(street(), None, Recipe(swap=((2, 1),), flip=True), rng(seed))
        assert done == {"flip": True}
        assert np.array_equal(flipped, street()[:, ::-1])


def test_names_that_are_no_class_and_half_given_edits_are_refused():
    assert Recipe.of(Edits(variants=1, swap=("car=truck",)), NAMES).swap == ((1, 2),)
    with pytest.raises(ValueError, match="'lorry' is no class"):
        Recipe.of(Edits(variants=1, swap=("car=lorry",)), NAMES)
    with pytest.raises(ValueError, match="'bus' is no class"):
        Recipe.of(Edits(variants=1, paste=("bus",)), NAMES)
    for wrong in ("car", "car=car", "car=truck=sky"):
        with pytest.raises(ValueError, match="pairs such as"):
            Recipe.of(Edits(variants=1, swap=(wrong,)), NAMES)
    with pytest.raises(ValueError, match="say how"):
        Edits(variants=1)
    with pytest.raises(ValueError, match="how many edited versions"):
        Edits(flip=True)


def planned(paths, **changes):
    options = {"seed": 1, "samples": 2, "variants": 2, "val_share": 0.4, "pasting": True}
    return list(drafts("masks", paths, **options | changes))


def test_all_that_comes_from_a_mask_is_in_one_split_and_donors_are_too():
    rows = planned([f"{n}.png" for n in range(60)])
    assert len(rows) == len({row["name"] for row in rows}) == len({row["seed"] for row in rows})
    assert len(rows) == 60 * 3 * 2
    split = {row["path"]: row["split"] for row in rows}
    assert 10 < sum(which == "val" for which in split.values()) < 40
    for row in rows:
        assert row["split"] == split[row["path"]]
        donors = json.loads(row["donors"])
        assert len(donors) == len(set(donors)) == (edits.DONORS if row["variant"] else 0)
        assert row["path"] not in donors
        assert {split[path] for path in donors} <= {row["split"]}
    # The split does not follow from the other masks, nor from how many images are made.
    fewer = planned([f"{n}.png" for n in range(0, 60, 7)], samples=1, variants=0, pasting=False)
    assert all(row["split"] == split[row["path"]] for row in fewer)
    assert {row["seed"] for row in fewer} <= {row["seed"] for row in rows}


def test_samples_of_an_edited_mask_share_its_edit_and_have_seeds_of_their_own():
    first, second = (row for row in planned(["a.png", "b.png"]) if row["name"][:-1] == "a-1-")
    assert first["edit_seed"] == second["edit_seed"] == edit_seed(1, "a", 1)
    assert first["seed"] != second["seed"]
    assert sample_seed(1, "a", 0) != sample_seed(1, "a", 0, variant=1)
    with pytest.raises(ValueError, match="only one"):
        planned(["a.png"])


def test_decoding_tries_donors_in_turn_and_says_what_was_done(tmp_path):
    ids = street()
    for name, mask in (("a", ids), ("empty", np.zeros_like(ids)), ("cars", ids[::-1].copy())):
        (tmp_path / f"{name}.png").write_bytes(encoded(mask))
    recipe = Recipe(paste=(1,), least=0.01)
    given = GivenMasks(classes=len(NAMES), corpus=None)
    decode = DecodeMask(
        str(tmp_path), (30, 20), MaskReader(make_palette("sphere", NAMES), given), recipe
    )
    row = {"name": "a-1-0", "source": str(tmp_path / "a.png"), "variant": 1, "edit_seed": 5,
           "donors": json.dumps(["empty.png", "cars.png"])}  # fmt: skip
    (result,) = decode(dict(row))
    done = json.loads(result["edit"])
    assert done["donor"] == "cars.png"
    assert {part["class"] for part in done["paste"]} == {"car"}
    expected, _ = edits.edit(ids, ids[::-1], recipe, rng(5))
    assert np.array_equal(result["ids"], expected)
    (original,) = decode(row | {"variant": 0})
    assert np.array_equal(original["ids"], ids)
    assert original["edit"] == ""
    (bad,) = decode(row | {"donors": '["gone.png"]'})
    assert "gone.png, to paste from: is not there" in bad["error"]
