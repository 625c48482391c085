"""JSON that was cut, and disks that are full or closed: sentences that name the place."""

import errno

import pytest

from infra import storage
from pipelines import config


@pytest.mark.parametrize("data", [b"", b'{"a": [1, 2', b"\xff\xfe", b"[" * 100_000, b"{} {}"])
def test_json_that_was_cut_is_named(tmp_path, data):
    where = str(tmp_path / "manifest.json")
    storage.write_bytes(where, data)
    with pytest.raises(ValueError, match=r"manifest\.json \(\d+ bytes\) is no whole JSON") as told:
        storage.read_json(where)
    assert "run again the job that writes it" in str(told.value)


class Remote(Exception):
    """As Ray hands on a worker's error."""

    def __init__(self, cause):
        self.cause = cause


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_a_disk_that_is_full_or_closed_is_a_sentence_however_deep(number):
    met = OSError(number, "", "/out/masks/a.png")
    try:
        try:
            raise met
        except OSError as error:
            raise RuntimeError("a shard failed") from error
    except RuntimeError as outer:
        for error in (met, outer, Remote(outer), Remote(Remote(met))):
            told = config.in_words(error)
            assert told is not None
            assert "/out/masks/a.png" in told
            assert "the same command goes on" in told


def test_faults_of_ours_keep_their_traceback():
    assert config.in_words(RuntimeError("bug")) is None
    assert config.in_words(OSError(errno.EBADF, "bug")) is None
    assert config.in_words(ValueError("a wrong value")) == "a wrong value"
