"""The preview: all of what an encode would make is shown, what is odd is said, nothing else."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines import config
from pipelines.corpora import Corpus, list_pairs
from pipelines.dataset import preview
from pipelines.dataset.config import recipe
from pipelines.dataset.encoder import Decode, Encoder
from pipelines.dataset.preview import PreviewConfig
from pipelines.presets import ENCODE
from semflow.codecs.anchors import Anchors
from tests.pictures import CLASSES, encoded, scene, write_good, write_pair


@pytest.fixture
def corpus(tmp_path):
    root = tmp_path / "corpus"
    write_good(root, "train", 6)
    write_good(root, "val", 2, start=100)
    return root


def look(root, corpus=(), **options):
    """The page's text, the ceiling's mIoU, and the warnings as lines."""
    corpus = {"classes": CLASSES, "ignore_ids": (255,)} | dict(corpus)
    defaults = {"output": str(root.parent / "latents"), "height": 48, "width": 64, "views": 2,
                "autoencoder": "space-to-depth", "palette": "grid"}  # fmt: skip
    cfg = PreviewConfig(corpus=Corpus(root=str(root), **corpus), **defaults | options)
    page, miou, warned = preview.preview(cfg)
    with open(page) as file:
        return cfg, file.read(), miou, ["\n".join([w.sentence, *w.details]) for w in warned]


def table_rows(html):
    """Cells of the table of classes, by class."""
    rows = re.findall(r"<tr>(.*?)</tr>", html.partition("What it would be")[0], re.S)
    cells = [[re.sub(r"<.*?>", "", td).strip() for td in re.findall(r"<td.*?</td>", row, re.S)]
             for row in rows]  # fmt: skip
    return {cell[0]: cell[1:] for cell in cells if cell}


def pictures(html):
    """The pictures of the page: caption and pixels."""
    found = re.findall(r'<img alt="(.*?)" src="data:image/\w+;base64,(.*?)"', html)
    return [(name, np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))))
            for name, data in found]  # fmt: skip


def test_the_page_has_every_class_with_its_ceiling_and_no_warning_for_a_good_corpus(corpus):
    cfg, html, miou, warned = look(corpus)
    assert (miou, warned) == (1.0, [])
    rows = table_rows(html)
    assert rows.keys() == {*CLASSES, "ignored"}
    for number, name in enumerate(CLASSES):
        assert (rows[name][0], rows[name][-1]) == (str(number), "1.000")
    truth = np.concatenate([scene(n)[1] for n in (*range(6), 100, 101)])
    assert rows["sky"][2] == f"{100 * (truth == 0).mean():.2f} %"
    assert "train: 6 of 6 pairs" in html
    assert "val: 2 of 2 pairs" in html
    assert config.fingerprint(recipe(cfg, cfg.make_palette()))[:16] in html
    assert ">14</b>" in html  # rows: 6 pairs of 2 views, and 2
    assert f"{14 * 2 * 5 * 48 * 64 * 3 / 1e6:.1f} MB" in html  # 1 image and 4 draws, lossless
    assert "http" not in html  # all of the page is in it


def test_pictures_are_what_the_encode_stores_and_what_comes_back(corpus):
    cfg, html, _, _ = look(corpus, pairs=1)
    shown = pictures(html)
    assert [name for name, _ in shown] == [
        "Photo", "Mask", "Mask over photo", "Another view", "Its mask over it", "Photo, decoded",
        "Clean mask, decoded", "Read as", "Not as in the mask",
        "Perturbed mask, decoded",
        "Photo", "Mask", "Mask over photo", "Photo, decoded",
        "Clean mask, decoded", "Read as", "Not as in the mask",
        "Perturbed mask, decoded",
    ]  # fmt: skip
    picture = dict(reversed(shown[:10]))
    image, ids = scene(0)
    anchors = np.array(cfg.make_palette().colours, np.uint8)
    assert np.array_equal(picture["Photo"], image)
    assert np.array_equal(picture["Photo, decoded"], image)
    for name in ("Mask", "Clean mask, decoded", "Read as"):
        assert np.array_equal(picture[name], anchors[ids])
    noise = picture["Perturbed mask, decoded"].astype(int) - anchors[ids]
    assert 4 < np.abs(noise).max() <= 7
    as_encoded = Decode(PreviewConfig(corpus=cfg.corpus, height=48, width=64), 8)
    row = list_pairs(cfg.corpus, "train").pairs.to_pylist()[0] | {"shard": ""}
    assert np.array_equal(picture["Another view"], as_encoded(row)[1]["pixels"])


def test_pairs_are_spread_over_the_listing(corpus):
    _, html, _, _ = look(corpus, pairs=3)
    assert re.findall(r"<h3>(\w+)</h3>", html) == ["0000", "0002", "0005", "0100", "0101"]


def test_a_class_whose_value_is_wrong_is_never_seen_and_its_pixels_are_ignored(corpus):
    mapping = {"classes": CLASSES, "ids": (0, 7, 2), "ignore_rest": True}
    _, html, miou, warned = look(corpus, mapping)
    assert miou == 1.0
    never, ignored = warned
    assert never.startswith("1 of 3 classes are in none of the 8 pairs shown")
    assert never.endswith("\nroad")
    truth = np.concatenate([scene(n)[1] for n in (*range(6), 100, 101)])
    assert ignored.startswith(f"{(truth == 1).mean():.0%} of the pixels are ignored")
    assert table_rows(html)["road"][-1] == "\N{EN DASH}"
    mask = dict(reversed(pictures(html)[:10]))["Mask"]
    hatched = mask[scene(0)[1] == 1]
    assert set(map(tuple, hatched.tolist())) == {(0, 0, 0), (255, 255, 255)}


def test_a_value_that_means_nothing_leaves_no_pair_and_the_page_says_why(corpus):
    _, html, miou, warned = look(corpus, {"classes": CLASSES, "ids": (0, 1, 7)})
    assert np.isnan(miou)
    assert warned[0].startswith("8 of 8 pairs cannot be used")
    assert warned[0].count("values [2] are beyond the 3 classes") == 8
    assert "values [2] are beyond the 3 classes" in html


def test_bad_pairs_and_files_are_listed_with_their_reasons(corpus):
    image, ids = scene(0)
    write_pair(corpus, "train", "torn", encoded(image)[:400], encoded(ids), "png")
    write_pair(corpus, "train", "<b>", encoded(image), encoded(ids[:40]), "png")
    for number in range(12):
        (corpus / f"images/train/lonely{number:02d}.png").write_bytes(encoded(image))
    _, html, _, (pairs, files) = look(corpus)
    assert pairs.startswith("2 of 10 pairs cannot be used")
    assert re.search(r"torn\.png: not a whole image file", pairs)
    assert re.search(r"<b>\.png: sizes differ: the photo is 64x48, its mask 64x40", pairs)
    assert files.startswith("12 files of train are no pair.")
    assert files.count("an image without a mask") == 10
    assert files.endswith("and 2 more")
    assert "&lt;b&gt;.png: sizes differ" in html
    assert "<b>.png" not in html


def test_photos_that_grow_or_are_stretched_are_warned_of(corpus):
    _, _, _, warned = look(corpus, height=128, width=128)
    assert [line.partition(".")[0] for line in warned] == [
        "Photos are encoded larger than they are: time and space without detail",
        "Photos change their shape by more than 10 %",
    ]
    assert "8 of 64x48: at 128x128 they are 0.75 times as wide" in warned[1]


def test_an_autoencoder_that_loses_classes_is_warned_of(corpus, monkeypatch):
    """One that confuses the last class with the first, and gives black photos."""

    def load(cfg, palette, codec):
        encoder = Encoder(cfg, palette, codec)
        anchors = encoder.palette.anchors

        class Black(type(encoder.autoencoder)):
            def decode(self, latents):
                return torch.full_like(super().decode(latents), -1)

        class Lossy(type(encoder.autoencoder)):
            def decode(self, latents):
                masks = super().decode(latents)
                tree = (masks - anchors[2][:, None, None]).abs().amax(1) < 0.1
                return torch.where(tree[:, None], anchors[0][:, None, None], masks)

        encoder.autoencoder, encoder.codec = Black(), Anchors(palette, Lossy())
        return encoder

    monkeypatch.setattr(preview, "Encoder", load)
    _, html, miou, (low, photos) = look(corpus, draws=1)
    assert low.startswith("2 classes do not survive the autoencoder")
    assert "tree: IoU 0.000" in low
    assert miou < 0.9
    assert "do not survive" in html
    assert photos.startswith("Photos come out of the autoencoder at")


def test_nothing_but_the_page_is_written_and_a_dataset_stays(corpus, capsys, monkeypatch):
    home = corpus.parent
    (home / "latents").mkdir()
    (home / "latents/manifest.json").write_text("{}")
    monkeypatch.chdir(home)

    def files():
        return {p: p.stat().st_mtime_ns for p in home.rglob("*") if p.is_file()}

    before = files()
    flags = ["folder", "--corpus.root", str(corpus), "--corpus.classes", *CLASSES, "--height", "48",
             "--width", "64", "--output", "latents", "--overwrite", "--autoencoder",
             "space-to-depth", "--palette", "grid", "--pairs", "1"]  # fmt: skip
    preview.main(flags, ENCODE)
    after = files()
    assert after.keys() - before.keys() == {home / "latents-preview.html"}
    assert {path: after[path] for path in before} == before
    said = capsys.readouterr().out
    assert f"{home}/latents-preview.html: codec ceiling mIoU 1.000" in said
    preview.main([*flags, "--page", "elsewhere/page.html"], ENCODE)
    assert (home / "elsewhere/page.html").exists()


def test_what_an_encode_refuses_is_refused_alike(corpus):
    (corpus / "images/val/0100.png").unlink()
    (corpus / "images/val/0101.png").unlink()
    with pytest.raises(ValueError, match=r"split 'val': no photo has a mask"):
        look(corpus)
    with pytest.raises(ValueError, match=r"name the classes"):
        look(corpus, {"classes": ()})
    with pytest.raises(ValueError, match=r"do not divide by this autoencoder's factor 4"):
        look(corpus, width=50)
    assert not (corpus.parent / "latents-preview.html").exists()
