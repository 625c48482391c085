"""Encode: complete, quarantining, resumable, and read by others."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.dataset.latents import read_manifest, read_row_groups
from pipelines.dataset.verify import VerifyConfig, verify
from pipelines.encode import encode
from pipelines.sharding.runner import TooManyBad
from tests.integration.conftest import encode_config
from tests.pictures import CLASSES, encoded, scene, write_good, write_pair

ROOT = Path(__file__).parents[2]


def digests(folder):
    return {
        shard.path: shard.sha256
        for split in read_manifest(str(folder)).splits.values()
        for shard in split.shards
    }


def test_every_view_of_every_pair_is_there_once_and_as_it_was(latents, corpus):
    manifest = read_manifest(str(latents))
    assert {name: split.rows for name, split in manifest.splits.items()} == {"train": 36, "val": 6}
    assert manifest.codec_ceiling["miou"] == 1.0
    assert manifest.quarantined == 0
    seen = []
    for shard in manifest.splits["train"].shards:
        table = read_row_groups(manifest.shard_uri(shard), list(range(len(shard.row_groups))), None)
        seen += list(zip(table["id"].tolist(), table["view"].tolist(), strict=True))
        assert table["mask_draw_2"].shape[1:] == (48, 8, 12)
        assert "image_std" not in table  # the lossless posterior has no spread
    assert sorted(seen) == [(f"{i:04d}", view) for i in range(18) for view in (0, 1)]
    assert len(seen) == len(set(seen))


def test_latents_decode_to_the_resized_photo_and_the_clean_mask(latents):
    import torch

    from semflow import load_autoencoder

    manifest, decode = read_manifest(str(latents)), load_autoencoder("space-to-depth").decode
    table = read_row_groups(manifest.shard_uri(manifest.splits["val"].shards[0]), [0], None)
    image, ids = scene(100)
    photo = Image.fromarray(image).resize((48, 32), Image.Resampling.BICUBIC)
    decoded = decode(torch.from_numpy(table["image_mean"][:1]).float())[0]
    expected = torch.from_numpy(np.array(photo)).movedim(-1, 0) / 127.5 - 1
    torch.testing.assert_close(decoded, expected, rtol=0, atol=1e-3)  # half precision
    resized = np.asarray(Image.fromarray(ids).resize((48, 32), Image.Resampling.NEAREST))
    assert np.array_equal(table["mask"][0], resized)
    draws = decode(torch.tensor(np.stack([table[f"mask_draw_{k}"][0] for k in range(3)])).float())
    clean = manifest.palette.encode(torch.from_numpy(resized.copy())[None])[0]
    torch.testing.assert_close(draws[0], clean, rtol=0, atol=1e-3)
    noise = draws[1:] - clean
    assert 0.045 < noise.abs().max() <= 0.0515
    assert not torch.equal(draws[1], draws[2])
    assert torch.equal(
        manifest.palette.decode(draws).ids[2], torch.from_numpy(resized.copy()).long()
    )


def test_shards_are_read_by_plain_pyarrow_without_us(latents):
    program = f"""
