"""Object storage for real: the same jobs on s3://, and a server that goes away for a while."""

import io
import json
import threading
import time

import numpy as np
import pytest
from PIL import Image

from infra import storage
from pipelines.corpora.pixels import png
from pipelines.dataset.latents import read_manifest
from pipelines.dataset.verify import VerifyConfig, verify
from pipelines.encode import encode
from tests.integration.conftest import encode_config
from tests.integration.test_encode import digests
from tests.pictures import encoded, scene, write_good, write_pair


@pytest.fixture(scope="module")
def s3_corpus(ray_session, corpus):
    storage.upload_folder(corpus, "s3://semflow/corpus")
    return "s3://semflow/corpus"


@pytest.fixture(scope="module")
def s3_latents(s3_corpus):
    encode(encode_config(s3_corpus, "s3://semflow/latents"))
    return "s3://semflow/latents"


def test_an_encode_on_s3_is_the_one_on_disk(latents, s3_latents):
    output = s3_latents
    assert digests(output) == digests(latents)
    assert read_manifest(output).fingerprint == read_manifest(str(latents)).fingerprint
    assert verify(VerifyConfig(data=output)) == {}


def test_what_is_written_in_pieces_is_on_s3_whole_or_not_at_all(proxy):
    uri = "s3://semflow/pieces.bin"
    with storage.writer(uri) as file:
        file.write(b"one, ")
        assert not storage.exists(uri)
        file.write(b"two")
    with pytest.raises(TypeError), storage.writer(uri) as file:
        file.write("no bytes")
    assert storage.read_bytes(uri) == b"one, two"


def test_training_reads_from_s3_even_a_bad_one(proxy, s3_latents, latents):
    from pipelines.training.feed import Feed, Order

    def rows(uri):
        manifest = read_manifest(uri)
        order = Order.of(manifest.split("train"), 0, 4, 4)
        return Feed(manifest, "train", order, range(4), online=False).window(0)

    here, there = rows(str(latents)), rows(s3_latents)
    assert all(np.array_equal(here[name], there[name]) for name in here)
    proxy.failed, proxy.due = 0, 3
    there = rows(s3_latents)
    assert proxy.failed == 3
    assert all(np.array_equal(here[name], there[name]) for name in here)


def test_bad_inputs_on_s3_are_quarantined_as_on_disk(ray_session, tmp_path):
    image, ids = scene(0)
    write_good(tmp_path, "train", 20)
    write_good(tmp_path, "val", 2)
    grey = np.asarray(Image.fromarray(image).convert("L"))
    buffer = io.BytesIO()
    Image.fromarray(image).convert("CMYK").save(buffer, "JPEG")
    cmyk, palette = buffer.getvalue(), png(ids, [0, 0, 0, 255, 0, 0, 0, 255, 0])
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side, shown upright
    turned = encoded(np.rot90(image), "JPEG", exif=exif.tobytes())
    cases = {
        "truncated": (encoded(image, "JPEG")[:900], encoded(ids)),
        "zero": (b"", encoded(ids)),
        "no image": (b"hello", encoded(ids)),
        "empty mask": (encoded(image), b""),
        "sizes": (encoded(image), encoded(ids[:40])),
        "beyond": (encoded(image), encoded(ids + 5)),
        "colours": (encoded(image), encoded(image)),
        "fine grey ünï cødé #?&=": (encoded(grey), encoded(ids.astype(np.uint16))),
        "fine cmyk and palette": (cmyk, palette),
        "fine turned": (turned, encoded(ids)),
    }
    for name, (photo, mask) in cases.items():
        write_pair(tmp_path, "train", name, photo, mask, "png")
    (tmp_path / "images/train/lonely.png").write_bytes(encoded(image))
    (tmp_path / "masks/train/widow.png").write_bytes(encoded(ids))
    storage.upload_folder(tmp_path, "s3://semflow/bad")
    reasons = []
    for root, output in ((str(tmp_path), str(tmp_path / "out")), ("s3://semflow/bad",) * 2):
        output = output if output != root else "s3://semflow/bad-out"
        assert encode(encode_config(root, output, max_bad_share=0.5)).quarantined == 9
        lines = storage.read_bytes(storage.join(output, "quarantine.jsonl")).decode().splitlines()
        records = [json.loads(line) for line in lines]
        reasons.append({r["file"].removeprefix(root).lstrip("/"): r["reason"] for r in records})
    assert reasons[0] == reasons[1]
    assert len(reasons[0]) == 9


def test_a_server_that_goes_away_is_waited_for(s3, s3_corpus, latents):
    """Stopped for some seconds in the middle of an encode: nothing is lost, nothing is doubled."""
    output = "s3://semflow/outage"

    def outage():
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not storage.exists(f"{output}/train/00000.parquet"):
            time.sleep(0.05)
        s3.stop()
        time.sleep(8)
        s3.start()

    thread = threading.Thread(target=outage)
    thread.start()
    encode(encode_config(s3_corpus, output))
    thread.join()
    assert digests(output) == digests(latents)
    assert verify(VerifyConfig(data=output)) == {}


def test_requests_that_a_busy_store_fails_are_asked_again(proxy, s3_corpus, latents):
    output, before = "s3://semflow/busy", proxy.failed
    proxy.share = 0.03
    try:
        encode(encode_config(s3_corpus, output))
    finally:
        proxy.share = 0.0
    assert proxy.failed > before
    assert digests(output) == digests(latents)
    assert verify(VerifyConfig(data=output)) == {}


def test_the_whole_path_runs_on_s3(s3_corpus, s3_latents):
    """Train, label, synthesize and evaluate read and write URIs as they do paths."""
    from pipelines.evaluate import evaluate
    from pipelines.evaluation.config import EvaluateConfig
    from pipelines.label import label
    from pipelines.labelling.config import LabelConfig
    from pipelines.synthesis.config import SynthesizeConfig
    from pipelines.synthesize import synthesize
    from pipelines.train import train
    from tests.integration.test_train import train_config

    base = "s3://semflow/path"
    train(train_config(s3_latents, f"{base}/run", steps=4, workers=1))
    trained = train(
        train_config(s3_latents, f"{base}/run", workers=1)
    )  # goes on from its checkpoint
    assert trained == f"{base}/run/model"
    labels = label(LabelConfig(model=trained, images=f"{s3_corpus}/images/val", output=f"{base}/l"))
    made = synthesize(
        SynthesizeConfig(model=trained, masks=f"{s3_corpus}/masks/val", output=f"{base}/s")
    )
    assert labels["rows"] == 6
    assert made["rows"] >= 6
    assert len(storage.list_files(f"{base}/l/masks", (".png",))) == 6
    result = evaluate(
        EvaluateConfig(model=trained, data=s3_latents, output=f"{base}/report", limit=6)
    )
    assert 0 <= result["segmentation"]["accuracy"] <= 1
    assert storage.exists(f"{base}/report/report.html")
