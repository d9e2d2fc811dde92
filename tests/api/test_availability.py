from __future__ import annotations

from datetime import datetime

import pytest

from engine.engine import Engine
from tests.api.calling import Caller, answered, refused, run_out

FIELDS = {"sku", "available", "status", "next_release_at", "as_of"}


@pytest.mark.parametrize(
    ("attributes", "status"),
    [
        ({}, "available"),
        ({"on_hand": 0}, "sold_out"),
        ({"paused": True}, "paused"),
        ({"sale_starts_at": "2126-01-01T00:00:00Z"}, "not_started"),
        ({"sale_ends_at": "2001-01-01T00:00:00Z"}, "ended"),
        ({"sale_starts_at": "2001-01-01T00:00:00Z", "sale_ends_at": "2126-01-01T00:00:00Z"}, "available"),
    ],
)
def test_a_buyer_sees_why_a_sku_can_be_had_or_not(
    stocked: Caller, guest: Caller, attributes: dict[str, object], status: str
) -> None:
    shown = answered(stocked.put("/v1/skus/tee", attributes))
    seen = answered(guest.get("/v1/availability/tee"))
    assert set(seen) == FIELDS
    assert (seen["sku"], seen["available"], seen["status"]) == ("tee", shown["available"], status)
    assert seen["next_release_at"] is None
    assert datetime.fromisoformat(seen["as_of"]).tzinfo is not None


def test_a_sku_whose_last_units_are_held_is_all_held_until_the_first_of_them_ends(
    stocked: Caller, guest: Caller, ann: Caller, bob: Caller
) -> None:
    ann.reserve(("mug", 1), hold_seconds=900)
    soonest = bob.reserve(("mug", 1), hold_seconds=60)
    seen = answered(guest.get("/v1/availability/mug"))
    assert (seen["available"], seen["status"], seen["next_release_at"]) == (0, "all_held", soonest["expires_at"])


def test_a_sku_whose_last_units_are_paid_for_is_sold_out(
    stocked: Caller, guest: Caller, ann: Caller, payer: Caller
) -> None:
    held = ann.reserve(("mug", 2))
    answered(payer.post(f"/v1/reservations/{held['id']}/commit", {"payment_id": "p"}))
    assert answered(guest.get("/v1/availability/mug"))["status"] == "sold_out"


def test_the_global_stop_pauses_every_sku(stocked: Caller, guest: Caller) -> None:
    answered(stocked.put("/v1/selling", {"paused": True, "reason": "recall"}))
    assert answered(guest.get("/v1/availability/tee"))["status"] == "paused"


def test_holds_whose_time_has_run_out_are_not_in_a_buyer_s_way(
    stocked: Caller, guest: Caller, ann: Caller, fake_engine: Engine
) -> None:
    held = ann.reserve(("mug", 2))
    run_out(fake_engine, held["id"], "mug")
    seen = answered(guest.get("/v1/availability/mug"))
    assert (seen["available"], seen["status"]) == (2, "available")


def test_many_skus_are_asked_for_at_once_and_an_unknown_one_is_an_item(stocked: Caller, guest: Caller) -> None:
    seen = answered(guest.get("/v1/availability?sku=tee&sku=nothing&sku=mug&sku=tee"))
    assert set(seen) == {"items"}
    assert [(item["sku"], item["status"]) for item in seen["items"]] == [
        ("tee", "available"),
        ("nothing", "unknown_sku"),
        ("mug", "available"),
        ("tee", "available"),
    ]
    assert all(set(item) == FIELDS for item in seen["items"])
    many = "&".join(f"sku=s{number}" for number in range(500))
    assert len(answered(guest.get(f"/v1/availability?{many}"))["items"]) == 500


@pytest.mark.parametrize("name", ["", "a++b", "+", ".", "%C2%A0", "%00", "x" * 129])
def test_a_name_that_cannot_be_a_sku_is_an_unknown_item_of_a_list(stocked: Caller, guest: Caller, name: str) -> None:
    seen = answered(guest.get(f"/v1/availability?sku={name}&sku=tee"))["items"]
    assert [item["status"] for item in seen] == ["unknown_sku", "available"]
    assert all(set(item) == FIELDS for item in seen)


def test_an_unknown_sku_is_not_found(guest: Caller) -> None:
    refused(guest.get("/v1/availability/nothing"), 404, "not_found")
