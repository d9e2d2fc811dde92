from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from redis import Redis

from engine.engine import Engine
from engine.values import Origin
from tests.api.calling import Caller, answered, counters, dump, refused, run_out


@pytest.fixture
def bought(stocked: Caller, ann: Caller, payer: Caller) -> dict[str, Any]:
    """Ann's order of 4 tees and a mug."""
    held = ann.reserve(("tee", 4), ("mug", 1))["id"]
    order: dict[str, Any] = answered(payer.post(f"/v1/reservations/{held}/commit", {"payment_id": "p-1"}))["order"]
    return order


def test_commit_turns_a_hold_into_an_order(stocked: Caller, ann: Caller, payer: Caller) -> None:
    made = ann.reserve(("tee", 4), ("mug", 1))
    answer = answered(payer.post(f"/v1/reservations/{made['id']}/commit", {"payment_id": "p-1"}))
    assert set(answer) == {"order", "late"}
    assert answer["late"] is False
    order = answer["order"]
    assert datetime.fromisoformat(order.pop("committed_at")) >= datetime.fromisoformat(made["created_at"])
    assert order == {
        "id": made["id"],
        "user": "ann",
        "state": "allocated",
        "lines": made["lines"],
        "fulfilled_lines": [],
        "cancelled_lines": [],
        "returned_lines": [],
        "payment_id": "p-1",
    }
    assert counters(stocked, "tee") == (10, 6, 0, 4)
    assert counters(stocked, "mug") == (2, 1, 0, 1)


def test_the_same_payment_again_gets_the_same_answer(bought: dict[str, Any], payer: Caller, fake_redis: Redis) -> None:
    before = dump(fake_redis)
    again = answered(payer.post(f"/v1/reservations/{bought['id']}/commit", {"payment_id": "p-1"}))
    assert again == {"order": bought, "late": False}
    assert dump(fake_redis) == before


def test_another_payment_for_a_paid_reservation_is_refused(
    bought: dict[str, Any], payer: Caller, fake_redis: Redis
) -> None:
    before = dump(fake_redis)
    path = f"/v1/reservations/{bought['id']}/commit"
    refused(payer.post(path, {"payment_id": "p-2"}), 409, "already_committed")
    assert dump(fake_redis) == before


@pytest.mark.parametrize("end", ["released", "expired", "overdue"])
def test_a_late_payment_takes_stock_that_is_still_free(
    stocked: Caller, ann: Caller, payer: Caller, fake_engine: Engine, end: str
) -> None:
    held = ann.reserve(("mug", 2))["id"]
    _end(fake_engine, ann, held, end)
    first = answered(payer.post(f"/v1/reservations/{held}/commit", {"payment_id": "p"}))
    assert first["late"] is True
    assert answered(payer.post(f"/v1/reservations/{held}/commit", {"payment_id": "p"})) == first
    assert counters(stocked, "mug") == (2, 0, 0, 2)
    assert answered(ann.get(f"/v1/reservations/{held}"))["state"] == "committed"


@pytest.mark.parametrize("end", ["released", "expired"])
def test_a_late_payment_whose_stock_is_gone_must_be_refunded_and_that_is_final(
    stocked: Caller, ann: Caller, bob: Caller, payer: Caller, fake_engine: Engine, fake_redis: Redis, end: str
) -> None:
    held = ann.reserve(("tee", 1), ("mug", 2))["id"]
    _end(fake_engine, ann, held, end)
    in_the_way = bob.reserve(("mug", 1))["id"]
    path = f"/v1/reservations/{held}/commit"
    problem = refused(payer.post(path, {"payment_id": "p-1"}), 409, "refund_required")
    assert problem["lines"] == [
        {"sku": "tee", "requested": 1, "available": 10, "verdict": "ok"},
        {"sku": "mug", "requested": 2, "available": 1, "verdict": "insufficient"},
    ]
    assert counters(stocked, "tee") == (10, 10, 0, 0)
    answered(bob.delete(f"/v1/reservations/{in_the_way}"))
    before = dump(fake_redis)
    assert refused(payer.post(path, {"payment_id": "p-1"}), 409, "refund_required") == problem
    assert dump(fake_redis) == before
    assert answered(payer.post(path, {"payment_id": "p-2"}))["late"] is True
    assert refused(payer.post(path, {"payment_id": "p-1"}), 409, "refund_required") == problem


