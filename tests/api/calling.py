"""Calling the API in tests: tokens, callers, and what must hold of an answer."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from dataclasses import dataclass, field
from typing import Any

import jwt
from flask.testing import FlaskClient
from redis import Redis
from werkzeug.test import TestResponse

from engine.engine import Engine
from tests.conftest import SECRETS

SECRET = SECRETS["STOCKADE_JWT_SECRET"]


def token(sub: str, scope: str, **claims: Any) -> str:
    """A token signed with the tests' secret. A claim given as None is left out."""
    given = {"sub": sub, "scope": scope, "exp": int(time.time()) + 600} | claims
    return jwt.encode({name: value for name, value in given.items() if value is not None}, SECRET, algorithm="HS256")


def forged(header: dict[str, Any], claims: Any, secret: bytes = SECRET.encode(), digest: Any = hashlib.sha256) -> str:
    """A token made by hand, for what PyJWT refuses to make."""
    parts = [_base64(json.dumps(part).encode()) for part in (header, claims)]
    signature = b"" if header.get("alg") == "none" else hmac.digest(secret, ".".join(parts).encode(), digest)
    return ".".join([*parts, _base64(signature)])


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signature(body: bytes, *, age_s: float = 0, secret: str = SECRETS["STOCKADE_WEBHOOK_SECRET"]) -> str:
    """The header Stockade-Signature for a body that was signed `age_s` seconds ago."""
    signed_s = int(time.time() - age_s)
    return f"t={signed_s},v1={hmac.digest(secret.encode(), f'{signed_s}.'.encode() + body, 'sha256').hex()}"


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


@dataclass(frozen=True)
class Caller:
    """Somebody who sends requests, always with the same headers."""

    client: FlaskClient
    headers: dict[str, str] = field(default_factory=dict)

    def send(self, method: str, path: str, *, key: str | None = None, **options: Any) -> TestResponse:
        """Send a request; `key` is its Idempotency-Key, the other options are those of Flask's test client."""
        headers = self.headers | dict(options.pop("headers", {}))
        if key is not None:
            headers["Idempotency-Key"] = key
        return self.client.open(path, method=method, headers=headers, **options)

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.send("GET", path, **options)

    def post(self, path: str, json: Any = None, **options: Any) -> TestResponse:
        return self.send("POST", path, json=json, **options)

    def put(self, path: str, json: Any = None, **options: Any) -> TestResponse:
        return self.send("PUT", path, json=json, **options)

    def delete(self, path: str, **options: Any) -> TestResponse:
        return self.send("DELETE", path, **options)

    def reserve(self, *lines: tuple[str, int], **more: Any) -> dict[str, Any]:
        """Reserve, and give the reservation."""
        body = {"lines": [{"sku": sku, "quantity": quantity} for sku, quantity in lines]}
        return answered(self.post("/v1/reservations", body | more), 201)


def answered(response: TestResponse, status: int = 200) -> dict[str, Any]:
    """The JSON of an answer, after a look at what all answers have in common."""
    assert response.status_code == status, response.text
    assert response.content_type == "application/json"
    assert response.headers["X-Request-Id"]
    document: dict[str, Any] = json.loads(response.data)
    return document


def refused(response: TestResponse, status: int, code: str) -> dict[str, Any]:
    """The problem in an answer, after a look at what all problems have in common."""
    assert response.status_code == status, response.text
    assert response.content_type == "application/problem+json"
    assert response.headers["X-Request-Id"]
    problem: dict[str, Any] = json.loads(response.data)
    assert problem["code"] == code
    assert problem["status"] == status
    for name in ("type", "title", "detail"):
        assert isinstance(problem[name], str)
        assert problem[name]
    assert ("Retry-After" in response.headers) == (status in (429, 503))
    assert ("WWW-Authenticate" in response.headers) == (status == 401)
    assert ("errors" in problem) == (code == "validation_failed")
    return problem


def counters(ops: Caller, sku: str) -> tuple[int, int, int, int]:
    """on_hand, available, reserved and allocated of a SKU, as an operator sees them."""
    shown = answered(ops.get(f"/v1/skus/{sku}"))
    return shown["on_hand"], shown["available"], shown["reserved"], shown["allocated"]


def dump(redis: Redis) -> dict[str, Any]:
    """Everything in Redis, with the time at which each key ends."""
    untyped: Any = redis
    readers = {
        "hash": untyped.hgetall,
        "string": untyped.get,
        "stream": untyped.xrange,
        "zset": lambda key: untyped.zrange(key, 0, -1, withscores=True),
    }
    return {
        key: (readers[untyped.type(key)](key), untyped.pexpiretime(key))
        for key in sorted(untyped.scan_iter(count=1000))
    }


def run_out(engine: Engine, reservation_id: str, *skus: str) -> None:
    """Move a hold's deadline into the past, as if nobody had swept since."""
    redis, keys = engine.store.redis, engine.store.keys
    past_ms = engine.store.now_ms() - 1
    redis.hset(keys.reservation(reservation_id), "deadline_ms", past_ms)
    redis.zadd(keys.deadlines, {reservation_id: past_ms})
    for sku in skus:
        redis.hset(keys.sku(sku), "next_release_ms", past_ms)
