from __future__ import annotations

import json
from typing import Any

import pytest
from redis import Redis
from werkzeug.test import TestResponse

from engine.engine import Engine
from tests.api.calling import Caller, answered, counters, dump, refused, run_out

PATH = "/v1/reservations/batch"


def item(user: str, sku: str = "tee", quantity: int = 1, **more: Any) -> dict[str, Any]:
    return {"user": user, "lines": [{"sku": sku, "quantity": quantity}]} | more


def results(response: TestResponse) -> list[Any]:
    document = answered(response)
    assert set(document) == {"results"}
    found: list[Any] = document["results"]
    for result in found:
        assert set(result) == {"status", "reservation" if result["status"] == 201 else "problem"}
        if "problem" in result:
            assert result["problem"]["status"] == result["status"]
            assert {"type", "title", "detail", "code"} <= set(result["problem"])
    return found


def test_each_item_is_decided_on_its_own_and_answered_in_order(stocked: Caller, shop: Caller, ann: Caller) -> None:
    asked = [
        item("ann", quantity=4, hold_seconds=60),
        item("bob", quantity=7),
        item("carl", "mug", 2),
        {"user": "dora", "lines": [{"sku": "tee", "quantity": 1}, {"sku": "mug", "quantity": 1}]},
        item("ann", quantity=6),
        item("eve", "nothing"),
    ]
    first, second, third, fourth, fifth, sixth = results(shop.post(PATH, {"reservations": asked}))
    assert [one["status"] for one in (first, second, third, fourth, fifth, sixth)] == [201, 409, 201, 409, 201, 409]
    assert set(first["reservation"]) == {"id", "state", "lines", "user", "created_at", "expires_at"}
    assert answered(ann.get(f"/v1/reservations/{first['reservation']['id']}")) == first["reservation"]
    assert (third["reservation"]["user"], third["reservation"]["lines"]) == ("carl", asked[2]["lines"])
    assert second["problem"]["code"] == "lines_unavailable"
    assert [line["verdict"] for line in second["problem"]["lines"]] == ["insufficient"]
    assert [line["verdict"] for line in fourth["problem"]["lines"]] == ["ok", "all_held"]
    assert [line["verdict"] for line in sixth["problem"]["lines"]] == ["unknown_sku"]
    single = refused(ann.post("/v1/reservations", {"lines": asked[5]["lines"]}), 409, "lines_unavailable")
    assert sixth["problem"] == single
    assert counters(stocked, "tee") == (10, 0, 10, 0)


BAD_ITEMS: list[tuple[Any, list[str]]] = [
    (None, ["body"]),
    ([], ["body"]),
    ("ann", ["body"]),
    (7, ["body"]),
    (True, ["body"]),
    ([item("ann")], ["body"]),
    ({}, ["user"]),
    ({"user": "ann"}, ["lines"]),
    ({"lines": item("ann")["lines"]}, ["user"]),
    (item(""), ["user"]),
    (item("a\x00b"), ["user"]),
    (item("x" * 256), ["user"]),
    (item("ann") | {"user": None}, ["user"]),
    (item("ann") | {"lines": []}, ["lines"]),
    (item("ann") | {"lines": item("ann")["lines"] * 201}, ["lines"]),
    (item("ann", "a  b"), ["lines", "0", "sku"]),
    (item("ann", quantity=0), ["lines", "0", "quantity"]),
    (item("ann") | {"lines": [*item("ann")["lines"], {"sku": "mug", "quantity": 1.0}]}, ["lines", "1", "quantity"]),
    (item("ann", hold_seconds=901), ["hold_seconds"]),
    (item("ann", idempotency_key=""), ["idempotency_key"]),
    (item("ann", idempotency_key="a b"), ["idempotency_key"]),
    (item("ann", idempotency_key="x" * 256), ["idempotency_key"]),
    (item("ann", idempotency_key=None), ["idempotency_key"]),
    (item("ann", price=1), ["price"]),
]


@pytest.mark.parametrize(("bad", "at"), BAD_ITEMS, ids=lambda value: repr(value)[:40])
def test_a_bad_item_is_told_what_is_wrong_and_spoils_nothing(
    stocked: Caller, shop: Caller, bad: Any, at: list[str]
) -> None:
    before, spoilt, after = results(shop.post(PATH, {"reservations": [item("bob"), bad, item("carl", "mug")]}))
    assert (before["status"], spoilt["status"], after["status"]) == (201, 422, 201)
    assert spoilt["problem"]["code"] == "validation_failed"
    errors = spoilt["problem"]["errors"]
    for word in at:
        errors = errors[word]
    assert errors
    assert counters(stocked, "tee") == (10, 9, 1, 0)