def test_commit_of_an_unknown_reservation_is_not_found(payer: Caller) -> None:
    path = "/v1/reservations/0123456789ABCDEFabcdef/commit"
    refused(payer.post(path, {"payment_id": "p"}), 404, "not_found")


def test_an_order_is_shown_to_its_owner_and_to_operators_only(
    bought: dict[str, Any], ann: Caller, bob: Caller, ops: Caller, shop: Caller
) -> None:
    path = f"/v1/orders/{bought['id']}"
    assert answered(ann.get(path)) == bought
    assert answered(ops.get(path)) == bought
    assert answered(shop.get(path, headers={"Stockade-User": "ann"})) == bought
    refused(bob.get(path), 404, "not_found")
    refused(shop.get(path), 403, "forbidden")


def test_an_unpaid_reservation_is_no_order(stocked: Caller, ann: Caller) -> None:
    path = f"/v1/orders/{ann.reserve(('tee', 1))['id']}"
    refused(ann.get(path), 404, "not_found")
    refused(stocked.get(path), 404, "not_found")
    refused(stocked.post(f"{path}/fulfil"), 404, "not_found")
    refused(stocked.post(f"{path}/cancel", {"reason": "x"}), 404, "not_found")


def test_fulfil_takes_the_units_off_the_shelf_once(bought: dict[str, Any], ops: Caller, fake_redis: Redis) -> None:
    path = f"/v1/orders/{bought['id']}"
    assert answered(ops.post(f"{path}/fulfil")) == bought | {"state": "fulfilled", "fulfilled_lines": bought["lines"]}
    assert counters(ops, "tee") == (6, 6, 0, 0)
    before = dump(fake_redis)
    assert answered(ops.post(f"{path}/fulfil"))["state"] == "fulfilled"
    assert answered(ops.get(path))["state"] == "fulfilled"
    assert dump(fake_redis) == before
    refused(ops.post(f"{path}/cancel", {"reason": "too late"}), 409, "invalid_transition")
    assert dump(fake_redis) == before


def test_cancel_puts_the_units_back_once(bought: dict[str, Any], ops: Caller, fake_redis: Redis) -> None:
    path = f"/v1/orders/{bought['id']}"
    cancelled = answered(ops.post(f"{path}/cancel", {"reason": "changed her mind"}))
    assert cancelled == bought | {"state": "cancelled", "cancelled_lines": bought["lines"]}
    assert counters(ops, "tee") == (10, 10, 0, 0)
    before = dump(fake_redis)
    assert answered(ops.post(f"{path}/cancel", {"reason": "changed her mind"})) == cancelled
    refused(ops.post(f"{path}/fulfil"), 409, "invalid_transition")
    assert dump(fake_redis) == before


def test_cancel_of_lines_puts_only_those_back(bought: dict[str, Any], ops: Caller) -> None:
    path = f"/v1/orders/{bought['id']}"
    two_tees = [{"sku": "tee", "quantity": 1}, {"sku": "tee", "quantity": 1}]
    part = answered(ops.post(f"{path}/cancel", {"reason": "two too many", "lines": two_tees}, key="k"))
    assert part == bought | {"cancelled_lines": [{"sku": "tee", "quantity": 2}]}
    assert counters(ops, "tee") == (10, 8, 0, 2)
    assert answered(ops.get(path)) == part
    shipped = answered(ops.post(f"{path}/fulfil"))
    left = [{"sku": "tee", "quantity": 2}, {"sku": "mug", "quantity": 1}]
    assert shipped == part | {"state": "fulfilled", "fulfilled_lines": left}
    assert counters(ops, "tee") == (8, 8, 0, 0)
    assert counters(ops, "mug") == (1, 1, 0, 0)


