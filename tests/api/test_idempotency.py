from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from engine.engine import Engine
from tests.api.calling import Caller, answered, bearer, dump, refused, run_out, token

Setup = Callable[[Caller], tuple[str, Any, Any]]
"""Prepares a call: its path, its body, and another body (or path, as a str, where there is no body)."""


@pytest.fixture
def anybody(stocked: Caller) -> Caller:
    return Caller(stocked.client, bearer(token("anybody", "customer payments ops")))


@pytest.fixture
def somebody_else(stocked: Caller) -> Caller:
    return Caller(stocked.client, bearer(token("somebody else", "customer payments ops")))


def _reserve(caller: Caller) -> tuple[str, Any, Any]:
    return "/v1/reservations", {"lines": [{"sku": "tee", "quantity": 1}]}, {"lines": [{"sku": "tee", "quantity": 2}]}


def _extend(caller: Caller) -> tuple[str, Any, Any]:
    held = caller.reserve(("tee", 1), hold_seconds=100)["id"]
    return f"/v1/reservations/{held}/extend", {"hold_seconds": 300}, {"hold_seconds": 400}


def _commit(caller: Caller) -> tuple[str, Any, Any]:
    held = caller.reserve(("tee", 1))["id"]
    return f"/v1/reservations/{held}/commit", {"payment_id": "p"}, {"payment_id": "q"}


def _adjust(caller: Caller) -> tuple[str, Any, Any]:
    return "/v1/skus/tee/adjustments", {"delta": 1, "reason": "x"}, {"delta": 1, "reason": "y"}


def _fulfil(caller: Caller) -> tuple[str, Any, Any]:
    return f"/v1/orders/{_order(caller)}/fulfil", None, f"/v1/orders/{_order(caller)}/fulfil"


def _cancel(caller: Caller) -> tuple[str, Any, Any]:
    body = {"reason": "x", "lines": [{"sku": "tee", "quantity": 1}]}
    return f"/v1/orders/{_order(caller)}/cancel", body, {"reason": "x"}


def _order(caller: Caller) -> str:
    held: str = caller.reserve(("tee", 2))["id"]
    answered(caller.post(f"/v1/reservations/{held}/commit", {"payment_id": f"p-{held}"}))
    return held


every_call = pytest.mark.parametrize("setup", [_reserve, _extend, _commit, _adjust, _fulfil, _cancel])


@every_call
def test_a_repeat_gets_the_first_answer_and_changes_nothing(anybody: Caller, fake_redis: Redis, setup: Setup) -> None:
    path, body, _ = setup(anybody)
    first = anybody.post(path, body, key="key-1")
    assert first.status_code in (200, 201), first.text
    assert "Idempotent-Replayed" not in first.headers
    before = dump(fake_redis)
    for _ in range(2):
        again = anybody.post(path, body, key="key-1")
        assert (again.status_code, again.data) == (first.status_code, first.data)
        assert again.headers["Idempotent-Replayed"] == "true"
        assert again.headers.get("Location") == first.headers.get("Location")
    assert dump(fake_redis) == before


@every_call
def test_the_same_key_with_another_request_is_refused(anybody: Caller, fake_redis: Redis, setup: Setup) -> None:
    path, body, other = setup(anybody)
    assert anybody.post(path, body, key="key-1").status_code in (200, 201)
    before = dump(fake_redis)
    response = anybody.post(other, key="key-1") if isinstance(other, str) else anybody.post(path, other, key="key-1")
    refused(response, 422, "idempotency_key_reused")
    assert dump(fake_redis) == before


@pytest.mark.parametrize("setup", [_reserve, _adjust, _cancel])
def test_another_key_is_another_request(anybody: Caller, fake_redis: Redis, setup: Setup) -> None:
    path, body, _ = setup(anybody)
    for key in ("key-1", "key-2"):
        before = dump(fake_redis)
        response = anybody.post(path, body, key=key)
        assert response.status_code in (200, 201)
        assert "Idempotent-Replayed" not in response.headers
        assert dump(fake_redis) != before


