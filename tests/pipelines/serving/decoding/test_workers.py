"""Decoders: what they answer, and what ends when files cost more than they should."""

import asyncio
import io
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from pipelines.serving.decoding import jobs, workers
from pipelines.serving.decoding.forms import Upload
from pipelines.serving.decoding.workers import Decoders
from pipelines.serving.refused import Refused
from tests.pictures import bomb, encoded, many_scans, padded, scene

MAX_PIXELS, MAX_BYTES = 50_000_000, 20_000_000
SIZE = (48, 32)
PHOTO = Upload(encoded(scene(0)[0]))
PALETTE = [0, 0, 0, 255, 0, 0, 0, 255, 0]
BESIDE_S = 2.0
"""Of each processor until a well-formed request is answered: its wait where nothing else runs."""


@pytest.fixture(scope="module")
def run():
    """A loop for all tests here, as a service has one for all requests."""
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture(scope="module")
def decoders(run):
    found = Decoders(2, MAX_PIXELS, MAX_BYTES)
    run(found.run(jobs.photo, PHOTO, MAX_PIXELS, SIZE))  # they have started
    yield found
    found.close()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(workers, "SLOW_S", 0.2)


async def send(decoders, upload):
    """What becomes of a photo: its status."""
    try:
        await decoders.run(jobs.photo, upload, MAX_PIXELS, SIZE)
    except Refused as refused:
        return refused.status
    return 200


def started(lane):
    """Processes of a lane, as they are now."""
    found = []
    for decoder in lane.decoders:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(decoder._process.pid)
            found += [process, *process.children()]
    return found


def held(decoders):
    """Bytes in memory that are the decoders' own."""
    found = 0
    for process in started(decoders.quick) + started(decoders.slow):
        with suppress(psutil.NoSuchProcess):
            memory = process.memory_info()
            found += memory.rss - memory.shared
    return found


def taken(lane):
    """Seconds of a processor that a lane took, children that are no more among them."""
    found = 0.0
    for process in started(lane):
        with suppress(psutil.NoSuchProcess):
            found += sum(process.cpu_times()[:4])
    return found


def form(body=PHOTO.body, kind="", parts=b""):
    head = b'Content-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    text = parts + b"--x\r\n" + head + body + b"\r\n--x--\r\n"
    return Upload(text, "multipart/form-data; boundary=x" + kind)


FIELD = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n'


def test_jobs_answer_what_their_functions_do(run, decoders):
    async def main():
        image, ids = scene(0)
        info, small = await decoders.run(jobs.photo, form(), MAX_PIXELS, SIZE)
        assert info == {"width": 64, "height": 48}
        expected = Image.fromarray(image).resize(SIZE, Image.Resampling.BICUBIC)
        assert small == np.asarray(expected).tobytes()
        info, found = await decoders.run(jobs.mask, Upload(encoded(ids)), MAX_PIXELS, SIZE, False)
        small_ids = Image.fromarray(ids).resize(SIZE, Image.Resampling.NEAREST)
        png = np.asarray(Image.open(io.BytesIO(found)))
        assert np.array_equal(png[info["above"] :], small_ids)
        assert set(png[: info["above"]].flat) == set(ids.flat)
        _, mask = await decoders.run(jobs.index_png, ids, (128, 96), PALETTE)
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(mask)))[::2, ::2], ids)
        with pytest.raises(RuntimeError, match="index_png: "):
            await decoders.run(jobs.index_png, "no ids", SIZE, PALETTE)

    run(main())


def test_a_large_photo_is_decoded_apart_and_its_overlay_has_a_limit(run, decoders):
    side = 2100
    upload = Upload(encoded(np.full((side, side, 3), 200, np.uint8), "JPEG"))
    ids = np.ones((32, 48), np.uint8)

    async def main():
        info, _ = await decoders.run(jobs.photo, upload, MAX_PIXELS, SIZE)
        assert info == {"width": side, "height": side}
        _, over = await decoders.run(jobs.overlay_png, upload, MAX_PIXELS, ids, PALETTE, 0.5)
        picture = Image.open(io.BytesIO(over))
        assert picture.size == (2048, 2048)
        assert np.abs(np.asarray(picture)[9, 9] - np.array([227, 100, 100])).max() <= 1

    run(main())


