"""A replica of the service: one model, two directions, batches formed from concurrent requests.

The endpoints are a FastAPI application that Ray Serve runs. Pictures are decoded and encoded in
processes beside it, which can be ended; the model has a thread of its own, where it computes one
batch at a time, of either direction.
"""

from __future__ import annotations

import asyncio
import base64
import os
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from fastapi import FastAPI, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from ray import serve

from pipelines import config
from pipelines.corpora.pixels import BadInput, Pixels
from pipelines.inference.masks import MaskReader
from pipelines.inference.predictors import Predictor, Segmenter, Synthesizer, load_model
from pipelines.inference.products import rows_of
from pipelines.inference.settings import model_fingerprint, read_defaults, read_model_index
from pipelines.serving import endpoints, uploads
from pipelines.serving.config import ServiceConfig, service_reader
from pipelines.serving.decoding import jobs, pictures
from pipelines.serving.decoding.forms import Upload
from pipelines.serving.decoding.workers import Decoders
from pipelines.serving.endpoints import SegmentQuery, SynthesizeQuery, wants_json
from pipelines.serving.refused import Refused
from pipelines.sharding.job import Row
from semflow import IGNORE, Palette
from semflow.masks.given import MasksAre

PAGE = Path(__file__).with_name("serve.html")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src blob: data:; connect-src 'self'; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
}
STUCK_S, STUCK_TIMES = 60.0, 20
"""Least seconds after which a batch is given up, and how many times what its rows took alone."""


class Device:
    """What both directions compute on, one batch at a time, in a thread of its own."""

    def __init__(self) -> None:
        self.lock, self.free = asyncio.Lock(), asyncio.Event()
        self.thread = ThreadPoolExecutor(1, "model")  # the loop's own are for whoever needs one
        self.patience = STUCK_S
        """Seconds after which a batch is taken for one that never ends."""
        self.since: float | None = None
        """When the batch that is computed began."""
        self.free.set()

    def check(self) -> None:
        """See that what is computed may still end.

        Raises:
            RuntimeError: when it has taken longer than ever anything should.
        """
        taken = 0.0 if self.since is None else time.monotonic() - self.since
        if taken > self.patience:
            raise RuntimeError(f"the model has computed one batch for {taken:.0f} seconds")


