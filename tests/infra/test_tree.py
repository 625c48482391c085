"""A folder's files with those that are linked in: each once, and what is not entered is said."""

import os

import pytest

from infra import storage, tree


@pytest.fixture
def disks(tmp_path):
    """A corpus with a city of its own, and another disk with one more."""
    for name in ("corpus/train/aachen/1.png", "disk2/bremen/2.png", "disk2/bremen/deep/3.png"):
        storage.write_bytes(f"{tmp_path}/{name}", b"12345")
    return tmp_path


def test_linked_folders_and_files_are_read(disks, capsys):
    (disks / "corpus/train/bremen").symlink_to("../../disk2/bremen")  # relative, as ln -s makes
    (disks / "corpus/train/aachen/4.png").symlink_to(disks / "disk2/bremen/2.png")
    names = ["aachen/1.png", "aachen/4.png", "bremen/2.png", "bremen/deep/3.png"]
    assert storage.find(f"{disks}/corpus/train") == dict.fromkeys(names, 5)
    assert capsys.readouterr().err == ""


def test_a_root_that_is_a_link_is_as_its_target(disks):
    (disks / "linked").symlink_to(disks / "corpus")
    assert storage.list_files(f"{disks}/linked") == ["train/aachen/1.png"]


def test_a_link_in_a_linked_folder_is_entered_too(disks):
    (disks / "disk2/bremen/far").symlink_to(disks / "corpus/train/aachen")
    assert sorted(tree.walk(f"{disks}/disk2")) == ["bremen/2.png", "bremen/deep/3.png",
                                                  "bremen/far/1.png"]  # fmt: skip


def test_a_real_folder_is_read_once_by_its_own_name(disks, capsys):
    (disks / "disk2/a-link").symlink_to(disks / "disk2/bremen")
    assert list(storage.find(f"{disks}/disk2")) == ["bremen/2.png", "bremen/deep/3.png"]
    assert "disk2/a-link is " in (said := capsys.readouterr().err)
    assert "disk2/bremen, which was read already: not entered" in said


@pytest.mark.parametrize("target", ["corpus/train", "corpus", ".", "corpus/train/aachen"])
def test_loops_end_and_are_named(disks, target, capsys):
    (disks / "corpus/train/aachen/round").symlink_to(disks / target)
    assert list(storage.find(f"{disks}/corpus/train")) == ["aachen/1.png"]
    assert "aachen/round is a loop" in capsys.readouterr().err


def test_two_links_to_each_other_are_files_that_lead_nowhere(disks):
    (disks / "disk2/x").symlink_to("y")
    (disks / "disk2/y").symlink_to("x")
    assert {"x", "y"} < storage.find(f"{disks}/disk2").keys()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read all")
def test_a_folder_that_may_not_be_read_is_named(disks, capsys):
    (disks / "disk2/bremen/deep").chmod(0)
    assert list(storage.find(f"{disks}/disk2")) == ["bremen/2.png"]
    assert "bremen/deep may not be read" in capsys.readouterr().err
    (disks / "disk2/bremen/deep").chmod(0o755)
