"""The service, as its clients meet it: over HTTP on loopback, and in a browser."""

import base64
import io
import shutil
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image

from pipelines.inference.predictors import ModelOptions, Segmenter, Synthesizer
from pipelines.serving.config import ServeConfig
from semflow import SemFlow
from tests.pictures import bomb, encoded, many_scans, padded, scene

MAX_BYTES, MAX_REQUESTS = 200_000, 120
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def service(ray_session, model):
    """The service's address, in the Ray of all tests."""
    from ray import serve

    from pipelines.serve import build, start

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    cfg = ServeConfig(
        model=str(model), port=port, max_batch=8, batch_wait_s=0.05, max_bytes=MAX_BYTES,
        max_pixels=100_000, max_samples=5, max_requests=MAX_REQUESTS, body_timeout_s=3,
    )  # fmt: skip
    yield start(build(cfg), cfg)
    serve.shutdown()


def post(url, data, kind="image/png", accept="*/*"):
    return requests.post(url, data, headers={"Content-Type": kind, "Accept": accept}, timeout=60)


def picture(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def decoded(text):
    return picture(base64.b64decode(text))


def test_a_mask_is_what_the_batch_jobs_predictor_says(service, model):
    image = scene(3, 40, 60)[0]
    semflow = SemFlow.load(model)
    predictor = Segmenter(semflow, ModelOptions(), semflow.defaults.segment)
    small = np.asarray(Image.fromarray(image).resize((48, 32), Image.Resampling.BICUBIC))
    expected = predictor({"pixels": [small], "error": [""]})
    ids = Image.fromarray(expected["ids"][0]).resize((60, 40), Image.Resampling.NEAREST)

    plain = post(f"{service}/segment", encoded(image))
    assert plain.headers["content-type"] == "image/png"
    mask = Image.open(io.BytesIO(plain.content))
    assert mask.mode == "P"
    assert np.mean(np.asarray(mask) == np.asarray(ids)) > 0.999  # batches round differently
    form = requests.post(
        f"{service}/segment", files={"file": ("../../etc/passwd", encoded(image))}, timeout=60
    )
    assert form.content == plain.content

    answer = post(f"{service}/segment?overlay=0.25", encoded(image), accept="application/json")
    answer = answer.json()
    assert (answer["width"], answer["height"]) == (60, 40)
    assert np.array_equal(decoded(answer["mask"]), np.asarray(mask))
    shares = [entry["share"] for entry in answer["classes"]]
    assert np.allclose(shares, np.bincount(expected["ids"][0].ravel(), minlength=3) / (32 * 48))
    assert answer["mean_margin"] == pytest.approx(float(expected["margin"][0]), abs=1e-3)
    assert float(plain.headers["mean-margin"]) == pytest.approx(answer["mean_margin"], abs=1e-3)
    assert "confidence" not in answer
    more = post(
        f"{service}/segment?confidence=true", encoded(image), accept="application/json"
    ).json()
    assert np.abs(decoded(more["confidence"]).astype(int) - expected["confidence"][0]).max() <= 1
    colours = np.asarray(mask.convert("RGB")).astype(float)
    assert np.abs(decoded(answer["overlay"]) - (0.75 * image + 0.25 * colours)).max() <= 1


def test_an_image_is_what_the_batch_jobs_predictor_says(service, model):
    ids = np.asarray(Image.fromarray(scene(4)[1]).resize((48, 32), Image.Resampling.NEAREST)).copy()
    ids[:3, :5] = 9  # of no class, in the model's corpus
    defaults = SemFlow.load(model).defaults
    predictor = Synthesizer(str(model), ModelOptions(), defaults.synthesize, defaults.perturbation)
    rows = {"ids": [np.where(ids == 9, 255, ids).astype(np.uint8)] * 3, "seed": [7, 8, 9]}
    expected = predictor(rows | {"error": [""] * 3})["pixels"]

    query = "masks_are=corpus&seed"
    several = post(f"{service}/synthesize?{query}=7&samples=3", encoded(ids)).json()
    assert [one["seed"] for one in several["images"]] == [7, 8, 9]
    for one, image in zip(several["images"], expected, strict=True):
        assert np.abs(decoded(one["image"]).astype(int) - image).max() <= 1
    single = post(f"{service}/synthesize?{query}=9", encoded(ids))
    assert single.headers["content-type"] == "image/png"
    assert np.abs(picture(single.content).astype(int) - expected[2]).max() <= 1


def test_the_model_describes_itself(service, model):
    from pipelines.inference.settings import model_fingerprint, read_model_index

    about = requests.get(f"{service}/model", timeout=60).json()
    semflow = SemFlow.load(model)
    assert [entry["name"] for entry in about["classes"]] == list(semflow.palette.names)
    assert about["classes"][1]["colour"] == "#{:02x}{:02x}{:02x}".format(
        *semflow.palette.colours[1]
    )
    assert (about["width"], about["height"], about["no_class"]) == (48, 32, 255)
    assert (about["masks_are"], about["class_map"]["ignore_ids"]) == (None, [9, 255])
    assert about["fingerprint"] == model_fingerprint(read_model_index(str(model)))
    assert (about["segment"]["steps"], about["synthesize"]["steps"]) == (1, 2)


def health(service):
    return requests.get(f"{service}/health", timeout=60).json()


def test_concurrent_requests_are_computed_together_and_all_are_answered(service):
    before = health(service)
    photos = [encoded(scene(n)[0]) for n in range(50)]
    masks = [encoded(scene(n)[1]) for n in range(50)]
    with ThreadPoolExecutor(100) as pool:
        segmented = [pool.submit(post, f"{service}/segment", photo) for photo in photos]
        made = [
            pool.submit(post, f"{service}/synthesize?seed={n}", mask)
            for n, mask in enumerate(masks)
        ]
    assert [one.result().status_code for one in segmented + made] == [200] * 100
    after = health(service)
    for name in ("segment", "synthesize"):
        rows, batches = (after[name][key] - before[name][key] for key in ("rows", "batches"))
        assert rows == 50
        assert 50 / 8 <= batches <= 25
    # Each client has the answer to what it sent.
    for n in (0, 17, 49):
        alone = picture(post(f"{service}/segment", photos[n]).content)
        assert np.mean(alone == picture(segmented[n].result().content)) > 0.999
        alone = picture(post(f"{service}/synthesize?seed={n}", masks[n]).content)
        assert np.abs(alone.astype(int) - picture(made[n].result().content)).max() <= 1


PHOTO, MASK = encoded(scene(0)[0]), encoded(scene(0)[1])
HOSTILE = [
    ("segment", b"", "image/png", 400, "empty"),
    ("segment", b"no photo", "image/jpeg", 415, "PNG or JPEG or WEBP"),
    ("segment", PHOTO[:900], "image/png", 400, "whole"),
    ("segment", encoded(scene(0)[0], "JPEG")[:900], "image/jpeg", 400, "whole"),
    ("segment", encoded(scene(0)[0], "GIF"), "image/png", 415, "send one"),
    ("segment", bomb(60_000, 60_000), "image/png", 413, "smaller"),
    ("segment", bomb(400, 400), "image/png", 413, "100000"),
    ("segment", bytes(MAX_BYTES + 1), "image/png", 413, str(MAX_BYTES)),
    ("segment", iter([bytes(50_000)] * 5), "image/png", 413, str(MAX_BYTES)),
    ("segment", PHOTO, "application/pdf", 415, "image/webp"),
    ("segment", PHOTO, "", 415, "none"),
    ("segment", PHOTO, "multipart/form-data", 400, "boundary"),
    ("segment", b"--x\r\nnonsense", "multipart/form-data; boundary=x", 400, "form"),
    ("segment", b"--x--\r\n", "multipart/form-data; boundary=x", 400, "no file"),
    ("segment?overlay=2", PHOTO, "image/png", 400, "overlay"),
    ("segment?overlay=nan", PHOTO, "image/png", 400, "overlay"),
    ("segment?confidence=some", PHOTO, "image/png", 400, "confidence"),
    ("segment?opacity=0.5", PHOTO, "image/png", 400, "no query value 'opacity'"),
    ("synthesize", PHOTO, "image/png", 400, "one channel"),
    ("synthesize", encoded(scene(0)[1] + 3), "image/png", 400, "beyond the 3 classes"),
    ("synthesize", encoded(np.full((9, 9), 9, np.uint8)), "image/png", 400, "masks_are=corpus"),
    ("synthesize?masks_are=colours", MASK, "image/png", 400, "masks_are"),
    ("synthesize", encoded(scene(0)[1], "JPEG"), "image/jpeg", 415, "image/png"),
    ("synthesize", MASK[:-30], "image/png", 400, "mask"),
    ("synthesize?seed=-1", MASK, "image/png", 400, "seed"),
    ("synthesize?seed=1e99", MASK, "image/png", 400, "seed"),
    ("synthesize?seed=99999999999999999999", MASK, "image/png", 400, "seed"),
    ("synthesize?samples=0", MASK, "image/png", 400, "samples"),
    ("synthesize?samples=6", MASK, "image/png", 400, "at most 5"),
    ("../../etc/passwd", PHOTO, "image/png", 404, "POST /segment"),
    ("model", PHOTO, "image/png", 405, "GET /"),
]


def test_what_is_hostile_gets_a_sentence_and_the_service_goes_on(service):
    for path, data, kind, status, reason in HOSTILE:
        response = post(f"{service}/{path}", data, kind)
        assert (response.status_code, path, kind) == (status, path, kind), response.text
        assert response.json().keys() == {"error"}
        error = response.json()["error"]
        assert reason in error
        assert "Traceback" not in error
    two = requests.post(
        f"{service}/segment", files=[("a", ("a", PHOTO)), ("b", ("b", PHOTO))], timeout=60
    )
    assert two.status_code == 400
    assert "Too many files" in two.json()["error"]
    assert health(service)["busy"] == 0
    assert post(f"{service}/segment", PHOTO).status_code == 200


@contextmanager
def connection(service, headers):
    host, port = service.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as client:
        client.sendall(
            (f"POST /segment HTTP/1.1\r\nHost: {host}\r\nContent-Type: image/png\r\n"
             + headers + "\r\n\r\n").encode()
        )  # fmt: skip
        yield client


def test_a_body_that_is_too_long_is_refused_while_it_arrives(service):
    with connection(service, "Content-Length: 1000000000000") as client:
        assert b" 413 " in client.recv(4000).split(b"\r\n")[0]
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    with connection(service, "Transfer-Encoding: chunked") as client:
        client.settimeout(0.05)
        for _ in range(200):  # it has no end: whoever waits for one never answers
            with suppress(TimeoutError):
                answer = client.recv(4000)
                break
            client.settimeout(30)
            client.sendall(chunk)
            client.settimeout(0.05)
        assert b" 413 " in answer.split(b"\r\n")[0]


def test_stalled_clients_are_let_go_and_no_more_are_held_than_there_is_room_for(service):
    from contextlib import ExitStack

    with ExitStack() as stack:
        stalled = [
            stack.enter_context(connection(service, "Content-Length: 1000"))
            for _ in range(MAX_REQUESTS)
        ]
        deadline = time.monotonic() + 2.5
        while health(service)["busy"] < MAX_REQUESTS and time.monotonic() < deadline:
            time.sleep(0.02)
        full = post(f"{service}/segment", PHOTO)
        assert full.status_code == 503
        assert "try again" in full.json()["error"]
        assert all(b" 408 " in client.recv(4000).split(b"\r\n")[0] for client in stalled)
    assert post(f"{service}/segment", PHOTO).status_code == 200


def form(charset, field=b""):
    parts = [b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + field,
             b'--x\r\nContent-Disposition: form-data; name="b"; filename="b"\r\n\r\n' + PHOTO,
             b"--x--\r\n"]  # fmt: skip
    return b"\r\n".join(parts), f"multipart/form-data; boundary=x{charset}"


def test_beside_attacks_requests_are_answered_and_nothing_stays(service):
    many = many_scans(5000)
    assert len(many) < MAX_BYTES
    attacks = {
        "punycode": (*form("; charset=punycode", b"a" * 150_000), 415),
        "charset": (*form("; charset=nonsense"), 415),
        "field": (*form("", b"a" * 150_000), 400),
        "padding": (padded(190_000), "image/jpeg", 200),
        "row": (bomb(1, 90_000), "image/png", 413),
        "scans": (many, "image/jpeg", 413),  # by its pixels here: decoders are tested alone
    }
    with ThreadPoolExecutor(60) as pool:
        sent = {
            name: [pool.submit(post, f"{service}/segment", data, kind) for _ in range(8)]
            for name, (data, kind, _) in attacks.items()
        }
        for _ in range(5):
            assert post(f"{service}/segment", PHOTO).status_code == 200
    for name, (_, _, status) in attacks.items():
        assert {one.result().status_code for one in sent[name]} == {status}, name
    assert health(service)["busy"] == 0


def test_pages_of_others_are_not_answered_and_every_answer_has_one_type(service):
    for path in ("", "model", "health", "none", "-/routes"):  # the last is the proxy's own
        answer = requests.get(f"{service}/{path}", timeout=60)
        assert answer.headers["x-content-type-options"] == "nosniff", path
    for headers, status in (
        ({"Host": "evil.example"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": service}, 200),
    ):
        headers["Content-Type"] = "image/png"
        answer = requests.post(f"{service}/segment", PHOTO, headers=headers, timeout=60)
        assert answer.status_code == status, headers
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_what_cannot_be_served_is_said_before_anything_starts(model, tmp_path):
    from pipelines.config import UserError
    from pipelines.serve import app, check_port

    assert app({"model": str(model), "segment.steps": "3"}) is not None
    with pytest.raises(ValueError, match="no SemFlow model"):
        app({"model": str(tmp_path)})
    with pytest.raises(ValueError, match="could turn class"):
        app({"model": str(model), "perturbation.amplitude": "0.9"})
    with pytest.raises(ValueError, match="no settings at"):
        app({"model": str(model), "settings": str(tmp_path / "none.json")})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="--port"):
            check_port("127.0.0.1", taken.getsockname()[1])


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking",
                  "--disable-component-update", "--no-first-run"],
        )  # fmt: skip
        yield browser
        browser.close()


