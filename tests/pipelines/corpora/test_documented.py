"""The page on corpora says what the code takes."""

import re
from dataclasses import fields
from pathlib import Path
from typing import get_args, get_type_hints

from pipelines.corpora.corpus import JPEGS, MASKS, PHOTOS, Corpus
from pipelines.corpora.known import KNOWN

PAGE = (Path(__file__).parents[3] / "docs/reference/corpora.md").read_text()


def rows(header):
    table = PAGE.partition(header)[2].partition("\n\n")[0]
    return [re.findall(r"`([^`]+)`", line) for line in table.splitlines()[2:]]


def test_the_suffixes_are_those_of_the_code():
    jpegs, both, photos = rows("| what | suffixes, in any case |")
    assert (tuple(jpegs), tuple(both)) == (JPEGS, MASKS)
    assert (*jpegs, *both, *photos) == PHOTOS


def test_every_kind_and_every_preset_is_named():
    kinds = [row[0] for row in rows("| kind | takes | names and leaves out |")]
    assert kinds == list(get_args(get_type_hints(Corpus)["kind"]))
    named = {name for row in rows("| preset | layout |") for name in row}
    assert set(KNOWN) <= named


def test_every_option_is_there_and_no_other():
    options = {field.name.replace("_", "-") for field in fields(Corpus)}
    named = set(re.findall(r"--corpus\.([a-z-]+)", PAGE))
    assert named == options


def test_advice_in_messages_names_options_that_exist():
    root = Path(__file__).parents[3]
    options = {field.name.replace("_", "-") for field in fields(Corpus)}
    named = {
        (option, path.relative_to(root).as_posix())
        for path in (root / "pipelines").rglob("*.py")
        for option in re.findall(r"--corpus\.([a-z-]+)", path.read_text())
    }
    assert {one for one in named if one[0] not in options} == set()
