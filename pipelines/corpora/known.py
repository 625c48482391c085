"""Corpora that people have, in the layout in which they are handed out."""

from __future__ import annotations

from pipelines.corpora import digits
from pipelines.corpora.corpus import Corpus

KNOWN: dict[str, tuple[str, Corpus]] = {
    "cityscapes": (
        "Cityscapes: leftImg8bit and gtFine, the 19 scored classes from *_labelIds.png.",
        Corpus(
            images="leftImg8bit/{split}/{id}_leftImg8bit.png",
            masks="gtFine/{split}/{id}_gtFine_labelIds.png",
            class_file="cityscapes",
            # The ids that are not scored; the licence plate's -1 is 255 in a PNG.
            ignore_ids=(0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30, 255),
            licence="Cityscapes: research and teaching only, no redistribution; see its terms",
        ),
    ),
    "cityscapes-train-ids": (
        "Cityscapes with *_labelTrainIds.png, as its scripts and the released SemFlow make them.",
        Corpus(
            images="leftImg8bit/{split}/{id}_leftImg8bit.png",
            masks="gtFine/{split}/{id}_gtFine_labelTrainIds.png",
            class_file="cityscapes",
            ids=tuple(range(19)),
            licence="Cityscapes: research and teaching only, no redistribution; see its terms",
        ),
    ),
    "celebamask": (
        "CelebAMask-HQ as the released SemFlow has it: merged masks, lists in metas/.",
        Corpus(
            images="CelebA-512-img/{id}.*",
            masks="CelebAMask-HQ-mergemask/{id}.*",
            lists="metas/{split}.txt",
            numeric_ids=True,
            class_file="celebamask-hq",
            licence="CelebAMask-HQ: non-commercial research only",
        ),
    ),
    "celebamask-parts": (
        "CelebAMask-HQ as handed out: photos of 1024, a mask of 512 for each part of a face.",
        Corpus(
            images="CelebA-HQ-img/{id}.jpg",
            masks="CelebAMask-HQ-mask-anno/*/{id}_{part}.png",
            lists="metas/{split}.txt",
            numeric_ids=True,
            resize_photos=True,
            class_file="celebamask-hq",
            licence="CelebAMask-HQ: non-commercial research only",
        ),
    ),
    "cocostuff": (
        "COCO-Stuff: train2017, val2017 and the pixel maps of 171 classes.",
        Corpus(
            images="{split}/{id}.jpg",
            masks="annotations/{split}/{id}.png",
            folders=("train2017", "val2017"),
            class_file="coco-stuff",
            licence="COCO-Stuff: annotations CC BY 4.0; photos under their Flickr licences",
        ),
    ),
    "ade20k": (
        "ADE20K, ADEChallengeData2016: 150 classes; 0 is other and ignored.",
        Corpus(
            images="images/{split}/{id}.jpg",
            masks="annotations/{split}/{id}.png",
            folders=("training", "validation"),
            class_file="ade20k",
            ignore_ids=(0, 255),
            licence="ADE20K: non-commercial research and education; see its terms",
        ),
    ),
    "voc": (
        "Pascal VOC 2012, VOCdevkit/VOC2012: 21 classes; the border 255 is ignored.",
        Corpus(
            images="JPEGImages/{id}.jpg",
            masks="SegmentationClass/{id}.png",
            lists="ImageSets/Segmentation/{split}.txt",
            class_file="voc",
            licence="Pascal VOC 2012: photos under their Flickr licences",
        ),
    ),
    "camvid": (
        "CamVid's 11 classes, images/{split} and masks/{split}.",
        Corpus(
            class_file="camvid",
            ignore_ids=(11, 255),
            licence="CamVid: for research; see its pages",
        ),
    ),
    "camvid-segnet": (
        "CamVid as SegNet's tutorial has it: train, trainannot, val, valannot.",
        Corpus(
            images="{split}/{id}.png",
            masks="{split}annot/{id}.png",
            class_file="camvid",
            ignore_ids=(11, 255),
            licence="CamVid: for research; see its pages",
        ),
    ),
    "folder": (
        "Any photos and masks in folders; name the classes.",
        Corpus(),
    ),
    "index": (
        "A CSV, JSONL or Parquet file of pairs; name it with --corpus.shards.",
        Corpus(kind="index", shards="{split}.csv", images="image", masks="mask"),
    ),
    "webdataset": (
        "WebDataset tar shards; members KEY.jpg and KEY.seg.png or as you say.",
        Corpus(kind="tars", shards="{split}-*.tar", images="jpg;jpeg;png;webp", masks="seg.png"),
    ),
    "tables": (
        "Parquet with image bytes, as on the Hugging Face hub: data/train-00000-of-00010.parquet.",
        Corpus(kind="tables", shards="data/{split}-*.parquet", images="image", masks="label"),
    ),
    "hf-disk": (
        "A Hugging Face dataset on disk (save_to_disk): train/data-*.arrow.",
        Corpus(kind="tables", shards="{split}/*.arrow", images="image", masks="label"),
    ),
    "digits": (
        "The demo's scenes of handwritten digits.",
        Corpus(classes=digits.CLASSES),
    ),
}