@pytest.mark.parametrize("setup", [_reserve, _adjust, _cancel])
def test_the_same_key_of_another_caller_is_independent(
    anybody: Caller, somebody_else: Caller, fake_redis: Redis, setup: Setup
) -> None:
    path, body, _ = setup(anybody)
    assert anybody.post(path, body, key="key-1").status_code in (200, 201)
    before = dump(fake_redis)
    response = somebody_else.post(path, body, key="key-1")
    assert response.status_code in (200, 201)
    assert "Idempotent-Replayed" not in response.headers
    assert dump(fake_redis) != before


def test_one_key_of_a_storefront_is_independent_for_each_user(stocked: Caller, shop: Caller) -> None:
    body = {"lines": [{"sku": "tee", "quantity": 1}]}
    ids = {
        answered(shop.post("/v1/reservations", body, key="k", headers={"Stockade-User": user}), 201)["id"]
        for user in ("ann", "bob", "ann")
    }
    assert len(ids) == 2


def test_the_order_of_the_body_s_fields_makes_no_other_request(anybody: Caller) -> None:
    made = [
        anybody.post("/v1/reservations", data=data, content_type="application/json", key="k")
        for data in (
            '{"lines": [{"sku": "tee", "quantity": 1}], "hold_seconds": 60}',
            '{"hold_seconds":60,"lines":[{"quantity":1,"sku":"tee"}]}',
        )
    ]
    assert answered(made[0], 201) == answered(made[1], 201)


def test_a_repeat_after_the_hold_has_ended_shows_the_reservation_as_it_is_now(
    anybody: Caller, fake_engine: Engine, fake_redis: Redis
) -> None:
    path, body, _ = _reserve(anybody)
    first = answered(anybody.post(path, body, key="k"), 201)
    answered(anybody.post(f"{path}/{first['id']}/extend", {"hold_seconds": 30}))
    ended = answered(anybody.delete(f"{path}/{first['id']}"))
    before = dump(fake_redis)
    again = anybody.post(path, body, key="k")
    assert answered(again, 201) == ended
    assert (ended["id"], ended["state"]) == (first["id"], "released")
    assert again.headers["Idempotent-Replayed"] == "true"
    assert dump(fake_redis) == before


def test_a_repeated_extend_after_the_hold_has_ended_still_gets_the_first_answer(
    anybody: Caller, fake_engine: Engine
) -> None:
    path, body, _ = _extend(anybody)
    first = answered(anybody.post(path, body, key="k"))
    run_out(fake_engine, first["id"], "tee")
    assert answered(anybody.post(path, body, key="k")) == first
    refused(anybody.post(path, body), 409, "reservation_expired")


def test_a_refused_basket_is_not_stored(stocked: Caller, anybody: Caller, fake_redis: Redis) -> None:
    wanted = {"lines": [{"sku": "mug", "quantity": 3}]}
    before = dump(fake_redis)
    refused(anybody.post("/v1/reservations", wanted, key="k"), 409, "lines_unavailable")
    assert dump(fake_redis) == before
    answered(stocked.post("/v1/skus/mug/adjustments", {"delta": 1, "reason": "found one"}))
    response = anybody.post("/v1/reservations", wanted, key="k")
    assert answered(response, 201)["lines"] == wanted["lines"]
    assert "Idempotent-Replayed" not in response.headers


def test_a_refused_basket_leaves_the_key_free_for_another_one(anybody: Caller) -> None:
    refused(
        anybody.post("/v1/reservations", {"lines": [{"sku": "mug", "quantity": 3}]}, key="k"), 409, "lines_unavailable"
    )
    answered(anybody.post("/v1/reservations", {"lines": [{"sku": "mug", "quantity": 2}]}, key="k"), 201)


def test_other_refusals_are_not_stored_either(stocked: Caller, anybody: Caller, fake_redis: Redis) -> None:
    before = dump(fake_redis)
    withdrawal = {"delta": -3, "reason": "x"}
    refused(anybody.post("/v1/skus/mug/adjustments", withdrawal, key="k"), 409, "insufficient_stock")
    refused(anybody.post("/v1/reservations", {"lines": []}, key="k"), 422, "validation_failed")
    assert dump(fake_redis) == before
    answered(stocked.post("/v1/skus/mug/adjustments", {"delta": 1, "reason": "x"}))
    assert answered(anybody.post("/v1/skus/mug/adjustments", withdrawal, key="k"))["on_hand"] == 0