def test_cancelling_every_line_bit_by_bit_cancels_the_order(bought: dict[str, Any], ops: Caller) -> None:
    path = f"/v1/orders/{bought['id']}/cancel"
    answered(ops.post(path, {"reason": "x", "lines": [{"sku": "tee", "quantity": 4}]}, key="k-1"))
    last = answered(ops.post(path, {"reason": "x", "lines": [{"sku": "mug", "quantity": 1}]}, key="k-2"))
    assert last["state"] == "cancelled"
    assert counters(ops, "mug") == (2, 2, 0, 0)


def test_an_order_is_shipped_in_parts(bought: dict[str, Any], ops: Caller) -> None:
    path = f"/v1/orders/{bought['id']}/fulfil"
    one_tee = {"lines": [{"sku": "tee", "quantity": 1}]}
    first = ops.post(path, one_tee, key="parcel-1")
    assert answered(first) == bought | {"fulfilled_lines": one_tee["lines"]}
    assert counters(ops, "tee") == (9, 6, 0, 3)
    again = ops.post(path, one_tee, key="parcel-1")
    assert (again.data, again.headers["Idempotent-Replayed"]) == (first.data, "true")
    refused(ops.post(path, {"lines": [{"sku": "tee", "quantity": 4}]}, key="parcel-2"), 422, "validation_failed")
    rest = answered(ops.post(path))
    assert (rest["state"], rest["fulfilled_lines"]) == ("fulfilled", bought["lines"])
    assert counters(ops, "tee") == (6, 6, 0, 0)
    refused(ops.post(path, one_tee, key="parcel-3"), 409, "invalid_transition")


def test_one_payment_id_pays_for_one_reservation(stocked: Caller, ann: Caller, bob: Caller, payer: Caller) -> None:
    paid, unpaid = ann.reserve(("tee", 1))["id"], bob.reserve(("tee", 1))["id"]
    answered(payer.post(f"/v1/reservations/{paid}/commit", {"payment_id": "p-1"}))
    path = f"/v1/reservations/{unpaid}/commit"
    refused(payer.post(path, {"payment_id": "p-1"}), 409, "payment_already_used")
    assert answered(bob.get(f"/v1/reservations/{unpaid}"))["state"] == "reserved"
    answered(payer.post(path, {"payment_id": "p-2"}))


def test_a_late_payment_during_a_pause_must_be_refunded(
    stocked: Caller, ann: Caller, payer: Caller, fake_engine: Engine
) -> None:
    held = ann.reserve(("tee", 1), ("mug", 1))["id"]
    _end(fake_engine, ann, held, "released")
    answered(stocked.put("/v1/skus/tee", {"paused": True}))
    problem = refused(payer.post(f"/v1/reservations/{held}/commit", {"payment_id": "p-1"}), 409, "refund_required")
    assert [(line["sku"], line["verdict"]) for line in problem["lines"]] == [("tee", "paused"), ("mug", "ok")]


@pytest.mark.parametrize(("sku", "quantity"), [("tee", 5), ("mug", 2), ("nothing", 1)])
def test_more_than_is_left_in_the_order_cannot_be_cancelled(
    bought: dict[str, Any], ops: Caller, fake_redis: Redis, sku: str, quantity: int
) -> None:
    before = dump(fake_redis)
    lines = [{"sku": "tee", "quantity": 1}, {"sku": sku, "quantity": quantity}]
    response = ops.post(f"/v1/orders/{bought['id']}/cancel", {"reason": "x", "lines": lines}, key="k")
    assert "lines" in refused(response, 422, "validation_failed")["errors"]
    assert dump(fake_redis) == before


def test_a_cancel_of_lines_needs_a_key_because_a_repeat_would_count_twice(
    bought: dict[str, Any], ops: Caller, fake_redis: Redis
) -> None:
    before = dump(fake_redis)
    body = {"reason": "x", "lines": [{"sku": "tee", "quantity": 1}]}
    problem = refused(ops.post(f"/v1/orders/{bought['id']}/cancel", body), 400, "idempotency_key_required")
    assert "Idempotency-Key" in problem["detail"]
    assert dump(fake_redis) == before


def _end(engine: Engine, ann: Caller, held: str, end: str) -> None:
    if end == "released":
        answered(ann.delete(f"/v1/reservations/{held}"))
        return
    run_out(engine, held, "mug")
    if end == "expired":
        assert engine.expiry.sweep(Origin("keeper")).expired == 1
