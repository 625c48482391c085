"""Masks that are handed to a model: class numbers, or the values of its corpus's own files.

Nothing in a grey file says which it is. The masks that this project writes are class numbers in the
anchors' colours, and are known by these; for others, whoever hands them over says it, unless both
readings come to the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from PIL import Image

from semflow.masks.classmap import ClassMap, ClassNumbers
from semflow.masks.palette import Palette

MasksAre = Literal["classes", "corpus"]
"""Numbers of classes, as we write them; or values of the corpus's own mask files."""


@dataclass(frozen=True, kw_only=True)
class GivenMasks:
    """How masks that are handed to a model are read.

    Raises:
        ValueError: when they are a corpus's, and its values are not known.
    """

    classes: int
    """Of the model."""
    corpus: ClassMap | None
    """What the values of the corpus's own files mean, if that is known."""
    masks_are: MasksAre | None = None
    """None: class numbers, unless they could be the corpus's values and mean something else."""
    option: str = "--masks-are {}"
    """How the one who hands them over says which they are."""

    def __post_init__(self) -> None:
        if self.masks_are == "corpus" and self.corpus is None:
            raise ValueError(
                f"{self._say('corpus')}: the model does not say what the values of its corpus's "
                "files mean. Those of earlier versions do not, nor where a mask is several files"
            )

    @cached_property
    def numbers(self) -> ClassMap:
        """0..K-1, and 255 for no class."""
        return ClassMap(classes=self.classes)

    def read(
        self,
        read: Callable[[ClassMap], ClassNumbers],
        refusal: type[Exception] = ValueError,
        *,
        anchored: bool = False,
    ) -> ClassNumbers:
        """A mask as class numbers.

        Args:
            read: reads it by a map; raises ``refusal`` when it cannot.
            refusal: a kind of error whose only argument is the reason.
            anchored: whether it has the model's colours, as what we write has.

        Raises:
            refusal: with the value that is not taken, and with what would take it; and for a mask
                that both readings take and read differently.
        """
        by_number = self.masks_are != "corpus"
        mine, others = (self.numbers, self.corpus) if by_number else (self.corpus, self.numbers)
        assert mine is not None  # __post_init__
        other = self._say("corpus" if by_number else "classes")
        try:
            found = read(mine)
        except refusal as error:
            if others is None or not _takes(read, others, refusal):
                raise
            raise refusal(f"{error}; {other} takes it") from error
        if self._doubtful(anchored) and others is not None:
            try:
                differ = found != read(others)
            except refusal:
                return found
            if differ.any():
                raise refusal(self._doubt(found, read(others), anchored))
        return found

    def _doubtful(self, anchored: bool) -> bool:
        """Whether both readings may take a mask, and nothing says which one is meant."""
        if self.corpus is None or self.corpus.as_numbers:
            return False
        return anchored if self.masks_are == "corpus" else not (anchored or self.masks_are)

    def _doubt(self, found: ClassNumbers, other: ClassNumbers, anchored: bool) -> str:
        if anchored:
            return (
                f"the mask has the anchors' colours, as masks of class numbers have that the model "
                f"made, and {self._say('corpus')} would read them as other classes"
            )
        place = (found != other).nonzero()
        one, two = int(found[place][0]), int(other[place][0])
        return (
            f"a pixel is of class {one} if the mask has class numbers, and of class {two} if it "
            f"has the values of the corpus's own files (255 is no class): say "
            f"{self._say('classes')} or {self._say('corpus')}"
        )

    def _say(self, masks_are: MasksAre) -> str:
        return self.option.format(masks_are)


def _takes(
    read: Callable[[ClassMap], ClassNumbers], by: ClassMap, refusal: type[Exception]
) -> bool:
    try:
        read(by)
    except refusal:
        return False
    return True


def anchored(mask: Image.Image, palette: Palette) -> bool:
    """Whether an image is an index image whose indices have the anchors' colours, class by class.

    Its pixels are not decoded.
    """
    count = 3 * len(palette)
    colours = mask.getpalette() if mask.mode == "P" else None
    return bool(colours) and list(colours or ())[:count] == palette.png_palette()[:count]
