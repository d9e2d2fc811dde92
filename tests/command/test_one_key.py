"""Fifty calls at once with one idempotency key, over real HTTP: one effect, and fifty times the same answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from tests.command.service import Answer, Service

CALLS = 50

Setup = Callable[[Service, str], tuple[str, str, Any]]
"""Prepares a call that takes or adds units of the SKU: its path, the scope it needs, and its body."""


def _reserve(service: Service, sku: str) -> tuple[str, str, Any]:
    return "/v1/reservations", "customer", {"lines": [{"sku": sku, "quantity": 3}]}


def _check_out(service: Service, sku: str) -> tuple[str, str, Any]:
    return f"{_cart(service, sku)}/checkout", "customer", {"hold_seconds": 600}


def _extend(service: Service, sku: str) -> tuple[str, str, Any]:
    return f"{_held(service, sku)}/extend", "customer", {"hold_seconds": 300}


def _commit(service: Service, sku: str) -> tuple[str, str, Any]:
    return f"{_held(service, sku)}/commit", "payments", {"payment_id": f"p-{sku}"}


def _adjust(service: Service, sku: str) -> tuple[str, str, Any]:
    return f"/v1/skus/{sku}/adjustments", "ops", {"delta": 3, "reason": "found"}


def _cancel(service: Service, sku: str) -> tuple[str, str, Any]:
    path, scope, body = _commit(service, sku)
    assert service.call("POST", path, body, token=_token(service, scope)).status == 200
    order = path.replace("reservations", "orders").replace("commit", "cancel")
    return order, "ops", {"reason": "x", "lines": [{"sku": sku, "quantity": 1}]}


def _batch(service: Service, sku: str) -> tuple[str, str, Any]:
    item = {"lines": [{"sku": sku, "quantity": 1}]}
    return "/v1/reservations/batch", "storefront", {"reservations": [item | {"user": user} for user in "abc"]}


SETUPS: dict[str, tuple[Setup, tuple[int, int, int, int]]] = {
    "reserve": (_reserve, (100, 97, 3, 0)),
    "check-out": (_check_out, (100, 97, 3, 0)),
    "extend": (_extend, (100, 97, 3, 0)),
    "commit": (_commit, (100, 97, 0, 3)),
    "adjust": (_adjust, (103, 103, 0, 0)),
    "cancel": (_cancel, (100, 98, 0, 2)),
    "batch": (_batch, (100, 97, 3, 0)),
}
"""Each call, and on_hand, available, reserved and allocated after it."""


@pytest.mark.parametrize("name", SETUPS)
def test_fifty_calls_with_one_key_are_one_call(service: Service, name: str) -> None:
    setup, expected = SETUPS[name]
    sku = f"one-key-{name}"
    ops = _token(service, "ops")
    assert service.call("PUT", f"/v1/skus/{sku}", {"on_hand": 100}, token=ops).status == 201
    path, scope, body = setup(service, sku)
    before = _events(service, sku)
    answers = _at_once(service, "POST", path, body, _token(service, scope), f"key-{name}")
    assert {answer.status for answer in answers} <= {200, 201}, answers[0]
    assert len({(answer.status, json.dumps(answer.document), answer.headers["Location"]) for answer in answers}) == 1
    replayed = [answer.headers.get("Idempotent-Replayed") for answer in answers]
    assert replayed.count("true") == CALLS - 1
    assert _counters(service, sku) == expected
    assert _events(service, sku) - before == (3 if name == "batch" else 1)


@pytest.mark.parametrize("body", [None, {"lines": [{"sku": "one-key-cart", "quantity": 2}]}], ids=["empty", "filled"])
def test_fifty_carts_with_one_key_are_one_cart(service: Service, body: Any) -> None:
    key = f"key-cart-{'filled' if body else 'empty'}"
    answers = _at_once(service, "POST", "/v1/carts", body, _token(service, "customer"), key)
    assert len({(answer.status, json.dumps(answer.document), answer.headers["Location"]) for answer in answers}) == 1
    assert answers[0].status == 201
    assert [answer.headers.get("Idempotent-Replayed") for answer in answers].count("true") == CALLS - 1


def test_fifty_checkouts_of_one_cart_without_a_key_leave_one_hold(service: Service) -> None:
    ops, buyer = _token(service, "ops"), _token(service, "customer")
    assert service.call("PUT", "/v1/skus/one-cart", {"on_hand": 4}, token=ops).status == 201
    path = f"{_cart(service, 'one-cart')}/checkout"
    answers = _at_once(service, "POST", path, None, buyer, "")
    assert {answer.status for answer in answers} == {201}
    assert len({answer.document["id"] for answer in answers}) == CALLS
    assert len({answer.document["created_at"] for answer in answers}) == 1
    shown = [service.call("GET", answer.headers["Location"], token=buyer).document for answer in answers]
    assert sorted(one["state"] for one in shown) == ["released"] * (CALLS - 1) + ["reserved"]
    assert _counters(service, "one-cart") == (4, 1, 3, 0)


def _at_once(service: Service, method: str, path: str, body: Any, token: str, key: str) -> list[Answer]:
    barrier = Barrier(CALLS)

    def call() -> Answer:
        barrier.wait(30)
        return service.call(method, path, body, token=token, key=key)

    with ThreadPoolExecutor(CALLS) as pool:
        return [future.result() for future in [pool.submit(call) for _ in range(CALLS)]]


def _token(service: Service, scope: str) -> str:
    return service.token("one-key", scope)


def _held(service: Service, sku: str) -> str:
    """The path of a hold of 3 units."""
    _, scope, body = _reserve(service, sku)
    made = service.call("POST", "/v1/reservations", body, token=_token(service, scope))
    return str(made.headers["Location"])


def _cart(service: Service, sku: str) -> str:
    """The path of a cart with 3 units."""
    buyer = _token(service, "customer")
    path = str(service.call("POST", "/v1/carts", token=buyer).headers["Location"])
    assert service.call("PUT", f"{path}/lines/{sku}", {"quantity": 3}, token=buyer).status == 200
    return path


def _events(service: Service, sku: str) -> int:
    return len(service.call("GET", f"/v1/audit?sku={sku}", token=_token(service, "ops")).document["items"])


def _counters(service: Service, sku: str) -> tuple[int, int, int, int]:
    shown = service.call("GET", f"/v1/skus/{sku}", token=_token(service, "ops")).document
    return shown["on_hand"], shown["available"], shown["reserved"], shown["allocated"]
