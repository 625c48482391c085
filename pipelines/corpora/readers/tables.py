"""Tables with image bytes: Parquet files, or Arrow files as Hugging Face's ``save_to_disk`` writes.

Their library is not needed to read them: a cell is bytes, or ``{bytes, path}``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pyarrow.parquet as pq

from infra import storage
from pipelines.corpora import parts
from pipelines.corpora.corpus import Corpus
from pipelines.corpora.pair import Bad, Left, Pair
from pipelines.corpora.readers.shards import own_shards


def pairs(corpus: Corpus, split: str) -> Iterator[Pair | Bad | Left]:
    """Rows of the files; ``images`` and ``masks`` name the columns. An id is file and row."""
    shards, others = own_shards(corpus, split)
    yield from others
    for name, uri, size in shards:
        stem, number = os.path.splitext(name)[0], 0
        try:
            groups = list(_groups(uri, (corpus.images, corpus.masks)))
        except KeyError as error:
            raise ValueError(f"{uri} has no column {error}; --corpus.images and --corpus.masks "
                             "name them") from error  # fmt: skip
        except Exception as error:  # pyarrow raises OSError, ArrowInvalid, ...
            yield Bad(uri, f"not a whole Parquet or Arrow file: {error}")
            continue
        for group, rows in enumerate(groups):
            for row in range(rows):
                places = [f"row:{group}:{row}:{column}" for column in (corpus.images, corpus.masks)]
                # Of the whole file: a file that was written anew holds other rows.
                yield Pair(f"{stem}/{number:06d}", uri, places[0], uri, places[1], size)
                number += 1


def _groups(uri: str, columns: tuple[str, ...]) -> Iterator[int]:
    """Rows of each row group or record batch."""
    if uri.endswith(".arrow"):
        batches = parts.open_stream(uri)
        names = batches[0].schema.names if batches else columns
        rows = [batch.num_rows for batch in batches]
    else:
        with storage.open_input(uri) as file:
            metadata = pq.ParquetFile(file).metadata
            names = pq.ParquetFile(file).schema_arrow.names
        rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    for column in columns:
        if column not in names:
            raise KeyError(column)
    yield from rows
