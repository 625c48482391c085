"""A perfect prediction of upright photos scores 1, however the corpus's masks were drawn."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines.corpora import list_splits
from pipelines.corpora.readers.orientation import drawn
from pipelines.evaluation.compare import Compare
from tests.pictures import encoded
from tests.pipelines.corpora.test_orientation import IDS, SQUARE, corpus_of, shown


@pytest.mark.parametrize("how", ["stored", "upright"])
def test_score_turns_masks_as_encode_does(tmp_path, how):
    corpus = corpus_of(tmp_path, how)
    listings = list_splits(corpus)
    corpus = replace(corpus, masks_drawn=drawn(corpus, listings))
    rows = listings["train"].pairs.to_pylist()
    for row in rows:
        ids = SQUARE if "square" in row["id"] else IDS
        row["predicted"] = str(tmp_path / f"{row['id']}-predicted.png")
        with open(row["predicted"], "wb") as file:
            file.write(encoded(shown(ids, int(row["id"][-1]))))
    batch = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    found = Compare(corpus, "classes")(batch)
    assert (found["bad"], found["resized"]) == ([""], [0])
    (counts,) = found["confusion"]
    assert counts.sum() == np.trace(counts) == 8 * (IDS.size + SQUARE.size)
