"""What a client sees when things go wrong in here."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask.testing import FlaskClient
from redis import Redis
from redis.exceptions import RedisError, ResponseError

from api.app import create_app
from engine import errors, log
from engine.engine import Engine, build
from engine.store import client as redis_client
from tests.api.calling import Caller, answered, bearer, dump, refused, token
from tests.conftest import settings

RESERVE = {"lines": [{"sku": "tee", "quantity": 1}]}
CALLS: list[tuple[str, str, Any]] = [
    ("PUT", "/v1/skus/tee", {"on_hand": 1}),
    ("GET", "/v1/skus/tee", None),
    ("GET", "/v1/skus", None),
    ("POST", "/v1/skus/tee/adjustments", {"delta": 1, "reason": "x"}),
    ("GET", "/v1/availability/tee", None),
    ("GET", "/v1/availability?sku=tee", None),
    ("POST", "/v1/reservations", RESERVE),
    ("GET", "/v1/reservations/x", None),
    ("POST", "/v1/reservations/x/extend", {"hold_seconds": 1}),
    ("DELETE", "/v1/reservations/x", None),
    ("POST", "/v1/reservations/x/commit", {"payment_id": "p"}),
    ("GET", "/v1/orders/x", None),
    ("POST", "/v1/orders/x/fulfil", None),
    ("POST", "/v1/orders/x/cancel", {"reason": "x"}),
    ("GET", "/v1/audit", None),
    ("GET", "/v1/selling", None),
    ("PUT", "/v1/selling", {"paused": True, "reason": "x"}),
]
CART_CALLS: list[tuple[str, str, Any]] = [
    ("POST", "/v1/carts", None),
    ("GET", "/v1/carts/x", None),
    ("PUT", "/v1/carts/x/lines/tee", {"quantity": 1}),
    ("DELETE", "/v1/carts/x/lines/tee", None),
    ("DELETE", "/v1/carts/x", None),
    ("POST", "/v1/carts/x/checkout", None),
]
"""Carts don't touch stock, so no gate stands before them."""

NO_POSTGRES = {
    "STOCKADE_DATABASE_URL": "postgresql://ann@/stock?host=/nowhere",
    "STOCKADE_DATABASE_TIMEOUT_MS": "100",
}
SECRET_WORDS = "secret-word /srv/stockade redis://10.0.0.7:6379 sqlstate"
every_call = pytest.mark.parametrize(("method", "path", "body"), CALLS)


def anybody(client: FlaskClient) -> Caller:
    return Caller(client, bearer(token("anybody", "customer storefront payments ops")))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(SECRET_WORDS),
        KeyError(SECRET_WORDS),
        AssertionError(["secret-word"]),
        ResponseError(SECRET_WORDS),
        RedisError(SECRET_WORDS),
        errors.Inconsistent(SECRET_WORDS),
        errors.StoreUnavailable(SECRET_WORDS),
        errors.LedgerBroken("ledger_gap", SECRET_WORDS),
        errors.Closed(SECRET_WORDS),
        UnicodeDecodeError("utf-8", b"secret-word", 0, 1, "x"),
        SystemError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_goes_wrong_inside_never_reaches_the_client(
    client: FlaskClient, fake_engine: Engine, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def breaks(*args: object) -> None:
        raise error

    monkeypatch.setattr(fake_engine.stock, "get", breaks)
    monkeypatch.setattr(fake_engine.reservations, "reserve", breaks)
    code = error.code if isinstance(error, errors.EngineError) else "internal_error"
    for response in (
        anybody(client).get("/v1/skus/tee"),
        anybody(client).post("/v1/reservations", RESERVE, key="k"),
    ):
        refused(response, 503 if code in ("store_unavailable", "closed") else 500, code)
        told = response.text + str(response.headers)
        assert not re.search(r"secret-word|Traceback|\.py|/srv|redis:|10\.0\.0\.7|[a-z]Error\b", told)


def test_a_failure_is_logged_in_one_line_with_its_cause(
    client: FlaskClient, fake_engine: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure()
    monkeypatch.setattr(fake_engine.stock, "get", None)
    refused(anybody(client).get("/v1/skus/tee"), 500, "internal_error")
    logged = capsys.readouterr().err
    assert logged.count("\n") == 1
    assert "internal_error" in logged
    assert "TypeError" in logged


@pytest.mark.parametrize(("method", "path", "body"), CALLS + CART_CALLS)
def test_without_redis_every_route_says_so_and_when_to_come_back(method: str, path: str, body: Any) -> None:
    nowhere = settings("unix:///nowhere/redis.sock", **NO_POSTGRES)
    client = create_app(build(nowhere, redis_client(nowhere))).test_client()
    response = anybody(client).send(method, path, json=body)
    problem = refused(response, 503, "store_unavailable")
    assert int(response.headers["Retry-After"]) >= 1
    assert "nowhere" not in response.text
    assert "Idempotency-Key" in problem["detail"]


def test_without_redis_the_process_is_healthy_but_not_ready() -> None:
    nowhere = settings("unix:///nowhere/redis.sock", **NO_POSTGRES)
    client = create_app(build(nowhere, redis_client(nowhere))).test_client()
    answered(client.get("/healthz"))
    document = answered(client.get("/readyz"), 503)
    unknown = {
        "redis": "unavailable",
        "gate": "unknown",
        "postgres": "unavailable",
        "keeper": "unknown",
        "record": "unknown",
        "clock": "unknown",
        "aof": "unknown",
        "snapshot": "unknown",
        "log": "ok",
    }
    assert document["checks"] == unknown


@pytest.mark.parametrize("gate", ["closed", "anything else", None])
@every_call
def test_behind_a_closed_gate_nothing_changes_and_reads_go_on(
    stocked: Caller, ann: Caller, payer: Caller, fake_redis: Redis, method: str, path: str, body: Any, gate: str | None
) -> None:
    paid, held = ann.reserve(("tee", 1))["id"], ann.reserve(("tee", 1))["id"]
    answered(payer.post(f"/v1/reservations/{paid}/commit", {"payment_id": "p"}))
    path = path.replace("orders/x", f"orders/{paid}").replace("reservations/x", f"reservations/{held}")
    if gate:
        fake_redis.hset("stk:{p0}:meta", "gate", gate)
    else:
        fake_redis.delete("stk:{p0}:meta")
    before = dump(fake_redis)
    # The storefront acts for ann, who has the reservation and the order.
    as_ann = {"Stockade-User": "ann"} if path.endswith((held, paid, "/extend")) or path == "/v1/reservations" else {}
    response = anybody(stocked.client).send(method, path, json=body, headers=as_ann)
    if method == "GET":
        answered(response)
    else:
        refused(response, 503, "closed")
        assert int(response.headers["Retry-After"]) >= 1
    assert dump(fake_redis) == before