class Direction:
    """One way of the model: single rows in, computed together with those of other requests."""

    def __init__(self, predictor: Predictor, device: Device, cfg: ServiceConfig) -> None:
        """Batch for ``predictor``; whoever holds the lock of ``device`` computes."""
        self.predictor, self.device, self.max_batch = predictor, device, cfg.max_batch
        self.rows = self.batches = 0
        self._batched = serve.batch(
            max_batch_size=cfg.max_batch, batch_wait_timeout_s=cfg.batch_wait_s
        )(self._compute)

    async def compute(self, row: Row) -> Row:
        # Serve closes a batch when its wait is over, though an earlier one may still compute: at
        # full load these were of two rows. So rows gather here until they can be computed.
        await self.device.free.wait()
        result: Row = await self._batched(row)
        return result

    async def _compute(self, rows: list[Row]) -> list[Row]:
        columns: dict[str, Any] = {key: [row[key] for row in rows] for key in rows[0]}
        columns["error"] = [""] * len(rows)
        async with self.device.lock:
            self.device.free.clear()
            self.device.since = time.monotonic()
            try:
                loop = asyncio.get_running_loop()
                result = await loop.run_in_executor(self.device.thread, self._predict, columns)
            finally:
                self.device.since = None
                self.device.free.set()
            self.rows, self.batches = self.rows + len(rows), self.batches + 1
        return rows_of(result)

    def _predict(self, columns: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = self.predictor(columns)  # type: ignore[operator]
        return result

    def warm(self, row: Row) -> None:
        """Compute once, so that the first request does not wait for what only that takes."""
        start = time.monotonic()
        self._predict({key: [value] for key, value in row.items()} | {"error": [""]})
        taken = STUCK_TIMES * self.max_batch * (time.monotonic() - start)
        self.device.patience = max(self.device.patience, taken)

    def counts(self) -> dict[str, int]:
        return {"rows": self.rows, "batches": self.batches}


class Service:
    """The model with its endpoints."""

    def __init__(self, cfg: ServiceConfig) -> None:
        """Load the model and check what was chosen for it.

        Raises:
            ValueError: when there is no model, or the choices do not fit it.
        """
        self.cfg = cfg
        cores = os.cpu_count() or 1
        self.decoders = Decoders(cores, cfg.max_pixels, cfg.max_bytes)  # they start meanwhile
        torch.set_num_threads(cfg.threads or max(1, cores // cfg.replicas))
        index = read_model_index(cfg.model)
        self.palette = Palette.from_json(index["palette"])
        self.defaults = read_defaults(index, cfg.settings)
        self.reader = service_reader(cfg, self.palette, self.defaults)
        solvers = (
            cfg.segment.over(self.defaults.segment),
            cfg.synthesize.over(self.defaults.synthesize),
        )
        perturbation = cfg.perturbation.over(self.defaults.perturbation)
        perturbation.check(self.palette)
        loaded, self.device = load_model(cfg.model, cfg.options), Device()
        window = cfg.window or self.defaults.window
        self.segmenter = Direction(
            Segmenter(loaded, cfg.options, solvers[0], window), self.device, cfg
        )
        self.synthesizer = Direction(
            Synthesizer(loaded, cfg.options, solvers[1], perturbation), self.device, cfg
        )
        size = self.defaults.height, self.defaults.width
        self.segmenter.warm({"pixels": np.zeros((*size, 3), np.uint8)})
        self.synthesizer.warm({"ids": np.zeros(size, np.uint8), "seed": 0})
        self.busy = 0
        self.colours = self.palette.png_palette()
        self.about: dict[str, Any] = {
            "classes": [
                {"id": number, "name": name, "colour": "#" + bytes(colour).hex()}
                for number, (name, colour) in enumerate(
                    zip(self.palette.names, self.palette.colours, strict=True)
                )
            ],
            "no_class": IGNORE,
            "masks_are": cfg.masks_are,
            "class_map": self.reader.given.corpus and self.reader.given.corpus.to_json(),
            "width": self.defaults.width,
            "height": self.defaults.height,
            "fingerprint": model_fingerprint(index),
            "segment": config.to_dict(solvers[0]),
            "window": window,
            "synthesize": config.to_dict(solvers[1]),
            "perturbation": config.to_dict(perturbation),
            "limits": {
                key: getattr(cfg, key) for key in ("max_bytes", "max_pixels", "max_samples")
            },
        }

    async def page(self) -> Response:
        """The page for people."""
        return HTMLResponse(PAGE.read_text(), headers=HEADERS)

    async def model(self) -> Response:
        """What the model knows and how it is used."""
        return JSONResponse(self.about)

    async def health(self) -> Response:
        """That this replica answers, and what it has computed since it started."""
        try:
            await self.check_health()
        except RuntimeError as error:
            raise Refused(503, f"{error}: it is about to be started again") from error
        directions = {"segment": self.segmenter, "synthesize": self.synthesizer}
        counts = {name: direction.counts() for name, direction in directions.items()}
        return JSONResponse({"ready": True, "busy": self.busy, **counts})

    async def segment(self, request: Request, query: Annotated[SegmentQuery, Query()]) -> Response:
        """A photo to its mask: an index PNG of the photo's size, or JSON with more."""
        as_json = wants_json(request)
        limit, run = self.cfg.max_pixels, self.decoders.run
        async with self.place():
            upload: Upload | None = await self.upload(request, pictures.PHOTO_KINDS)
            info, small = await run(jobs.photo, upload, limit, self.size)
            size = info["width"], info["height"]
            opacity = query.overlay if as_json else 0.0
            if not opacity:  # its file may be large, and a batch may have to be waited for
                upload = None
            answer = await self.segmenter.compute({"pixels": self.array(small, 3)})
            _, mask = await run(jobs.index_png, answer["ids"], size, self.colours)
            if not as_json:
                headers = {"Mean-Margin": f"{answer['margin']:.4f}"}
                return Response(mask, media_type="image/png", headers=headers)
            result = self.described(answer, size) | {"mask": as_text(mask)}
            if query.confidence:
                _, margins = await run(jobs.picture_png, answer["confidence"])
                result["confidence"] = as_text(margins)
            if opacity:
                _, over = await run(
                    jobs.overlay_png, upload, limit, answer["ids"], self.colours, opacity
                )
                result["overlay"] = as_text(over)
        return JSONResponse(result)

    async def synthesize(
        self, request: Request, query: Annotated[SynthesizeQuery, Query()]
    ) -> Response:
        """A mask to an image of it, or to several as JSON; at the model's size."""
        if query.samples > self.cfg.max_samples:
            raise Refused(
                400, f"samples={query.samples}: at most {self.cfg.max_samples} in one request"
            )
        async with self.place():
            reader = self.reader_for(query.masks_are)
            upload = await self.upload(request, pictures.MASK_KINDS)
            info, data = await self.decoders.run(
                jobs.mask, upload, self.cfg.max_pixels, self.size, reader.takes_colours
            )
            ids = await asyncio.to_thread(read_mask, reader, data, info["above"])
            seeds = [query.seed + number for number in range(query.samples)]
            rows = await asyncio.gather(
                *(self.synthesizer.compute({"ids": ids, "seed": seed}) for seed in seeds)
            )
            images = [(await self.decoders.run(jobs.picture_png, row["pixels"]))[1] for row in rows]
        if len(images) == 1 and not wants_json(request):
            return Response(images[0], media_type="image/png", headers={"Seed": str(seeds[0])})
        pairs = zip(seeds, images, strict=True)
        return JSONResponse(
            {
                "width": self.defaults.width,
                "height": self.defaults.height,
                "images": [{"seed": seed, "image": as_text(image)} for seed, image in pairs],
            }
        )

    async def check_health(self) -> None:
        """What Serve asks now and then, in the loop that answers requests.

        Serve starts a replica again which does not answer this, as where the loop hangs, or where
        it raises.

        Raises:
            RuntimeError: when the model hangs.
        """
        self.device.check()

    def __del__(self) -> None:
        if decoders := getattr(self, "decoders", None):  # there may have been no model
            decoders.close()

    def __serve_build_asgi_app__(self) -> FastAPI:
        """What Serve asks for when this object is made."""
        web = endpoints.application(self.cfg.allow_host)
        for method, path, endpoint in (
            ("GET", "/", self.page),
            ("GET", "/model", self.model),
            ("GET", "/health", self.health),
            ("POST", "/segment", self.segment),
            ("POST", "/synthesize", self.synthesize),
        ):
            web.add_api_route(path, endpoint, methods=[method], response_model=None)
        return web

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """One of the requests that are held at once.

        Raises:
            Refused: 503 when there is none left.
        """
        if self.busy >= self.cfg.max_requests:
            raise Refused(503, f"{self.busy} requests are waiting here: try again in a second")
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1

    async def upload(self, request: Request, kinds: tuple[str, ...]) -> Upload:
        return await uploads.read_upload(
            request, kinds, max_bytes=self.cfg.max_bytes, timeout_s=self.cfg.body_timeout_s
        )

    @property
    def size(self) -> tuple[int, int]:
        """Width and height that the model sees."""
        return self.defaults.width, self.defaults.height

    def array(self, data: bytes, *channels: int) -> Pixels:
        """What a decoder made at the model's size: uint8 ``[H, W, *channels]``."""
        return np.frombuffer(data, np.uint8).reshape(self.size[::-1] + channels).copy()

    def reader_for(self, masks_are: MasksAre | None) -> MaskReader:
        """The reader of a mask of which a request says what it is, or nothing.

        Raises:
            Refused: 400 for a corpus's values that the model does not know.
        """
        if masks_are is None:
            return self.reader
        try:
            given = replace(self.reader.given, masks_are=masks_are)
        except ValueError as error:
            raise Refused(400, str(error)) from error
        return replace(self.reader, given=given)

    def described(self, answer: Row, size: tuple[int, int]) -> dict[str, Any]:
        """A segmentation in figures; shares are those of the model's pixels, as label.py's are."""
        counts = np.bincount(answer["ids"].ravel(), minlength=len(self.palette))
        shares = counts[: len(self.palette)] / answer["ids"].size
        classes = [
            entry | {"share": float(share)}
            for entry, share in zip(self.about["classes"], shares, strict=True)
        ]
        width, height = size
        margin = float(answer["margin"])
        return {"width": width, "height": height, "mean_margin": margin, "classes": classes}


def read_mask(reader: MaskReader, data: bytes, above: int) -> Pixels:
    """What a decoder made of a mask as class numbers uint8 ``[H, W]``, without its rows ``above``.

    Raises:
        Refused: 400 for values that are not taken, and for what could mean two things.
    """
    try:
        return reader.read(data)[above:]
    except BadInput as error:
        raise Refused(400, f"the mask cannot be used: {error}") from error


def as_text(data: bytes) -> str:
    return base64.b64encode(data).decode()


deployment = serve.deployment(name="model")(serve.ingress()(Service))
