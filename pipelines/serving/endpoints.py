"""The service's web application: what may be asked of an endpoint, and errors as JSON.

Every error is ``{"error": "..."}``, a sentence that says what to do.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from pipelines.serving.guard import NOSNIFF, Guard
from pipelines.serving.refused import Refused
from semflow.masks.given import MasksAre

LARGEST_SEED = 2**53 - 1
"""Whole in JSON, and in a browser's numbers."""


class SegmentQuery(BaseModel, extra="forbid"):
    overlay: float = Field(0.5, ge=0, le=1, allow_inf_nan=False)
    """Opacity of the mask over the photo, in JSON; 0 leaves that picture out."""
    confidence: bool = False
    """Whether JSON has each pixel's margin too, 8-bit grey, at the size that the model saw."""


class SynthesizeQuery(BaseModel, extra="forbid"):
    seed: int = Field(0, ge=0, le=LARGEST_SEED)
    """Image n has seed + n: each can be made again alone."""
    samples: int = Field(1, ge=1)
    masks_are: MasksAre | None = None
    """What the values of the mask are; None is as the service was told."""


async def _refused(request: Request, error: Refused) -> JSONResponse:
    headers = {"Retry-After": "1"} if error.status == 503 else None
    return JSONResponse({"error": error.reason}, error.status, headers)


async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
    reasons = []
    for one in error.errors():
        name = one["loc"][-1]
        if one["type"] == "extra_forbidden":
            reasons.append(f"there is no query value {str(name)[:80]!r}")
        else:
            reasons.append(f"{name}={str(one.get('input'))[:80]!r}: {one['msg']}")
    return JSONResponse({"error": "; ".join(reasons)}, 400)


async def _no_such(request: Request, error: HTTPException) -> JSONResponse:
    asked = f"{request.method} {request.url.path[:80]}"
    reason = (
        f"{asked}: {error.detail}. There are GET /, /model and /health, POST /segment and "
        "/synthesize"
    )
    return JSONResponse({"error": reason}, error.status_code, error.headers)


async def _failed(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse(
        {"error": "the service failed at this request, which its log explains; others go on"},
        500,
        NOSNIFF,  # here no guard sees the answer
    )


def wants_json(request: Request) -> bool:
    return "application/json" in request.headers.get("accept", "").lower()


def application(hosts: Sequence[str] = ()) -> FastAPI:
    """An application without endpoints, which has the names ``hosts`` beside the loopback's."""
    return FastAPI(
        title="SemFlow",
        docs_url=None,  # their pages load from other hosts
        redoc_url=None,
        openapi_url=None,
        middleware=[Middleware(Guard, hosts)],
        exception_handlers={
            Refused: _refused,
            RequestValidationError: _invalid,
            HTTPException: _no_such,
            Exception: _failed,
        },
    )
