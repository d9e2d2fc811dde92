"""What many would pick instead: the same script, called from FastAPI on uvloop with redis.asyncio and pydantic.

It takes the same body and gives the same answer, and leaves out what the service does besides: no token is looked at,
no idempotency key, no fingerprint, no certified Redis, no expiry on demand. As fast as it gets: httptools, hiredis, one
connection for each request under way, the script by its hash, and an answer that pydantic writes itself.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Response
from pydantic import BaseModel, Field
from redis.asyncio import Redis

from engine.keys import Keys


class Line(BaseModel):
    sku: str = Field(pattern=r"^[A-Za-z0-9._:-]{1,64}$")
    quantity: int = Field(ge=1, le=1_000_000)


class ReservationRequest(BaseModel):
    lines: list[Line] = Field(min_length=1, max_length=200)
    hold_seconds: int = Field(default=900, ge=1, le=900)


class Reservation(BaseModel):
    id: str
    state: str
    lines: list[Line]
    user: str
    created_at: datetime
    expires_at: datetime


KEYS = Keys()
SOURCE = files("lua").joinpath("reserve.lua").read_text()
HASH = hashlib.sha1(SOURCE.encode(), usedforsecurity=False).hexdigest()

redis: Any = Redis.from_url(os.environ["STOCKADE_REDIS_URL"], decode_responses=True)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    await redis.script_load(SOURCE)
    yield


app = FastAPI(openapi_url=None, lifespan=lifespan)


@app.post("/v1/reservations", response_model=None)
async def reserve(asked: ReservationRequest) -> Response:
    made_id, user, skus = secrets.token_hex(11), "user-0000", [line.sku for line in asked.lines]
    keys = [KEYS.meta, KEYS.ledger, *KEYS.hold(made_id), *KEYS.skus_and_buyers(skus)]
    words: list[str | int] = [made_id, user, user, secrets.token_hex(11), asked.hold_seconds * 1000, "", "", "", 0, 1]
    for line in asked.lines:
        words += [line.sku, line.quantity]
    status, *values = await redis.evalsha(HASH, len(keys), *keys, *words)
    if status != "reserved":
        return Response(status_code=409)
    made = Reservation(
        id=made_id,
        state="reserved",
        lines=asked.lines,
        user=user,
        created_at=datetime.fromtimestamp(values[0] / 1000, UTC),
        expires_at=datetime.fromtimestamp(values[1] / 1000, UTC),
    )
    return Response(made.model_dump_json(), 201, media_type="application/json")
