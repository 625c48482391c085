"""A job that has too much to leave out says so at once, with examples."""

from types import SimpleNamespace

import pyarrow as pa
import pytest

from pipelines.sharding import runner
from pipelines.sharding.plan import Plan


def test_what_is_known_to_be_bad_is_said_before_the_first_shard_and_named(tmp_path):
    job = SimpleNamespace(output=str(tmp_path), verb="encode", max_bad_share=0.05)
    planned = Plan(str(tmp_path), "train", 8, (10,))
    bad = [(f"{n}.png", "an image without a mask") for n in range(7)]
    with pytest.raises(runner.TooManyBad, match=r"7 of 17 inputs") as raised:
        runner.run(job, planned, bad)
    assert str(raised.value).count(": an image without a mask") == 5


@pytest.mark.parametrize(("there", "said"), [("ab", ""), ("a", "1 inputs that an earlier run")])
def test_inputs_that_went_away_are_counted(tmp_path, capsys, there, said):
    """Nothing is claimed of what was made of them: they may have been bad from the beginning."""
    job = SimpleNamespace(output=str(tmp_path), inputs_per_shard=8, key="id")
    for names in ("ab", there):
        rows = [{"id": name, "bytes": 1} for name in names]
        runner.prepare(job, "train", pa.Table.from_pylist(rows))
    err = capsys.readouterr().err
    assert said in err
    assert bool(err) == bool(said)