@pytest.fixture
def page(browser, service):
    page = browser.new_page()
    page.set_default_timeout(30_000)
    page.said, page.asked = [], []
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.on("request", lambda request: page.asked.append(request))
    page.goto(service)
    page.wait_for_selector("#classes input")
    yield page
    page.close()


def width_of(page, selector):
    image = page.wait_for_selector(f"{selector}[src^='data:image/png']")
    return image.evaluate("image => image.decode().then(() => image.naturalWidth)")


def test_the_page_segments_a_photo_and_synthesizes_what_is_painted(page, service):
    dropped = page.evaluate_handle(
        """(text) => {
            const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], "photo.png", { type: "image/png" }));
            return transfer;
        }""",
        base64.b64encode(encoded(scene(5, 40, 60)[0])).decode(),
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": dropped})
    assert width_of(page, "#mask") == 60
    assert page.locator("#shares tr").count() >= 1
    page.fill("#opacity", "80")
    assert page.evaluate("document.querySelector('#over').style.opacity") == "0.8"
    assert width_of(page, "#over") == 60
    page.check("#unsure")
    assert width_of(page, "#over") == 48  # the margin has the model's size

    page.get_by_label("tree", exact=True).check()
    page.fill("#brush", "8")
    box = page.locator("#canvas").bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 2, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, middle, steps=3)
    page.mouse.up()
    page.focus("#canvas")
    for key in ("Shift+ArrowDown", "Shift+ArrowDown", "Space"):
        page.keyboard.press(key)
    page.fill("#samples", "2")
    page.click("#synthesize")
    assert width_of(page, "#images img") == 48
    assert page.locator("#images figcaption").all_inner_texts() == ["seed 0", "seed 1"]

    mask = page.evaluate("greyPNG().then((file) => file.bytes()).then((all) => all.toBase64())")
    mask = Image.open(io.BytesIO(base64.b64decode(mask)))  # what was sent
    assert (mask.mode, mask.size) == ("L", (48, 32))
    ids = np.asarray(mask)
    assert (ids[16, :24] == 2).all()  # painted by mouse
    assert ids[22, 24] == 2  # by the keys, 2 x 3 below the middle
    assert (ids[:, 40:] == 0).all()
    assert not page.said
    assert all(one.url.startswith((service, "data:", f"blob:{service}")) for one in page.asked)


def test_the_page_says_what_is_wrong_in_sentences(page):
    page.set_input_files(
        "#photo", {"name": "notes.png", "mimeType": "image/png", "buffer": b"no photo"}
    )
    page.wait_for_selector("#error:not(:empty)")
    assert page.inner_text("#error").startswith("The file is no PNG or JPEG or WEBP image")
    page.set_input_files("#photo", {"name": "a.png", "mimeType": "image/png", "buffer": PHOTO})
    assert width_of(page, "#mask") == 64
    assert page.inner_text("#error") == ""


def test_the_page_needs_no_other_file():
    text = (Path(__file__).parents[2] / "pipelines/serving/serve.html").read_text()
    for word in ("http://", "https://", "src=", "@import", "url("):
        assert word not in text