def test_bad_items_alone_change_nothing(stocked: Caller, shop: Caller, fake_redis: Redis) -> None:
    before = dump(fake_redis)
    assert {one["status"] for one in results(shop.post(PATH, {"reservations": [bad for bad, _ in BAD_ITEMS]}))} == {422}
    assert dump(fake_redis) == before


@pytest.mark.parametrize("items", [None, [], {}, "ann", item("ann"), [item("ann")] * 501, [None] * 501], ids=str)
def test_a_batch_has_1_to_500_items(stocked: Caller, shop: Caller, fake_redis: Redis, items: Any) -> None:
    before = dump(fake_redis)
    problem = refused(shop.post(PATH, {"reservations": items}), 422, "validation_failed")
    assert problem["errors"]["reservations"]
    assert dump(fake_redis) == before


def test_500_items_are_taken(stocked: Caller, shop: Caller) -> None:
    answered(stocked.put("/v1/skus/tee", {"on_hand": 499}))
    asked = [item(f"user-{number}") for number in range(500)]
    found = results(shop.post(PATH, {"reservations": asked}))
    assert [one["status"] for one in found] == [201] * 499 + [409]
    assert [one["reservation"]["user"] for one in found[:499]] == [one["user"] for one in asked[:499]]
    assert counters(stocked, "tee") == (499, 0, 499, 0)


def test_a_batch_may_have_1_mib(stocked: Caller, shop: Caller, fake_redis: Redis) -> None:
    body = json.dumps({"reservations": [item("ann")]}).encode()
    for size in (200 * 1024, 1024 * 1024):
        response = shop.post(PATH, data=body + b" " * (size - len(body)), content_type="application/json")
        assert [one["status"] for one in results(response)] == [201]
    before = dump(fake_redis)
    response = shop.post(PATH, data=body + b" " * (1024 * 1024 + 1 - len(body)), content_type="application/json")
    refused(response, 413, "payload_too_large")
    assert dump(fake_redis) == before


@pytest.mark.parametrize("who", ["ann", "payer", "ops", "guest"])
def test_only_a_storefront_may_send_a_batch(
    stocked: Caller, fake_redis: Redis, request: pytest.FixtureRequest, who: str
) -> None:
    caller: Caller = request.getfixturevalue(who)
    before = dump(fake_redis)
    status, code = (401, "unauthenticated") if who == "guest" else (403, "forbidden")
    refused(caller.post(PATH, {"reservations": [item("ann")]}), status, code)
    assert dump(fake_redis) == before


def test_the_storefront_is_the_actor_and_the_user_the_user(stocked: Caller, shop: Caller, ann: Caller) -> None:
    made, _ = results(shop.post(PATH, {"reservations": [item("ann"), item("bob")]}))
    events = answered(stocked.get("/v1/audit?op=reserve"))["items"]
    assert [(event["actor"], event["user"]) for event in events] == [("shop", "ann"), ("shop", "bob")]
    assert answered(ann.delete(f"/v1/reservations/{made['reservation']['id']}"))["state"] == "released"


def test_a_limit_per_customer_holds_within_a_batch(stocked: Caller, shop: Caller) -> None:
    answered(stocked.put("/v1/skus/tee", {"limit_per_customer": 2}))
    asked = [item("ann", quantity=2), item("ann"), item("bob", quantity=2)]
    found = results(shop.post(PATH, {"reservations": asked}))
    assert [one["status"] for one in found] == [201, 409, 201]
    assert found[1]["problem"]["lines"][0]["verdict"] == "limit_exceeded"


def test_an_item_s_key_makes_it_happen_once(stocked: Caller, shop: Caller, fake_redis: Redis) -> None:
    asked = [item("ann", idempotency_key="k"), item("bob", idempotency_key="k"), item("ann", idempotency_key="k")]
    first = results(shop.post(PATH, {"reservations": asked}))
    assert [one["status"] for one in first] == [201] * 3
    assert first[0] == first[2]
    assert first[0]["reservation"]["id"] != first[1]["reservation"]["id"]
    before = dump(fake_redis)
    again = shop.post(PATH, {"reservations": asked})
    assert results(again) == first
    other = results(shop.post(PATH, {"reservations": [item("ann", quantity=2, idempotency_key="k"), asked[1]]}))
    assert (other[0]["status"], other[0]["problem"]["code"]) == (422, "idempotency_key_reused")
    assert other[1] == first[1]
    assert dump(fake_redis) == before
    assert counters(stocked, "tee") == (10, 8, 2, 0)


