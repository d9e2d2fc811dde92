"""Who may do what to ann's things: every route, every kind of caller."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from redis import Redis

from tests.api.calling import Caller, answered, bearer, dump, refused, token

UNKNOWN_ID = "0123456789ABCDEFabcdef"
LINES = {"lines": [{"sku": "tee", "quantity": 1}]}
BATCH = {"reservations": [LINES | {"user": "ann"}]}
EVENT = {"id": "e", "type": "payment.succeeded", "reservation_id": UNKNOWN_ID, "payment_id": "p"}
ADJUSTMENT = {"delta": 1, "reason": "x"}
SELLING = {"paused": False, "reason": "x"}

CALLERS: dict[str, Callable[[], dict[str, str]]] = {
    "guest": dict,
    "owner": lambda: bearer(token("ann", "customer")),
    "other customer": lambda: bearer(token("bob", "customer")),
    "storefront for the owner": lambda: bearer(token("shop", "storefront")) | {"Stockade-User": "ann"},
    "storefront for another": lambda: bearer(token("shop", "storefront")) | {"Stockade-User": "bob"},
    "payments": lambda: bearer(token("psp", "payments")),
    "ops": lambda: bearer(token("olga", "ops")),
    "expired token": lambda: bearer(token("ann", "customer storefront payments ops", exp=1_000_000_000)),
}

# Expected statuses, in the order of CALLERS.
# Stockade-User is refused where nobody is acted for.
PUBLIC = [200, 200, 200, 400, 400, 200, 200, 200]
SIGNED = [401, 401, 401, 401, 401, 401, 401, 401]
OPS_ONLY = [401, 403, 403, 403, 403, 403, 200, 401]
PAYMENTS_ONLY = [401, 403, 403, 403, 403, 200, 403, 401]
STOREFRONTS_ONLY = [401, 403, 403, 400, 400, 403, 403, 401]
BUYERS_OWN = [401, 200, 404, 200, 404, 403, 403, 401]
BUYERS_NEW = [401, 201, 201, 201, 201, 403, 403, 401]
BUYERS_OWN_NEW = [401, 201, 404, 201, 404, 403, 403, 401]
OWNERS_AND_OPS = [401, 200, 404, 200, 404, 403, 200, 401]
OWN_CART = [404, 200, 404, 200, 404, 403, 403, 401]
OPEN_CART = [200, 200, 200, 200, 200, 403, 403, 401]

ROWS: list[tuple[str, str, str, Any, list[int]]] = [
    ("PUT", "/v1/skus/<sku>", "/v1/skus/tee", {"name": "x"}, OPS_ONLY),
    ("GET", "/v1/skus/<sku>", "/v1/skus/tee", None, OPS_ONLY),
    ("GET", "/v1/skus", "/v1/skus", None, OPS_ONLY),
    ("POST", "/v1/skus/<sku>/adjustments", "/v1/skus/tee/adjustments", ADJUSTMENT, OPS_ONLY),
    ("GET", "/v1/availability/<sku>", "/v1/availability/tee", None, PUBLIC),
    ("GET", "/v1/availability", "/v1/availability?sku=tee", None, PUBLIC),
    ("POST", "/v1/carts", "/v1/carts", None, [201, 201, 201, 201, 201, 403, 403, 401]),
    ("GET", "/v1/carts/<id>", "/v1/carts/{cart}", None, OWN_CART),
    ("GET", "/v1/carts/<id>", "/v1/carts/{open}", None, OPEN_CART),
    ("PUT", "/v1/carts/<id>", "/v1/carts/{cart}", {"lines": [{"sku": "tee", "quantity": 1}]}, OWN_CART),
    ("PUT", "/v1/carts/<id>", "/v1/carts/{open}", {"lines": [{"sku": "tee", "quantity": 1}]}, OPEN_CART),
    ("PUT", "/v1/carts/<id>/lines/<sku>", "/v1/carts/{cart}/lines/tee", {"quantity": 1}, OWN_CART),
    ("PUT", "/v1/carts/<id>/lines/<sku>", "/v1/carts/{open}/lines/tee", {"quantity": 1}, OPEN_CART),
    ("DELETE", "/v1/carts/<id>/lines/<sku>", "/v1/carts/{cart}/lines/tee", None, OWN_CART),
    ("DELETE", "/v1/carts/<id>/lines/<sku>", "/v1/carts/{open}/lines/tee", None, OPEN_CART),
    ("DELETE", "/v1/carts/<id>", "/v1/carts/{cart}", None, [404, 204, 404, 204, 404, 403, 403, 401]),
    ("DELETE", "/v1/carts/<id>", "/v1/carts/{open}", None, [204, 204, 204, 204, 204, 403, 403, 401]),
    ("POST", "/v1/carts/<id>/checkout", "/v1/carts/{cart}/checkout", None, BUYERS_OWN_NEW),
    ("POST", "/v1/carts/<id>/checkout", "/v1/carts/{open}/checkout", None, BUYERS_NEW),
    ("POST", "/v1/reservations", "/v1/reservations", LINES, BUYERS_NEW),
    ("POST", "/v1/reservations/batch", "/v1/reservations/batch", BATCH, STOREFRONTS_ONLY),
    ("GET", "/v1/reservations/<id>", "/v1/reservations/{held}", None, BUYERS_OWN),
    ("POST", "/v1/reservations/<id>/extend", "/v1/reservations/{held}/extend", {"hold_seconds": 9}, BUYERS_OWN),
    ("DELETE", "/v1/reservations/<id>", "/v1/reservations/{held}", None, BUYERS_OWN),
    ("POST", "/v1/reservations/<id>/commit", "/v1/reservations/{held}/commit", {"payment_id": "q"}, PAYMENTS_ONLY),
    ("POST", "/v1/payments/webhook", "/v1/payments/webhook", EVENT, SIGNED),
    ("GET", "/v1/orders/<id>", "/v1/orders/{order}", None, OWNERS_AND_OPS),
    ("POST", "/v1/orders/<id>/fulfil", "/v1/orders/{order}/fulfil", None, OPS_ONLY),
    ("POST", "/v1/orders/<id>/cancel", "/v1/orders/{order}/cancel", {"reason": "x"}, OPS_ONLY),
    ("GET", "/v1/overview", "/v1/overview", None, OPS_ONLY),
    ("GET", "/v1/selling", "/v1/selling", None, OPS_ONLY),
    ("PUT", "/v1/selling", "/v1/selling", SELLING, OPS_ONLY),
    ("GET", "/v1/audit", "/v1/audit", None, OPS_ONLY),
]
"""Method, route, path, body, expected statuses. `{open}` is a guest's cart; the other things are ann's."""

CODES = {400: "bad_request", 401: "unauthenticated", 403: "forbidden", 404: "not_found"}


@pytest.fixture
def things(stocked: Caller, ann: Caller, guest: Caller, payer: Caller) -> dict[str, str]:
    """The ids of what is there, by the name in ROWS."""
    held, order = ann.reserve(("tee", 1))["id"], ann.reserve(("tee", 1))["id"]
    answered(payer.post(f"/v1/reservations/{order}/commit", {"payment_id": "p"}))
    cart, open_cart = (answered(caller.post("/v1/carts"), 201)["id"] for caller in (ann, guest))
    answered(ann.put(f"/v1/carts/{cart}/lines/tee", {"quantity": 1}))
    answered(guest.put(f"/v1/carts/{open_cart}/lines/tee", {"quantity": 1}))
    return {"held": held, "order": order, "cart": cart, "open": open_cart}


@pytest.mark.parametrize("who", CALLERS)
@pytest.mark.parametrize(("method", "route", "path", "body", "statuses"), ROWS, ids=lambda value: str(value)[:50])
def test_who_may_do_what(
    client: FlaskClient,
    things: dict[str, str],
    fake_redis: Redis,
    method: str,
    route: str,
    path: str,
    body: Any,
    statuses: list[int],
    who: str,
) -> None:
    caller, expected = Caller(client, CALLERS[who]()), statuses[list(CALLERS).index(who)]
    before = dump(fake_redis)
    response = caller.send(method, path.format(**things), json=body)
    assert response.status_code == expected, response.text
    if expected < 300:
        return
    problem = refused(response, expected, CODES[expected])
    assert dump(fake_redis) == before
    nowhere = caller.send(method, path.format(**dict.fromkeys(things, UNKNOWN_ID)), json=body)
    assert problem == json.loads(nowhere.data)


def test_the_table_has_every_route(client: FlaskClient) -> None:
    served = {
        (method, rule.rule)
        for rule in client.application.url_map.iter_rules()
        if rule.rule.startswith("/v1")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert served == {(method, route) for method, route, *_ in ROWS}
    assert all(len(statuses) == len(CALLERS) for *_, statuses in ROWS)


@pytest.mark.parametrize(
    "scope", ["", "admin", "OPS customers paymentsx storefronts", "customer,storefront,payments,ops"]
)
@pytest.mark.parametrize(("method", "route", "path", "body", "statuses"), ROWS, ids=lambda value: str(value)[:50])
def test_a_token_with_no_scope_that_is_known_opens_what_is_public_and_nothing_else(
    client: FlaskClient,
    things: dict[str, str],
    fake_redis: Redis,
    method: str,
    route: str,
    path: str,
    body: Any,
    statuses: list[int],
    scope: str,
) -> None:
    caller, before = Caller(client, bearer(token("ann", scope))), dump(fake_redis)
    response = caller.send(method, path.format(**things), json=body)
    if statuses is PUBLIC:
        answered(response)
        return
    expected = 401 if statuses is SIGNED else 403
    refused(response, expected, CODES[expected])
    assert dump(fake_redis) == before


OPEN = {"/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/console", "/console/<name>"}
"""What is open to anybody outside /v1, beside the pages under /docs."""


def test_what_stands_outside_v1_is_known_only_read_and_tells_of_nobody(
    client: FlaskClient, things: dict[str, str], guest: Caller
) -> None:
    rules = [rule for rule in client.application.url_map.iter_rules() if not rule.rule.startswith("/v1")]
    assert {rule.rule for rule in rules if not rule.rule.startswith("/docs")} == OPEN
    assert all((rule.methods or set()) <= {"GET", "HEAD", "OPTIONS"} for rule in rules)
    secret = [*things.values(), "ann", "psp", "olga"]
    for path in (*(OPEN - {"/console/<name>", "/readyz"}), "/readyz", "/console/page.js"):
        text = guest.get(path).text
        assert text
        assert [word for word in secret if f'"{word}"' in text or f"{word} " in text.replace("\n", " ").split()] == []
