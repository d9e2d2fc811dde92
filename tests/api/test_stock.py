from __future__ import annotations

from typing import Any

import pytest
from redis import Redis

from tests.api.calling import Caller, answered, dump, refused

PLAIN = {
    "sku": "tee",
    "name": None,
    "on_hand": 10,
    "available": 10,
    "reserved": 0,
    "allocated": 0,
    "limit_per_customer": None,
    "sale_starts_at": None,
    "sale_ends_at": None,
    "paused": False,
}
ATTRIBUTES = {
    "name": "T-shirt, größe M",
    "limit_per_customer": 3,
    "sale_starts_at": "2026-01-01T08:00:00.000Z",
    "sale_ends_at": "2126-01-01T08:00:00.000Z",
    "paused": True,
}


def test_a_new_sku_is_created_and_shown(ops: Caller) -> None:
    assert answered(ops.put("/v1/skus/tee", {"on_hand": 10}), 201) == PLAIN
    assert answered(ops.get("/v1/skus/tee")) == PLAIN


def test_a_new_sku_without_on_hand_has_no_stock(ops: Caller) -> None:
    assert answered(ops.put("/v1/skus/tee", {}), 201) == PLAIN | {"on_hand": 0, "available": 0}


@pytest.mark.parametrize("sku", ["a", "A.b_c:d-9", "x" * 64])
def test_every_sku_of_the_contract_s_form_is_taken(ops: Caller, sku: str) -> None:
    assert answered(ops.put(f"/v1/skus/{sku}", {"on_hand": 1}), 201)["sku"] == sku
    assert answered(ops.get(f"/v1/skus/{sku}"))["sku"] == sku


def test_attributes_are_set_kept_and_cleared_with_null(stocked: Caller) -> None:
    everything = PLAIN | ATTRIBUTES
    assert answered(stocked.put("/v1/skus/tee", ATTRIBUTES)) == everything
    assert answered(stocked.put("/v1/skus/tee", {})) == everything
    assert answered(stocked.put("/v1/skus/tee", {"name": None})) == everything | {"name": None}
    assert answered(stocked.put("/v1/skus/tee", dict.fromkeys(ATTRIBUTES))) == PLAIN


def test_times_of_other_zones_and_precisions_are_shown_in_utc(stocked: Caller) -> None:
    given = {"sale_starts_at": "2026-11-27T09:30:00.1234567+01:30", "sale_ends_at": "9999-12-31t23:59:59z"}
    shown = answered(stocked.put("/v1/skus/tee", given))
    assert shown["sale_starts_at"] == "2026-11-27T08:00:00.123Z"
    assert shown["sale_ends_at"] == "9999-12-31T23:59:59.000Z"


def test_on_hand_of_a_known_sku_is_a_recount_beside_what_is_claimed(stocked: Caller, ann: Caller) -> None:
    ann.reserve(("tee", 4))
    assert answered(stocked.put("/v1/skus/tee", {"on_hand": 7})) == PLAIN | {
        "on_hand": 7,
        "available": 3,
        "reserved": 4,
    }


def test_a_recount_below_the_claims_is_refused(stocked: Caller, ann: Caller, fake_redis: Redis) -> None:
    ann.reserve(("tee", 4))
    before = dump(fake_redis)
    refused(stocked.put("/v1/skus/tee", {"on_hand": 3, "name": "x"}), 409, "stock_below_claims")
    assert dump(fake_redis) == before


def test_a_sale_that_would_end_before_the_start_that_is_known_is_refused(stocked: Caller, fake_redis: Redis) -> None:
    answered(stocked.put("/v1/skus/tee", {"sale_starts_at": "2026-11-27T08:00:00Z"}))
    before = dump(fake_redis)
    late = refused(stocked.put("/v1/skus/tee", {"sale_ends_at": "2026-11-27T07:59:59Z"}), 422, "validation_failed")
    assert "sale_ends_at" in late["errors"]
    assert dump(fake_redis) == before


def test_adjustments_move_available_and_on_hand(stocked: Caller) -> None:
    path = "/v1/skus/tee/adjustments"
    up = answered(stocked.post(path, {"delta": 5, "reason": "delivery"}))
    assert up == PLAIN | {"on_hand": 15, "available": 15}
    down = answered(stocked.post(path, {"delta": -15, "reason": "fire"}))
    assert down == PLAIN | {"on_hand": 0, "available": 0}


def test_more_than_is_available_cannot_be_withdrawn(stocked: Caller, ann: Caller, fake_redis: Redis) -> None:
    ann.reserve(("tee", 4))
    before = dump(fake_redis)
    path = "/v1/skus/tee/adjustments"
    refused(stocked.post(path, {"delta": -7, "reason": "damaged"}), 409, "insufficient_stock")
    too_much = refused(stocked.post(path, {"delta": 1_000_000_000, "reason": "typo"}), 422, "validation_failed")
    assert "delta" in too_much["errors"]
    assert dump(fake_redis) == before


def test_skus_are_listed_by_name_page_by_page(ops: Caller) -> None:
    for sku in ("c", "a", "b", "B"):
        ops.put(f"/v1/skus/{sku}", {"on_hand": 1})
    everything = answered(ops.get("/v1/skus"))
    assert set(everything) == {"items", "next_cursor"}
    assert [item["sku"] for item in everything["items"]] == ["B", "a", "b", "c"]
    assert everything["items"][1] == PLAIN | {"sku": "a", "on_hand": 1, "available": 1}
    assert everything["next_cursor"] is None
    assert _walked(ops, 3) == ["B", "a", "b", "c"]
    assert _walked(ops, 1) == ["B", "a", "b", "c"]
    assert answered(ops.get("/v1/skus?cursor=zzz")) == {"items": [], "next_cursor": None}


def _walked(ops: Caller, limit: int) -> list[str]:
    found: list[str] = []
    cursor: Any = ""
    while cursor is not None:
        query = f"&cursor={cursor}" if cursor else ""
        page = answered(ops.get(f"/v1/skus?limit={limit}{query}"))
        assert len(page["items"]) <= limit
        found += [item["sku"] for item in page["items"]]
        cursor = page["next_cursor"]
    return found