ATTACKS = {
    "scans": ([Upload(many_scans(2500))] * 6, {413}),
    "padding": ([Upload(padded(5_000_000))] * 8, {413, 200}),
    "rows": ([Upload(bomb(1, 49_000_000)), Upload(bomb(49_000_000, 1))] * 4, {413}),
    "promises": ([Upload(bomb(7000, 7000))] * 4, {400}),
    "punycode": ([form(parts=FIELD + b"a" * 900 + b"\r\n", kind="; charset=punycode")] * 4, {415}),
    "no charset": ([form(kind="; charset=nonsense")] * 4, {415}),
    "long field": ([form(parts=FIELD + b"a" * 3_000_000 + b"\r\n")] * 4, {400}),
    "returns": ([form(b"\r" * 15_000_000)] * 4, {413, 415}),
    "near ends": ([form(b"\r\n--" * 4_000_000)] * 4, {413, 415}),
    "headers": ([form(parts=b"--x\r\n" + b"a: b\r\n" * 2_000_000 + b"\r\n\r\n")] * 4, {400, 413}),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_beside_an_attack_well_formed_requests_are_answered(run, decoders, impatient, name):
    uploads, statuses = ATTACKS[name]
    before = held(decoders)

    async def main():
        attack = [asyncio.ensure_future(send(decoders, one)) for one in uploads]
        await asyncio.sleep(0.05)
        worst, least = 0.0, 5
        while least or not all(one.done() for one in attack):
            least = max(0, least - 1)
            start = taken(decoders.quick)
            assert await send(decoders, PHOTO) == 200
            worst = max(worst, taken(decoders.quick) - start)
            await asyncio.sleep(0.02)
        return worst, await asyncio.gather(*attack)

    worst, found = run(main())
    assert set(found) <= statuses
    assert worst / len(decoders.quick.decoders) < BESIDE_S
    assert held(decoders) - before < 300e6


def test_who_hangs_up_leaves_no_work_behind(run, decoders):
    async def main():
        tasks = [
            asyncio.ensure_future(send(decoders, Upload(many_scans(20_000)))) for _ in range(6)
        ]
        while len(decoders.slow.idle) == len(decoders.slow.decoders):
            await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        large = Upload(encoded(np.zeros((2100, 2100), np.uint8)))  # needs the slow lane, too
        assert await send(decoders, large) == 200
        return taken(decoders.slow)

    assert run(main()) < 8  # of ten that each of the six would take


def test_a_decoder_that_dies_is_started_again(run, decoders):
    for decoder in decoders.quick.decoders:
        os.killpg(decoder._process.pid, 9)
    assert run(send(decoders, PHOTO)) == 200


def test_decoders_hold_no_keys_and_end_with_the_service(run, decoders, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    another = Decoders(1, MAX_PIXELS, MAX_BYTES)
    assert run(send(another, PHOTO)) == 200
    there = started(another.quick) + started(another.slow)
    assert all(b"AWS" not in Path(f"/proc/{one.pid}/environ").read_bytes() for one in there)
    for lane in (another.quick, another.slow):
        for decoder in lane.decoders:
            decoder._process.stdin.close()  # as when the service is killed
    assert not psutil.wait_procs(there, timeout=20)[1]


def test_torch_is_not_needed_to_decode(run, decoders):
    assert run(send(decoders, PHOTO)) == 200
    alive = next(one._process for one in decoders.quick.decoders if one._process.poll() is None)
    maps = Path(f"/proc/{alive.pid}/maps").read_text()
    assert "libtorch" not in maps
    assert "PIL" in maps
