"""No pair is in two splits: the layout says which is whose, or a hash of its name does."""

from dataclasses import replace

import pytest

from pipelines.corpora import Corpus, list_split, list_splits
from pipelines.corpora.splits import groups, held_out
from tests.pictures import encoded, scene


@pytest.fixture
def flat(tmp_path):
    """Photos X.png and masks X_mask.png of ten patients, four each, without a split."""
    image, ids = scene(0)
    for name in (f"p{patient}_{n}" for patient in range(10) for n in range(4)):
        for path, array in ((f"photos/{name}.png", image), (f"labels/{name}_mask.png", ids)):
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_bytes(encoded(array))
    return Corpus(root=str(tmp_path), images="photos/{id}.*", masks="labels/{id}_mask.png")


def cut(corpus, **options):
    return replace(corpus, **options)


def ids_of(listings):
    return [set(listing.pairs["id"].to_pylist()) for listing in listings.values()]


def test_a_layout_without_a_split_is_refused_unless_one_is_cut_off(flat):
    with pytest.raises(ValueError, match=r"'train' and 'val' would be the same .*--corpus.val-sha"):
        list_splits(flat)
    train, val = ids_of(list_splits(cut(flat, val_share=0.3)))
    assert not train & val
    assert len(train | val) == 40
    assert val == {name for name in train | val if held_out(name, 0.3)}
    assert 4 <= len(val) <= 20
    assert ids_of(list_splits(cut(flat, splits=("train",)))) == [train | val]


def test_a_pair_stays_in_its_split_when_others_come_and_go(flat, tmp_path):
    share = cut(flat, val_share=0.3)
    before = ids_of(list_splits(share))
    for n in range(4):
        (tmp_path / f"photos/p3_{n}.png").unlink()
    after = ids_of(list_splits(share))
    assert all(new <= old for new, old in zip(after, before, strict=True))
    assert list_splits(share)["val"].bad == []  # named with train, and once
    assert len(list_splits(share)["train"].bad) == 4


def test_a_group_is_in_one_split(flat):
    train, val = ids_of(list_splits(cut(flat, val_share=0.3, groups="{group}_*")))
    patients = [{name.partition("_")[0] for name in names} for names in (train, val)]
    assert not patients[0] & patients[1]
    assert {len(names) % 4 for names in (train, val)} == {0}
    with pytest.raises(ValueError, match="does not fit the id 'p0_0'"):
        list_split(cut(flat, val_share=0.3, groups="{group}-*"), "val")
    assert groups(["a/b/1", "a/c/2"], "{group}/*") == ["a", "a"]


def test_a_share_into_which_nothing_falls_is_refused(flat):
    with pytest.raises(ValueError, match="of 40 pairs none falls to 'val'"):
        list_splits(cut(flat, val_share=1e-6))


def test_a_layout_with_splits_is_not_cut(tmp_path):
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        (tmp_path / f"{split}/a.png").write_bytes(b"x")
        (tmp_path / f"{split}/a_mask.png").write_bytes(b"x")
    layout = {"images": "{split}/{id}.png", "masks": "{split}/{id}_mask.png"}
    with pytest.raises(ValueError, match="says already which split is which"):
        list_splits(Corpus(root=str(tmp_path), val_share=0.5, **layout))


@pytest.mark.parametrize("column", [True, False])
def test_an_index_has_splits_by_name_or_by_column(tmp_path, column):
    rows = ["image,mask,split"] + [f"{n}.jpg,{n}.png,{('train', 'val')[n % 2]}" for n in range(20)]
    rows = rows if column else [row.rpartition(",")[0] for row in rows]
    (tmp_path / "all.csv").write_text("\n".join(rows))
    corpus = Corpus(root=str(tmp_path), kind="index", shards="all.csv", images="image",
                    masks="mask")  # fmt: skip
    if column:
        train, val = ids_of(list_splits(corpus))
        assert (len(train), len(val)) == (10, 10)
    else:
        with pytest.raises(ValueError, match=r"'all.csv' of .* has no \{split\}"):
            list_splits(corpus)
        train, val = ids_of(list_splits(cut(corpus, val_share=0.5)))
    assert not train & val


@pytest.mark.parametrize(
    "options", [{"val_share": 1.0}, {"val_share": 0.5, "splits": ("a",)}, {"groups": "{group}_*"},
                {"val_share": 0.5, "groups": "x*"}],
)  # fmt: skip
def test_shares_and_groups_that_mean_nothing_are_refused(options):
    with pytest.raises(ValueError, match=r"--corpus\.(val-share|groups)"):
        Corpus(**options)
