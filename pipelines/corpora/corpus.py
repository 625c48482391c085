"""What a corpus is: where its photos and masks are, and what the values of its masks mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipelines.corpora import colours

JPEGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo")
"""Suffixes of pictures that blur what they store."""
MASKS = (
    ".png", ".bmp", ".dib", ".tif", ".tiff", ".gif", ".tga", ".pgm", ".ppm", ".pbm", ".pnm"
)  # fmt: skip
"""Suffixes of pictures that keep every value."""
PHOTOS = (
    *JPEGS, *MASKS, ".webp", ".avif", ".jp2", ".j2k", ".jpx", ".jpf", ".heic", ".heif"
)  # fmt: skip
"""Suffixes of what is opened as a photo; HEIC with pillow-heif."""

Drawn = Literal["stored", "upright"]


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A labelled corpus. `encode.py preview` shows whether it is read as it is meant."""

    root: str = ""
    """Folder or URI that holds it."""
    kind: Literal["files", "index", "tars", "tables"] = "files"
    """'files': two patterns. 'index': a CSV, JSONL or Parquet file of pairs. 'tars': WebDataset
    shards. 'tables': Parquet or Arrow files with image bytes (Hugging Face datasets)."""
    images: str = "images/{split}/{id}.*"
    """files: where photos are, below the root. {split} is the split's folder, {id} what a photo and
    its mask have in common (may span folders), * anything within a name, .* at the end any image
    suffix. Without {id}, the folder of the photos. tars: suffixes of photos. index, tables: their
    column."""
    masks: str = "masks/{split}/{id}.*"
    """The same for masks. files: with {part}, a mask is several binary files, each named by its
    class, painted one over the other in the order of the classes."""
    lists: str = ""
    """files: text file of a split's ids, one a line, if the corpus has such ({split})."""
    shards: str = ""
    """index, tars, tables: the files of a split, below the root ({split}, *)."""
    splits: tuple[str, ...] = ("train", "val")
    """Names of the splits to encode; the last one is the one that models are judged on."""
    folders: tuple[str, ...] = ()
    """What {split} stands for in each of them, where that is another word (train2017)."""
    val_share: float = 0.0
    """Where nothing of the layout says which pair is of which split: the share that is the last
    split, by a hash of each id, so that a pair stays where it is when others come."""
    groups: str = ""
    """With it, a pattern of ids, {group}_* for one: pairs of one group go to one split (patients,
    places, films); * is anything."""
    classes: tuple[str, ...] = ()
    """Class names; class c is the c-th."""
    class_file: str = ""
    """Instead: a file of them, a path or the name of a known corpus: lines of 'name' or 'id name',
    CSV with a header, labelmap.txt, JSON of ids, COCO's categories (docs/reference/corpora.md)."""
    ids: tuple[int, ...] = ()
    """Value in the mask files of each class, where that is not its number."""
    colours: tuple[str, ...] = ()
    """For masks that are pictures: the colour of each class as RRGGBB or R,G,B; several joined by
    +. Masks of any kind are read by the colours that they show, indexed ones too; with --corpus.ids
    beside them, those of one channel by their values."""
    ignore_colours: tuple[str, ...] = ()
    """Colours of pixels that are not trained on and not scored: a void, a border."""
    ignore_ids: tuple[int, ...] = (255,)
    """Values of pixels that are not trained on and not scored; 255 is not, where it is a class."""
    threshold: int | None = None
    """For two classes and masks that do not keep their values, JPEGs or soft edges: a pixel of at
    least this grey (0..255) is the second class. Ids, colours and what is ignored do not count."""
    ignore_rest: bool = False
    """Ignore any other value too, instead of putting the pair in quarantine."""
    allow: tuple[str, ...] = ()
    """Folders and URIs, beside the root, where files may lie that an index names."""
    numeric_ids: bool = False
    """files: compare ids as numbers, so that 00012 is 12."""
    masks_drawn: Drawn | None = None
    """Whether masks lie on photos as these are stored, or turned upright by their EXIF orientation.
    None goes by the photos that are turned by 90 degrees, whose size tells."""
    white: int | None = None
    """Which sample is white in photos that store 16 bits, 4095 where 12 bits were used. None goes
    by the files' tags, else by the largest sample of many photos, and is said."""
    resize_photos: bool = False
    """Resize photos to the size of their masks where that differs."""
    licence: str = ""
    """A note on what may be done with the corpus; it goes with the latents."""

    def __post_init__(self) -> None:
        if self.folders and len(self.folders) != len(self.splits):
            raise ValueError(f"{len(self.folders)} folders for {len(self.splits)} splits")
        for what, given in (("ids", self.ids), ("colours", self.colours)):
            if given and self.classes and len(given) != len(self.classes):
                raise ValueError(f"{len(given)} {what} for {len(self.classes)} classes")
        if self.val_share and (not 0 < self.val_share < 1 or len(self.splits) != 2):
            raise ValueError("--corpus.val-share lies between 0 and 1 and cuts two splits")
        if self.groups and ("{group}" not in self.groups or not self.val_share):
            raise ValueError("--corpus.groups holds {group}, and goes with --corpus.val-share")
        if self.threshold is not None and (
            not 0 < self.threshold < 256 or (self.classes and len(self.classes) != 2)
        ):
            raise ValueError("--corpus.threshold lies in 1..255 and is for two classes")
        if self.white is not None and not 0 < self.white < 2**16:
            raise ValueError("--corpus.white is a sample of 16 bits, 1..65535")
        colours.check(self.colours, self.ignore_colours)
        if self.ignore_ids == (255,) and 255 in self.ids:  # the default yields to what is named
            object.__setattr__(self, "ignore_ids", ())
        values = self.ids or range(len(self.classes))
        clash = [i for i in self.ignore_ids if i in values]
        if clash:
            raise ValueError(
                f"ids {clash} are classes and are to be ignored: --corpus.ignore-ids lists the "
                "values of no class, and says that there are none if nothing follows it"
            )

    def folder(self, split: str) -> str:
        """What ``{split}`` stands for."""
        return self.folders[self.splits.index(split)] if self.folders and split else split
