"""The hold of those who ask for none: that of the operators, at once, wherever a checkout can start."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from engine.engine import Engine
from engine.values import Origin
from tests.api.calling import Caller, answered

OPS = Origin("cli:olga")
TEE = {"lines": [{"sku": "tee", "quantity": 1}]}

Start = Callable[..., dict[str, Any]]


def seconds(made: dict[str, Any]) -> float:
    times = [datetime.fromisoformat(made[name]) for name in ("created_at", "expires_at")]
    return (times[1] - times[0]).total_seconds()


def alone(ann: Caller, shop: Caller, key: str, **asked: int) -> dict[str, Any]:
    return answered(ann.post("/v1/reservations", TEE | asked, key=key), 201)


def from_a_cart(ann: Caller, shop: Caller, key: str, **asked: int) -> dict[str, Any]:
    cart = answered(ann.post("/v1/carts", key=f"cart-{key}"), 201)["id"]
    answered(ann.put(f"/v1/carts/{cart}/lines/tee", {"quantity": 1}))
    return answered(ann.post(f"/v1/carts/{cart}/checkout", asked, key=key), 201)


def in_a_batch(ann: Caller, shop: Caller, key: str, **asked: int) -> dict[str, Any]:
    item = TEE | asked | {"user": "ann", "idempotency_key": key}
    [result] = answered(shop.post("/v1/reservations/batch", {"reservations": [item]}))["results"]
    made: dict[str, Any] = result["reservation"]
    return made


@pytest.mark.parametrize("start", [alone, from_a_cart, in_a_batch])
def test_the_operators_default_counts_at_once_for_those_who_ask_for_no_time(
    stocked: Caller, ann: Caller, shop: Caller, fake_engine: Engine, start: Start
) -> None:
    first = start(ann, shop, "k1")
    assert seconds(first) == 900
    fake_engine.stock.set_default_hold(60, "a rush", OPS)
    assert seconds(made := start(ann, shop, "k2")) == 60
    assert answered(ann.get(f"/v1/reservations/{made['id']}")) == made
    assert seconds(start(ann, shop, "k3", hold_seconds=300)) == 300
    assert start(ann, shop, "k1") == first
    fake_engine.stock.set_default_hold(None, "over", OPS)
    assert start(ann, shop, "k2") == made
    assert seconds(start(ann, shop, "k4")) == 900


def test_a_hold_with_the_operators_default_can_be_extended_up_to_900_s(
    stocked: Caller, ann: Caller, shop: Caller, fake_engine: Engine
) -> None:
    fake_engine.stock.set_default_hold(60, "a rush", OPS)
    made = alone(ann, shop, "k1")
    longer = answered(ann.post(f"/v1/reservations/{made['id']}/extend", {"hold_seconds": 900}))
    assert 899 < seconds(longer) <= 900
