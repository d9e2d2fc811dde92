"""A call of every route that succeeds, for tests that walk over all of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.route import ROUTES, Route
from tests.api.calling import Caller, answered, bearer, signature, token

LINE = {"sku": "tee", "quantity": 1}
EVENT = {"id": "e", "type": "payment.failed", "reservation_id": "{held}", "payment_id": "p-9"}


@dataclass(frozen=True)
class Good:
    """`who` sends it; words in braces are ids of things that are there. `other`: another body for the same path.

    `other_path`: where there is no body, another path of this route, or of another one that `who` may call.
    """

    who: str
    body: Any = None
    query: str = ""
    other: Any = None
    other_path: str = ""
    needs_key: bool = False


CALLS: dict[str, Good] = {
    "put_sku": Good("ops", {"on_hand": 20, "name": "first"}, other={"on_hand": 21}),
    "get_sku": Good("ops"),
    "list_skus": Good("ops", query="limit=1"),
    "adjust_sku": Good("ops", {"delta": 1, "reason": "x"}, other={"delta": 2, "reason": "x"}),
    "get_availability": Good("guest"),
    "list_availability": Good("guest", query="sku=tee"),
    "create_cart": Good("ann", {"lines": [LINE]}, other={"lines": [LINE, LINE]}),
    "put_cart": Good("ann", {"lines": [LINE]}, other={"lines": [LINE, LINE]}),
    "get_cart": Good("ann"),
    "put_cart_line": Good("ann", {"quantity": 3}, other={"quantity": 4}),
    "delete_cart_line": Good("ann", other_path="/v1/carts/{cart}/lines/mug"),
    "delete_cart": Good("ann", other_path="/v1/carts/{other_cart}"),
    "check_out_cart": Good("ann", {"hold_seconds": 60}, other={"hold_seconds": 61}),
    "create_reservation": Good("ann", {"lines": [LINE]}, other={"lines": [LINE, LINE]}),
    "create_reservation_batch": Good(
        "shop",
        {"reservations": [{"user": "ann", "lines": [LINE]}]},
        other={"reservations": [{"user": "bob", "lines": [LINE]}]},
    ),
    "get_reservation": Good("ann"),
    "extend_reservation": Good("ann", {"hold_seconds": 60}, other={"hold_seconds": 61}),
    "release_reservation": Good("ann", other_path="/v1/reservations/{other_held}"),
    "commit_reservation": Good("payer", {"payment_id": "p-1"}, other={"payment_id": "p-2"}),
    "take_payment_event": Good("provider", EVENT),
    "get_order": Good("ops"),
    "fulfil_order": Good("ops", {"lines": [LINE]}, other={"lines": [LINE, LINE]}, needs_key=True),
    "cancel_order": Good("ops", {"reason": "x"}, other={"reason": "y"}),
    "get_selling": Good("ops"),
    "put_selling": Good("ops", {"paused": True, "reason": "x"}, other={"paused": False, "reason": "x"}),
    "list_audit": Good("ops", query="limit=1"),
    "get_overview": Good("ops"),
}
"""By operationId. A test fails if a route is missing here."""

every_route = pytest.mark.parametrize("route", [route for route, _ in ROUTES], ids=str)


def where(keep: Any) -> Any:
    """Only the routes that fit."""
    return pytest.mark.parametrize("route", [route for route, _ in ROUTES if keep(route)], ids=str)


@dataclass(frozen=True)
class World:
    """A shop in which each of `CALLS` succeeds."""

    callers: dict[str, Caller]
    ids: dict[str, str]

    def path(self, route: Route) -> str:
        word = route.path.split("/")[2]
        name = {"carts": "cart", "orders": "order"}.get(word, "held")
        return route.path.replace("<id>", self.ids[name]).replace("<sku>", "tee")

    def send(self, route: Route, **changes: Any) -> TestResponse:
        """Send the route's good call, changed: `body`, `data`, `query`, `headers`, `key`, `path`."""
        good = CALLS[route.name]
        path, query = changes.get("path", self.path(route)), changes.get("query", good.query)
        data, headers = changes.get("data"), dict(changes.get("headers", {}))
        body = changes.get("body", good.body)
        if data is None and body is not None:
            data = self.filled(json.dumps(body)).encode()
        if route.signed:
            headers.setdefault("Stockade-Signature", signature(data or b""))
        if data is not None:
            headers.setdefault("Content-Type", "application/json")
        target = f"{path}?{query}" if query else path
        key = changes.get("key", "good" if good.needs_key else None)
        return self.callers[good.who].send(route.method, target, data=data, headers=headers, key=key)

    def filled(self, text: str) -> str:
        for name, value in self.ids.items():
            text = text.replace(f"{{{name}}}", value)
        return text


@pytest.fixture
def world(client: FlaskClient, stocked: Caller, ann: Caller, guest: Caller, payer: Caller, shop: Caller) -> World:
    callers = {"ops": stocked, "ann": ann, "guest": guest, "payer": payer, "shop": shop, "provider": guest}
    held, other_held, order, other_order = (ann.reserve(("tee", 1))["id"] for _ in range(4))
    for paid in (order, other_order):
        answered(payer.post(f"/v1/reservations/{paid}/commit", {"payment_id": f"p-{paid}"}))
    cart, other_cart = (answered(ann.post("/v1/carts"), 201)["id"] for _ in range(2))
    for path in (f"/v1/carts/{cart}", f"/v1/carts/{other_cart}"):
        for sku in ("tee", "mug"):
            answered(ann.put(f"{path}/lines/{sku}", {"quantity": 1}))
    ids = {"held": held, "other_held": other_held, "order": order, "other_order": other_order}
    return World(callers, ids | {"cart": cart, "other_cart": other_cart})


def everything(client: FlaskClient) -> Caller:
    return Caller(client, bearer(token("anybody", "customer storefront payments ops")))