import pyarrow.parquet as pq
table = pq.read_table({str(latents / "train")!r})
assert table.num_rows == 36
assert table["image_mean"].combine_chunks().to_numpy_ndarray().shape == (36, 48, 8, 12)
print("read")
"""
    result = subprocess.run(
        [sys.executable, "-c", program], cwd="/", capture_output=True, text=True, check=True
    )
    assert result.stdout == "read\n"


def test_bad_inputs_are_quarantined_with_their_reasons(ray_session, tmp_path):
    image, ids = scene(0)
    write_good(tmp_path, "train", 20)
    write_good(tmp_path, "val", 2)
    grey = np.asarray(Image.fromarray(image).convert("L"))
    cases = {
        "truncated": (encoded(image, "JPEG")[:900], encoded(ids)),
        "zero": (b"", encoded(ids)),
        "sizes": (encoded(image), encoded(ids[:40])),
        "beyond": (encoded(image), encoded(ids + 5)),
        "colours": (encoded(image), encoded(image)),
        "fine grey ünï cødé": (encoded(grey), encoded(ids.astype(np.uint16))),
    }
    for name, (photo, mask) in cases.items():
        write_pair(tmp_path, "train", name, photo, mask, "png")
    (tmp_path / "images/train/lonely.png").write_bytes(encoded(image))
    (tmp_path / "masks/train/widow.png").write_bytes(encoded(ids))
    out = tmp_path / "out"
    manifest = encode(encode_config(tmp_path, out, max_bad_share=0.5))
    assert manifest.splits["train"].rows == 2 * 21
    assert manifest.quarantined == 7
    lines = [json.loads(line) for line in (out / "quarantine.jsonl").read_text().splitlines()]
    reasons = {Path(line["file"]).stem: line["reason"] for line in lines}
    assert reasons.keys() == {
        "truncated", "zero", "sizes", "beyond", "colours", "lonely", "widow"
    }  # fmt: skip
    assert "not a whole image" in reasons["truncated"]
    assert "[5, 6, 7]" in reasons["beyond"]
    assert reasons["lonely"] == "an image without a mask"
    with pytest.raises(TooManyBad, match=r"more than the allowed share of 5\.0%"):
        encode(encode_config(tmp_path, tmp_path / "strict"))
    assert not (tmp_path / "strict/manifest.json").exists()


def test_a_finished_encode_does_nothing_and_another_is_refused(latents, corpus, capsys):
    before = {path: path.stat().st_mtime_ns for path in latents.rglob("*.parquet")}
    encode(encode_config(corpus, latents))
    assert "nothing to do" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in latents.rglob("*.parquet")}
    with pytest.raises(ValueError, match=r"another configuration.*--overwrite"):
        encode(encode_config(corpus, latents, draws=2))


def test_missing_shards_are_made_again_byte_for_byte(latents, corpus, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(latents, copy)
    (copy / "manifest.json").unlink()
    (copy / "_progress/train/00001.json").unlink()  # killed between shard and record
    (copy / "train/00001.parquet").write_bytes(b"half a shard")
    kept = (copy / "train/00000.parquet").stat().st_mtime_ns
    encode(encode_config(corpus, copy))
    assert digests(copy) == digests(latents)
    assert (copy / "train/00000.parquet").stat().st_mtime_ns == kept


def test_an_encode_killed_midway_ends_as_if_it_had_not_been(tmp_path):
    """The real command, killed with its whole Ray, then given again."""
    corpus = tmp_path / "corpus"
    write_good(corpus, "train", 60)
    write_good(corpus, "val", 4)
    command = [
        sys.executable, str(ROOT / "pipelines/encode.py"), "folder", "--corpus.root", str(corpus),
        "--corpus.classes", *CLASSES, "--height", "32", "--width", "48", "--shard-rows", "8",
        "--autoencoder", "space-to-depth", "--output",
    ]  # fmt: skip

    def start(output):
        return subprocess.Popen(
            [*command, str(output)], cwd=tmp_path, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    assert start(tmp_path / "whole").wait(180) == 0
    killed = start(tmp_path / "killed")
    progress = tmp_path / "killed/_progress/train"
    deadline = time.monotonic() + 120
    while len(list(progress.glob("*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    done = {path: path.stat().st_mtime_ns for path in progress.glob("*.json")}
    assert done
    assert not (tmp_path / "killed/manifest.json").exists()
    assert start(tmp_path / "killed").wait(180) == 0
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")
    assert done == {path: path.stat().st_mtime_ns for path in done}  # not done again


def test_new_files_are_encoded_alone_and_mended_ones_again(ray_session, tmp_path):
    write_good(tmp_path, "train", 12)
    write_good(tmp_path, "val", 2)
    image, ids = scene(3)
    mended = encoded(image)
    write_pair(tmp_path, "train", "0003", mended[:500], encoded(ids), "png")
    out = tmp_path / "out"
    cfg = encode_config(tmp_path, out, max_bad_share=0.2)
    first = encode(cfg)
    assert (first.splits["train"].rows, first.quarantined) == (22, 1)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    write_good(tmp_path, "train", 5, start=50)
    (tmp_path / "images/train/0003.png").write_bytes(mended)
    second = encode(cfg)
    assert (second.splits["train"].rows, second.quarantined) == (2 * 17, 0)
    assert (out / "quarantine.jsonl").read_text() == ""
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert second.fingerprint != first.fingerprint
    assert verify(VerifyConfig(data=str(out))) == {}
    (tmp_path / "images/train/0004.png").write_bytes(encoded(image, compress_level=0))
    with pytest.raises(ValueError, match=r"1 inputs of 'train' have changed"):
        encode(cfg)


def test_verify_names_a_flipped_byte_a_missing_and_a_foreign_shard(latents, tmp_path, capsys):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(latents, copy)
    assert verify(VerifyConfig(data=str(copy))) == {}
    shard = copy / "train/00002.parquet"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    (copy / "val/00000.parquet").unlink()
    shutil.copy(copy / "train/00000.parquet", copy / "train/00001.parquet")
    (copy / "train/stray.parquet").write_bytes(b"of another run")
    quick = verify(VerifyConfig(data=str(copy), quick=True))
    assert quick["val/00000.parquet"] == ["is missing"]
    assert "is not in the manifest" in quick["train/stray.parquet"][0]
    faults = verify(VerifyConfig(data=str(copy)))
    assert "digest differs" in faults["train/00002.parquet"][0]
    assert faults["val/00000.parquet"] == ["is missing"]
    assert any("there twice" in fault for fault in faults["train"])
    assert "train/00002.parquet: digest differs" in capsys.readouterr().out
