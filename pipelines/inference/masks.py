"""Mask files that are handed to a model, as class numbers."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass
from functools import lru_cache

from PIL import Image

from pipelines.corpora.classes import with_classes
from pipelines.corpora.known import KNOWN
from pipelines.corpora.masks import LabelMap
from pipelines.corpora.pixels import BadInput
from pipelines.corpora.truth import label_map
from semflow import Palette
from semflow.masks.classmap import ClassMap, ClassNumbers
from semflow.masks.given import GivenMasks, MasksAre, anchored
from semflow.sampler import Defaults


@dataclass(frozen=True)
class MaskReader:
    """Reads mask files by what they are said to be."""

    palette: Palette
    given: GivenMasks

    @property
    def takes_colours(self) -> bool:
        """Whether a mask may be a picture with colours."""
        corpus = self.given.corpus if self.given.masks_are == "corpus" else None
        return bool(corpus and corpus.colours)

    def read(self, data: bytes) -> ClassNumbers:
        """A mask file as uint8 ``[H, W]``: 0..K-1, and 255 for no class.

        Raises:
            BadInput: when it cannot be read, has a value that is not taken, or could mean two
                things and nothing says which.
        """
        ours = _anchored(data, self.palette)
        return self.given.read(lambda by: read_by(by, data), BadInput, anchored=ours)


def read_by(class_map: ClassMap, data: bytes) -> ClassNumbers:
    """A mask file as class numbers uint8 ``[H, W]``, by what its values mean.

    Raises:
        BadInput: when it cannot be read, or has a value that means nothing.
    """
    return ClassNumbers(_file_reader(class_map).read(data))


class _FileReader(LabelMap):
    """Of masks that are handed to a model: the options of a corpus are not at hand there."""

    advises = False


@lru_cache(maxsize=16)
def _file_reader(class_map: ClassMap) -> LabelMap:
    return _FileReader(**asdict(class_map))


def _anchored(data: bytes, palette: Palette) -> bool:
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            return anchored(image, palette)
    except Exception:  # Pillow's plugins raise many; reading says what is wrong with the file
        return False


def mask_reader(
    palette: Palette,
    defaults: Defaults,
    masks_are: MasksAre | None,
    corpus: str | None = None,
    option: str = "--masks-are {}",
) -> MaskReader:
    """The reader of masks for a model.

    Args:
        palette: of the model.
        defaults: of the model; they have the class map of its corpus.
        masks_are: what the masks are.
        corpus: a known corpus, whose class map is taken instead.
        option: how what they are is said.

    Raises:
        ValueError: when they are a corpus's whose values are not known, or the corpus has other
            classes than the model.
    """
    if corpus is not None and masks_are != "corpus":
        raise ValueError("--corpus names a corpus whose own files the masks are: it goes with "
                         "--masks-are corpus")  # fmt: skip
    class_map = defaults.class_map if corpus is None else known_map(corpus, palette)
    if masks_are == "corpus" and class_map is None:
        raise ValueError(
            "--masks-are corpus: the model does not say what the values of its corpus's files mean "
            "(those of earlier versions do not, nor where a mask is several files). "
            f"--corpus PRESET says it: {', '.join(KNOWN)}"
        )
    given = GivenMasks(classes=len(palette), corpus=class_map, masks_are=masks_are, option=option)
    return MaskReader(palette, given)


def known_map(name: str, palette: Palette) -> ClassMap:
    """What the values of a known corpus's mask files mean.

    Raises:
        ValueError: when there is no such corpus, a mask of it is several files, or its classes are
            not the palette's.
    """
    if name not in KNOWN:
        raise ValueError(f"--corpus {name}: there are {', '.join(KNOWN)}")
    corpus = KNOWN[name][1]
    if "{part}" in corpus.masks:
        raise ValueError(f"--corpus {name}: a mask of it is several files, and one is expected")
    if not corpus.classes and not corpus.class_file:
        raise ValueError(f"--corpus {name} names no classes, so that its values mean none")
    corpus = with_classes(corpus)
    if corpus.classes != palette.names:
        raise ValueError(f"--corpus {name} has the classes {list(corpus.classes)}, the model "
                         f"{list(palette.names)}")  # fmt: skip
    return label_map(corpus)