@pytest.mark.parametrize("hold", [{}, {"hold_seconds": 60}], ids=str)
def test_a_key_is_worth_the_same_in_a_batch_and_alone(
    stocked: Caller, shop: Caller, fake_redis: Redis, hold: dict[str, Any]
) -> None:
    for_ann, body = {"Stockade-User": "ann"}, {"lines": item("ann")["lines"]} | hold
    alone = answered(shop.post("/v1/reservations", body, key="one", headers=for_ann), 201)
    (batched,) = results(shop.post(PATH, {"reservations": [item("ann", idempotency_key="one", **hold)]}))
    assert batched["reservation"] == alone
    (batched,) = results(shop.post(PATH, {"reservations": [item("ann", idempotency_key="two", **hold)]}))
    before = dump(fake_redis)
    response = shop.post("/v1/reservations", body, key="two", headers=for_ann)
    assert answered(response, 201) == batched["reservation"]
    assert response.headers["Idempotent-Replayed"] == "true"
    assert dump(fake_redis) == before


def test_the_key_of_the_whole_call_makes_every_item_happen_once(
    stocked: Caller, shop: Caller, fake_redis: Redis
) -> None:
    asked = [item("ann"), item("ann"), None, item("bob", idempotency_key="own")]
    first = shop.post(PATH, {"reservations": asked}, key="call")
    assert [one["status"] for one in results(first)] == [201, 201, 422, 201]
    assert len({one["reservation"]["id"] for one in results(first) if one["status"] == 201}) == 3
    assert "Idempotent-Replayed" not in first.headers
    before = dump(fake_redis)
    again = shop.post(PATH, {"reservations": asked}, key="call")
    assert again.data == first.data
    assert again.headers["Idempotent-Replayed"] == "true"
    assert dump(fake_redis) == before
    assert [one["status"] for one in results(shop.post(PATH, {"reservations": asked}, key="call-2"))][:2] == [201, 201]
    assert counters(stocked, "tee") == (10, 5, 5, 0)


def test_a_refused_item_is_not_stored_under_the_call_s_key(stocked: Caller, shop: Caller) -> None:
    asked = {"reservations": [item("ann", "mug", 2), item("bob", "mug", 1)]}
    first = results(shop.post(PATH, asked, key="call"))
    assert [one["status"] for one in first] == [201, 409]
    answered(stocked.post("/v1/skus/mug/adjustments", {"delta": 1, "reason": "found one"}))
    again = shop.post(PATH, asked, key="call")
    assert results(again)[0] == first[0]
    assert results(again)[1]["status"] == 201
    assert "Idempotent-Replayed" not in again.headers


def test_holds_in_the_way_whose_time_has_run_out_are_ended_first(
    stocked: Caller, shop: Caller, ann: Caller, fake_engine: Engine
) -> None:
    held = ann.reserve(("mug", 2))["id"]
    run_out(fake_engine, held, "mug")
    found = results(shop.post(PATH, {"reservations": [item("bob", "mug", 2), item("carl", "mug")]}))
    assert [one["status"] for one in found] == [201, 409]
    assert answered(ann.get(f"/v1/reservations/{held}"))["state"] == "expired"
    assert counters(stocked, "mug") == (2, 0, 2, 0)


def test_every_item_gets_of_what_a_hold_that_has_run_out_gives_back(
    stocked: Caller, shop: Caller, ann: Caller, fake_engine: Engine
) -> None:
    run_out(fake_engine, ann.reserve(("mug", 2))["id"], "mug")
    found = results(shop.post(PATH, {"reservations": [item("bob", "mug"), item("carl", "mug"), item("dora", "mug")]}))
    assert [one["status"] for one in found] == [201, 201, 409]


def test_behind_a_closed_gate_every_item_is_refused(stocked: Caller, shop: Caller, fake_redis: Redis) -> None:
    fake_redis.hset("stk:{p0}:meta", "gate", "closed")
    before = dump(fake_redis)
    found = results(shop.post(PATH, {"reservations": [item("ann"), item("bob")]}))
    assert [(one["status"], one["problem"]["code"]) for one in found] == [(503, "closed")] * 2
    assert dump(fake_redis) == before
