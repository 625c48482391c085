"""WebDataset shards: tar files, read by range; they are not unpacked."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator

from infra import storage
from pipelines.corpora.corpus import Corpus
from pipelines.corpora.pair import Bad, Pair
from pipelines.corpora.readers.files import shards_of


def pairs(corpus: Corpus, split: str) -> Iterator[Pair | Bad]:
    """Samples of the shards. ``images`` and ``masks`` are suffixes, by ``;``: 'jpg;png', 'seg.png'.

    As WebDataset has it, a sample is the members whose names agree up to the first dot. Many
    writers number from 0 in every shard, so an id is the shard's name and the sample's.
    """
    image_suffixes, mask_suffixes = corpus.images.split(";"), corpus.masks.split(";")
    for name, uri, _ in shards_of(corpus, split):
        samples: dict[str, dict[str, tuple[int, int]]] = {}
        try:
            with (
                storage.open_input(uri, ahead=True) as file,
                tarfile.open(fileobj=file, mode="r:") as tar,
            ):
                for member in tar:
                    folder, _, base = member.name.rpartition("/")
                    if not member.isfile() or base.startswith("."):
                        continue
                    stem, _, suffix = base.partition(".")
                    key = f"{folder}/{stem}" if folder else stem
                    sample = samples.setdefault(key, {})
                    sample[suffix.lower()] = (member.offset_data, member.size)
        except tarfile.TarError as error:
            yield Bad(uri, f"not a whole, uncompressed tar: {error}")
        shard = os.path.splitext(name)[0]
        for key, sample in samples.items():
            image = next((sample[s] for s in image_suffixes if s in sample), None)
            mask = next((sample[s] for s in mask_suffixes if s in sample), None)
            if image and mask:
                at, mask_at = (f"bytes:{offset}:{length}" for offset, length in (image, mask))
                yield Pair(f"{shard}/{key}", uri, at, uri, mask_at, image[1] + mask[1])
            elif image or mask:
                what = "an image without a mask" if image else "a mask without an image"
                yield Bad(f"{uri}: {key}", what)
