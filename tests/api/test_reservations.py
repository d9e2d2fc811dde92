from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from redis import Redis

from engine.engine import Engine
from engine.ids import is_reservation_id
from engine.values import Origin
from tests.api.calling import Caller, answered, dump, refused, run_out

TEE = {"lines": [{"sku": "tee", "quantity": 1}]}


def seconds_held(reservation: dict[str, Any]) -> float:
    held = datetime.fromisoformat(reservation["expires_at"]) - datetime.fromisoformat(reservation["created_at"])
    return held / timedelta(seconds=1)


def test_a_reservation_has_the_fields_of_the_contract_and_a_location(stocked: Caller, ann: Caller) -> None:
    lines = [{"sku": "tee", "quantity": 2}, {"sku": "mug", "quantity": 1}, {"sku": "tee", "quantity": 3}]
    response = ann.post("/v1/reservations", {"lines": lines})
    made = answered(response, 201)
    assert set(made) == {"id", "state", "lines", "user", "created_at", "expires_at"}
    assert (made["state"], made["user"]) == ("reserved", "ann")
    assert made["lines"] == [{"sku": "tee", "quantity": 5}, {"sku": "mug", "quantity": 1}]
    assert is_reservation_id(made["id"])
    assert seconds_held(made) == 900
    assert response.headers["Location"] == f"/v1/reservations/{made['id']}"
    assert "Idempotent-Replayed" not in response.headers
    assert answered(ann.get(response.headers["Location"])) == made
    tee = answered(stocked.get("/v1/skus/tee"))
    assert (tee["on_hand"], tee["available"], tee["reserved"], tee["allocated"]) == (10, 5, 5, 0)


@pytest.mark.parametrize("hold_seconds", [1, 60, 900])
def test_the_buyer_may_ask_for_a_shorter_hold(stocked: Caller, ann: Caller, hold_seconds: int) -> None:
    assert seconds_held(ann.reserve(("tee", 1), hold_seconds=hold_seconds)) == hold_seconds


def test_a_basket_of_200_lines_is_taken(stocked: Caller, ann: Caller) -> None:
    for number in range(200):
        assert stocked.put(f"/v1/skus/s{number}", {"on_hand": 1_000_000}).status_code == 201
    assert len(ann.reserve(*[(f"s{number}", 1_000_000) for number in range(200)])["lines"]) == 200


def test_a_refused_basket_changes_nothing_and_has_a_verdict_for_every_line(
    stocked: Caller, ann: Caller, bob: Caller, fake_redis: Redis
) -> None:
    for sku, attributes in {
        "held": {"on_hand": 1},
        "gone": {"on_hand": 0},
        "limited": {"on_hand": 9, "limit_per_customer": 2},
        "paused": {"on_hand": 1, "paused": True},
        "later": {"on_hand": 1, "sale_starts_at": "2126-01-01T00:00:00Z"},
        "over": {"on_hand": 1, "sale_ends_at": "2001-01-01T00:00:00Z"},
    }.items():
        answered(stocked.put(f"/v1/skus/{sku}", attributes), 201)
    held = bob.reserve(("held", 1), ("mug", 1))
    before = dump(fake_redis)
    wanted = ["tee", "mug", "held", "gone", "nothing", "limited", "paused", "later", "over"]
    lines = [{"sku": sku, "quantity": 5 if sku != "held" else 1} for sku in wanted]
    problem = refused(ann.post("/v1/reservations", {"lines": lines}), 409, "lines_unavailable")
    assert dump(fake_redis) == before
    fields = ("sku", "requested", "available", "verdict", "max_reservable", "next_release_at")
    assert [tuple(line) for line in problem["lines"]] == [fields] * len(wanted)
    assert [tuple(line.values()) for line in problem["lines"]] == [
        ("tee", 5, 10, "ok", 10, None),
        ("mug", 5, 1, "insufficient", 1, held["expires_at"]),
        ("held", 1, 0, "all_held", 0, held["expires_at"]),
        ("gone", 5, 0, "sold_out", 0, None),
        ("nothing", 5, 0, "unknown_sku", 0, None),
        ("limited", 5, 9, "limit_exceeded", 2, None),
        ("paused", 5, 1, "paused", 0, None),
        ("later", 5, 1, "not_started", 0, None),
        ("over", 5, 1, "ended", 0, None),
    ]


def test_a_limit_counts_what_the_customer_holds_already(stocked: Caller, ann: Caller, bob: Caller) -> None:
    answered(stocked.put("/v1/skus/tee", {"limit_per_customer": 3}))
    ann.reserve(("tee", 2))
    problem = refused(
        ann.post("/v1/reservations", {"lines": [{"sku": "tee", "quantity": 2}]}), 409, "lines_unavailable"
    )
    assert (problem["lines"][0]["verdict"], problem["lines"][0]["max_reservable"]) == ("limit_exceeded", 1)
    bob.reserve(("tee", 3))


def test_stock_whose_hold_has_run_out_is_never_refused(
    stocked: Caller, ann: Caller, bob: Caller, fake_engine: Engine
) -> None:
    held = ann.reserve(("mug", 2))
    run_out(fake_engine, held["id"], "mug")
    bob.reserve(("mug", 2))
    assert answered(ann.get(f"/v1/reservations/{held['id']}"))["state"] == "expired"


def test_extend_moves_the_deadline_either_way_but_never_past_the_start_and_900_seconds(
    stocked: Caller, ann: Caller
) -> None:
    made = ann.reserve(("tee", 1), hold_seconds=300)
    path = f"/v1/reservations/{made['id']}"
    longer = answered(ann.post(f"{path}/extend", {"hold_seconds": 600}))
    assert 600 <= seconds_held(longer) < 660
    assert longer == made | {"expires_at": longer["expires_at"]}
    assert answered(ann.get(path)) == longer
    longest = answered(ann.post(f"{path}/extend", {"hold_seconds": 900}))
    assert seconds_held(longest) == 900
    shorter = answered(ann.post(f"{path}/extend", {"hold_seconds": 10}))
    assert 10 <= seconds_held(shorter) < 70


def test_a_dead_hold_cannot_be_extended(
    stocked: Caller, ann: Caller, payer: Caller, fake_engine: Engine, fake_redis: Redis
) -> None:
    overdue, swept, left, paid = (ann.reserve(("tee", 1))["id"] for _ in range(4))
    run_out(fake_engine, swept, "tee")
    fake_engine.expiry.sweep(Origin("keeper"))
    run_out(fake_engine, overdue, "tee")
    answered(ann.delete(f"/v1/reservations/{left}"))
    answered(payer.post(f"/v1/reservations/{paid}/commit", {"payment_id": "p"}))
    before = dump(fake_redis)
    for held, code in {
        overdue: "reservation_expired",
        swept: "reservation_expired",
        left: "invalid_transition",
        paid: "invalid_transition",
    }.items():
        refused(ann.post(f"/v1/reservations/{held}/extend", {"hold_seconds": 60}), 409, code)
    assert dump(fake_redis) == before


def test_release_gives_the_stock_back_once_however_often_it_is_sent(
    stocked: Caller, ann: Caller, fake_redis: Redis
) -> None:
    made = ann.reserve(("tee", 4))
    path = f"/v1/reservations/{made['id']}"
    first = answered(ann.delete(path))
    assert first == made | {"state": "released"}
    assert answered(stocked.get("/v1/skus/tee"))["available"] == 10
    before = dump(fake_redis)
    assert answered(ann.delete(path)) == first
    assert answered(ann.get(path)) == first
    assert dump(fake_redis) == before


def test_release_of_a_hold_that_ran_out_answers_expired(stocked: Caller, ann: Caller, fake_engine: Engine) -> None:
    held = ann.reserve(("tee", 4))["id"]
    run_out(fake_engine, held, "tee")
    assert answered(ann.delete(f"/v1/reservations/{held}"))["state"] == "expired"
    assert answered(stocked.get("/v1/skus/tee"))["available"] == 10


def test_a_paid_reservation_cannot_be_released(stocked: Caller, ann: Caller, payer: Caller, fake_redis: Redis) -> None:
    held = ann.reserve(("tee", 4))["id"]
    answered(payer.post(f"/v1/reservations/{held}/commit", {"payment_id": "p"}))
    assert answered(ann.get(f"/v1/reservations/{held}"))["state"] == "committed"
    before = dump(fake_redis)
    refused(ann.delete(f"/v1/reservations/{held}"), 409, "already_committed")
    assert dump(fake_redis) == before


def test_another_user_s_reservation_is_not_found(stocked: Caller, ann: Caller, bob: Caller, fake_redis: Redis) -> None:
    path = f"/v1/reservations/{ann.reserve(('tee', 1))['id']}"
    before = dump(fake_redis)
    foreign = [bob.get(path), bob.post(f"{path}/extend", {"hold_seconds": 9}), bob.delete(path)]
    unknown = bob.get("/v1/reservations/0123456789ABCDEFabcdef")
    for response in foreign:
        assert refused(response, 404, "not_found") == refused(unknown, 404, "not_found")
    assert dump(fake_redis) == before


def test_a_storefront_acts_for_the_user_it_names(stocked: Caller, shop: Caller, ann: Caller, bob: Caller) -> None:
    for_ann = {"Stockade-User": "ann"}
    made = answered(shop.post("/v1/reservations", TEE, headers=for_ann), 201)
    assert made["user"] == "ann"
    path = f"/v1/reservations/{made['id']}"
    assert answered(ann.get(path)) == made
    assert answered(shop.get(path, headers=for_ann)) == made
    refused(shop.get(path), 403, "forbidden")
    refused(bob.get(path), 404, "not_found")
    answered(shop.post(f"{path}/extend", {"hold_seconds": 60}, headers=for_ann))
    assert answered(shop.delete(path, headers=for_ann))["state"] == "released"


def test_only_a_storefront_may_name_another_user(stocked: Caller, ann: Caller, ops: Caller, fake_redis: Redis) -> None:
    before = dump(fake_redis)
    refused(ann.post("/v1/reservations", TEE, headers={"Stockade-User": "bob"}), 403, "forbidden")
    refused(ops.get("/v1/skus", headers={"Stockade-User": "bob"}), 400, "bad_request")
    assert dump(fake_redis) == before
    answered(ann.post("/v1/reservations", TEE, headers={"Stockade-User": "ann"}), 201)


@pytest.mark.parametrize("user", ["", "a\x01b", "x" * 256])
def test_a_storefront_must_name_a_user_that_can_be_one(
    stocked: Caller, shop: Caller, fake_redis: Redis, user: str
) -> None:
    before = dump(fake_redis)
    refused(shop.post("/v1/reservations", TEE, headers={"Stockade-User": user}), 400, "bad_request")
    assert dump(fake_redis) == before
