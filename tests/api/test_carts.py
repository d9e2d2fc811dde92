from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from redis import Redis

from engine.engine import Engine
from engine.ids import is_reservation_id
from tests.api.calling import Caller, answered, counters, dump, refused, run_out

UNKNOWN = "/v1/carts/0123456789ABCDEFabcdef"


def cart(caller: Caller, *lines: tuple[str, int]) -> str:
    """The path of a new cart of the caller's with these lines."""
    path = f"/v1/carts/{answered(caller.post('/v1/carts'), 201)['id']}"
    for sku, quantity in lines:
        answered(caller.put(f"{path}/lines/{sku}", {"quantity": quantity}))
    return path


def checked_out(caller: Caller, path: str, **body: Any) -> dict[str, Any]:
    return answered(caller.post(f"{path}/checkout", body), 201)


def seconds_held(reservation: dict[str, Any]) -> float:
    held = datetime.fromisoformat(reservation["expires_at"]) - datetime.fromisoformat(reservation["created_at"])
    return held / timedelta(seconds=1)


def started_earlier(engine: Engine, reservation_id: str, seconds: int) -> None:
    """Move a hold's start into the past."""
    created_ms = engine.store.now_ms() - seconds * 1000
    engine.store.redis.hset(engine.store.keys.reservation(reservation_id), "created_ms", created_ms)


def stock(redis: Redis) -> dict[str, Any]:
    """Everything in Redis but carts."""
    return {key: value for key, value in dump(redis).items() if not key.startswith(("stk:cart:", "stk:guest_carts"))}


@pytest.mark.parametrize("who", ["guest", "ann", "shop"])
def test_a_cart_is_made_filled_shown_changed_and_forgotten(
    stocked: Caller, fake_redis: Redis, request: pytest.FixtureRequest, who: str
) -> None:
    caller: Caller = request.getfixturevalue(who)
    before = stock(fake_redis)
    response = caller.post("/v1/carts")
    made = answered(response, 201)
    assert made == {"id": made["id"], "lines": []}
    assert is_reservation_id(made["id"])
    path = f"/v1/carts/{made['id']}"
    assert response.headers["Location"] == path
    assert answered(caller.get(path)) == made
    tee = {"sku": "tee", "quantity": 3, "available": 10, "status": "available", "fulfillable": True}
    mug = {"sku": "mug", "quantity": 2, "available": 2, "status": "available", "fulfillable": True}
    assert answered(caller.put(f"{path}/lines/tee", {"quantity": 7}))["lines"] == [tee | {"quantity": 7}]
    assert answered(caller.put(f"{path}/lines/mug", {"quantity": 2}))["lines"] == [tee | {"quantity": 7}, mug]
    filled = answered(caller.put(f"{path}/lines/tee", {"quantity": 3}))
    assert filled == {"id": made["id"], "lines": [tee, mug]}
    assert answered(caller.get(path)) == filled
    assert answered(caller.delete(f"{path}/lines/tee")) == {"id": made["id"], "lines": [mug]}
    assert answered(caller.delete(f"{path}/lines/tee"))["lines"] == [mug]
    gone = caller.delete(path)
    assert (gone.status_code, gone.data, "Content-Type" in gone.headers) == (204, b"", False)
    assert gone.headers["X-Request-Id"]
    for response in (caller.get(path), caller.delete(path), caller.put(f"{path}/lines/tee", {"quantity": 1})):
        refused(response, 404, "not_found")
    assert stock(fake_redis) == before


def test_every_use_of_a_cart_renews_its_time(
    stocked: Caller, guest: Caller, fake_engine: Engine, fake_redis: Redis
) -> None:
    path = cart(guest, ("tee", 1))
    key, whole_ms = fake_engine.store.keys.cart(path.rpartition("/")[2]), fake_engine.settings.guest_cart_ttl_ms
    line, two = f"{path}/lines/tee", {"quantity": 2}
    for method, used, body in (("GET", path, None), ("PUT", line, two), ("DELETE", f"{path}/lines/mug", None)):
        fake_redis.pexpire(key, 1_000)
        answered(guest.send(method, used, json=body))
        left_ms: Any = fake_redis.pttl(key)
        assert whole_ms - 60_000 < left_ms <= whole_ms


def test_a_cart_says_early_what_cannot_be_had(stocked: Caller, ann: Caller, bob: Caller) -> None:
    for sku, attributes in {
        "held": {"on_hand": 1},
        "gone": {"on_hand": 0},
        "limited": {"on_hand": 9, "limit_per_customer": 2},
        "paused": {"on_hand": 1, "paused": True},
        "later": {"on_hand": 1, "sale_starts_at": "2126-01-01T00:00:00Z"},
        "over": {"on_hand": 1, "sale_ends_at": "2001-01-01T00:00:00Z"},
    }.items():
        answered(stocked.put(f"/v1/skus/{sku}", attributes), 201)
    bob.reserve(("held", 1))
    wanted = {"tee": 10, "mug": 3, "held": 1, "gone": 1, "nothing": 1, "limited": 3, "paused": 1, "later": 1, "over": 1}
    shown = answered(ann.get(cart(ann, *wanted.items())))
    assert [tuple(line.values()) for line in shown["lines"]] == [
        ("tee", 10, 10, "available", True),
        ("mug", 3, 2, "available", False),
        ("held", 1, 0, "all_held", False),
        ("gone", 1, 0, "sold_out", False),
        ("nothing", 1, 0, "unknown_sku", False),
        ("limited", 3, 9, "available", False),
        ("paused", 1, 1, "paused", False),
        ("later", 1, 1, "not_started", False),
        ("over", 1, 1, "ended", False),
    ]
    answered(stocked.put("/v1/selling", {"paused": True, "reason": "stop"}))
    (line,) = answered(ann.get(cart(ann, ("tee", 1))))["lines"]
    assert (line["status"], line["fulfillable"]) == ("paused", False)


def test_what_the_cart_s_own_hold_has_counts_as_free_for_it(stocked: Caller, ann: Caller) -> None:
    answered(stocked.put("/v1/skus/mug", {"limit_per_customer": 2}))
    path = cart(ann, ("tee", 10), ("mug", 2))
    held = checked_out(ann, path)
    assert [line["fulfillable"] for line in answered(ann.get(path))["lines"]] == [True, True]
    too_many = answered(ann.put(f"{path}/lines/tee", {"quantity": 11}))["lines"][0]
    assert (too_many["available"], too_many["status"], too_many["fulfillable"]) == (0, "all_held", False)
    other = answered(ann.get(cart(ann, ("tee", 1))))["lines"][0]
    assert (other["status"], other["fulfillable"]) == ("all_held", False)
    answered(ann.delete(f"/v1/reservations/{held['id']}"))
    assert answered(ann.get(path))["lines"][0]["available"] == 10


def test_a_cart_has_at_most_200_lines(stocked: Caller, ann: Caller, fake_engine: Engine, fake_redis: Redis) -> None:
    path = cart(ann, ("tee", 1))
    key = fake_engine.store.keys.cart(path.rpartition("/")[2])
    fake_redis.hset(key, mapping={f"sku:s{number}": 1 for number in range(199)})
    before = dump(fake_redis)
    problem = refused(ann.put(f"{path}/lines/mug", {"quantity": 1}), 422, "validation_failed")
    assert problem["errors"]["sku"]
    after = dump(fake_redis)
    assert {key: value for key, (value, _) in after.items()} == {key: value for key, (value, _) in before.items()}
    assert len(answered(ann.put(f"{path}/lines/tee", {"quantity": 2}))["lines"]) == 200
    answered(ann.delete(f"{path}/lines/s0"))
    assert len(answered(ann.put(f"{path}/lines/mug", {"quantity": 1}))["lines"]) == 200


@pytest.mark.parametrize(
    ("options", "seconds"),
    [({}, 900), ({"json": {}}, 900), ({"json": {"hold_seconds": 60}}, 60), ({"data": b""}, 900)],
    ids=repr,
)
def test_a_checkout_is_a_reservation_of_every_line(
    stocked: Caller, ann: Caller, options: dict[str, Any], seconds: int
) -> None:
    path = cart(ann, ("tee", 3), ("mug", 2))
    response = ann.send("POST", f"{path}/checkout", **options)
    made = answered(response, 201)
    assert set(made) == {"id", "state", "lines", "user", "created_at", "expires_at"}
    assert (made["state"], made["user"]) == ("reserved", "ann")
    assert made["lines"] == [{"sku": "tee", "quantity": 3}, {"sku": "mug", "quantity": 2}]
    assert seconds_held(made) == seconds
    assert response.headers["Location"] == f"/v1/reservations/{made['id']}"
    assert "Idempotent-Replayed" not in response.headers
    assert answered(ann.get(response.headers["Location"])) == made
    assert counters(stocked, "tee") == (10, 7, 3, 0)


def test_an_empty_cart_cannot_be_checked_out(stocked: Caller, ann: Caller, guest: Caller, fake_redis: Redis) -> None:
    emptied = cart(ann, ("tee", 1))
    answered(ann.delete(f"{emptied}/lines/tee"))
    for path in (emptied, cart(ann), cart(guest)):
        before = dump(fake_redis)
        refused(ann.post(f"{path}/checkout"), 422, "empty_cart")
        assert dump(fake_redis) == before


def test_only_a_token_can_start_a_checkout(stocked: Caller, guest: Caller, fake_redis: Redis) -> None:
    path = cart(guest, ("tee", 1))
    before = dump(fake_redis)
    refused(guest.post(f"{path}/checkout"), 401, "unauthenticated")
    assert dump(fake_redis) == before


def test_a_guest_s_cart_is_anybody_s_who_knows_it_until_a_checkout_binds_it(
    stocked: Caller, guest: Caller, ann: Caller, bob: Caller, fake_redis: Redis
) -> None:
    path = cart(guest, ("tee", 1))
    for caller in (guest, ann, bob):
        answered(caller.get(path))
    assert answered(bob.put(f"{path}/lines/mug", {"quantity": 1}))["id"] == path.rpartition("/")[2]
    assert checked_out(ann, path)["user"] == "ann"
    assert answered(ann.get(path))["lines"]
    before = dump(fake_redis)
    for stranger in (guest, bob):
        for response in (
            stranger.get(path),
            stranger.put(f"{path}/lines/tee", {"quantity": 9}),
            stranger.delete(f"{path}/lines/tee"),
            stranger.delete(path),
        ):
            assert refused(response, 404, "not_found") == refused(stranger.get(UNKNOWN), 404, "not_found")
    refused(bob.post(f"{path}/checkout"), 404, "not_found")
    assert dump(fake_redis) == before


def test_a_user_s_cart_is_the_user_s_alone_from_the_start(
    stocked: Caller, guest: Caller, ann: Caller, bob: Caller, shop: Caller, fake_redis: Redis
) -> None:
    path = cart(ann, ("tee", 1))
    before = dump(fake_redis)
    for stranger in (guest, bob, shop):
        refused(stranger.get(path), 404, "not_found")
        refused(stranger.delete(path), 404, "not_found")
    assert dump(fake_redis) == before
    for_ann = {"Stockade-User": "ann"}
    answered(shop.get(path, headers=for_ann))
    made = answered(shop.post(f"{path}/checkout", headers=for_ann), 201)
    assert made["user"] == "ann"
    event = answered(stocked.get(f"/v1/audit?reservation_id={made['id']}"))["items"][0]
    assert (event["op"], event["actor"], event["user"]) == ("reserve", "shop", "ann")


def test_a_refused_checkout_has_a_verdict_for_every_line_and_takes_nothing(
    stocked: Caller, ann: Caller, fake_redis: Redis
) -> None:
    path = cart(ann, ("tee", 1), ("mug", 3), ("nothing", 1))
    before = stock(fake_redis)
    problem = refused(ann.post(f"{path}/checkout", key="k"), 409, "lines_unavailable")
    assert [(line["sku"], line["verdict"], line["max_reservable"]) for line in problem["lines"]] == [
        ("tee", "ok", 10),
        ("mug", "insufficient", 2),
        ("nothing", "unknown_sku", 0),
    ]
    assert "standing_reservation" not in problem
    assert stock(fake_redis) == before
    answered(ann.put(f"{path}/lines/mug", {"quantity": 2}))
    answered(ann.delete(f"{path}/lines/nothing"))
    assert len(answered(ann.post(f"{path}/checkout", key="k"), 201)["lines"]) == 2


def test_a_second_checkout_replaces_the_first_and_keeps_its_start(
    stocked: Caller, ann: Caller, fake_engine: Engine
) -> None:
    path = cart(ann, ("tee", 8), ("mug", 1))
    first = checked_out(ann, path)
    started_earlier(fake_engine, first["id"], 600)
    first = answered(ann.get(f"/v1/reservations/{first['id']}"))
    answered(ann.put(f"{path}/lines/tee", {"quantity": 10}))
    answered(ann.delete(f"{path}/lines/mug"))
    second = checked_out(ann, path)
    assert second["id"] != first["id"]
    assert second["lines"] == [{"sku": "tee", "quantity": 10}]
    assert second["created_at"] == first["created_at"]
    assert seconds_held(second) == 900
    assert answered(ann.get(f"/v1/reservations/{first['id']}"))["state"] == "released"
    assert counters(stocked, "tee") == (10, 0, 10, 0)
    assert counters(stocked, "mug") == (2, 2, 0, 0)
    shorter = checked_out(ann, path, hold_seconds=30)
    assert shorter["created_at"] == first["created_at"]
    assert 600 <= seconds_held(shorter) - 30 < 660
    events = answered(stocked.get("/v1/audit?user=ann"))["items"]
    assert [(event["op"], event["reason"]) for event in events] == [
        ("reserve", ""),
        ("release", "replaced"),
        ("reserve", ""),
        ("release", "replaced"),
        ("reserve", ""),
    ]


def test_a_refused_second_checkout_leaves_the_first_standing(
    stocked: Caller, ann: Caller, bob: Caller, fake_redis: Redis
) -> None:
    path = cart(ann, ("tee", 8))
    first = checked_out(ann, path)
    bob.reserve(("tee", 1))
    answered(ann.put(f"{path}/lines/tee", {"quantity": 10}))
    before = stock(fake_redis)
    problem = refused(ann.post(f"{path}/checkout"), 409, "lines_unavailable")
    assert problem["standing_reservation"] == first["id"]
    assert [(line["available"], line["verdict"]) for line in problem["lines"]] == [(9, "insufficient")]
    assert stock(fake_redis) == before
    assert answered(ann.get(f"/v1/reservations/{first['id']}")) == first
    answered(ann.put(f"{path}/lines/tee", {"quantity": 9}))
    assert checked_out(ann, path)["created_at"] == first["created_at"]


@pytest.mark.parametrize("end", ["released", "ran out", "paid"])
def test_a_checkout_after_the_first_one_has_ended_starts_anew(
    stocked: Caller, ann: Caller, payer: Caller, fake_engine: Engine, end: str
) -> None:
    path = cart(ann, ("tee", 8))
    first = checked_out(ann, path)
    started_earlier(fake_engine, first["id"], 600)
    reservation = f"/v1/reservations/{first['id']}"
    if end == "released":
        answered(ann.delete(reservation))
    elif end == "paid":
        answered(payer.post(f"{reservation}/commit", {"payment_id": "p"}))
        answered(ann.put(f"{path}/lines/tee", {"quantity": 2}))
    else:
        run_out(fake_engine, first["id"], "tee")
    second = checked_out(ann, path)
    assert second["created_at"] >= first["created_at"]
    assert seconds_held(second) == 900
    ended = {"released": "released", "ran out": "expired", "paid": "committed"}[end]
    assert answered(ann.get(reservation))["state"] == ended


def test_two_carts_of_one_user_are_two_checkouts(stocked: Caller, ann: Caller) -> None:
    first, second = (checked_out(ann, cart(ann, ("tee", 5))) for _ in range(2))
    assert first["id"] != second["id"]
    assert counters(stocked, "tee") == (10, 0, 10, 0)


def test_a_repeated_checkout_gets_the_first_answer_and_changes_nothing(
    stocked: Caller, ann: Caller, fake_redis: Redis
) -> None:
    path = cart(ann, ("tee", 3))
    first = ann.post(f"{path}/checkout", {"hold_seconds": 60}, key="k")
    answered(first, 201)
    assert "Idempotent-Replayed" not in first.headers
    answered(ann.put(f"{path}/lines/tee", {"quantity": 5}))
    before = dump(fake_redis)
    again = ann.post(f"{path}/checkout", {"hold_seconds": 60}, key="k")
    assert (again.status_code, again.data) == (201, first.data)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    refused(ann.post(f"{path}/checkout", {"hold_seconds": 61}, key="k"), 422, "idempotency_key_reused")
    refused(ann.post(f"{cart(ann)}/checkout", {"hold_seconds": 60}, key="k"), 422, "idempotency_key_reused")
    outside = ("stk:cart:", "stk:guest_carts")
    assert stock(fake_redis) == {key: value for key, value in before.items() if not key.startswith(outside)}
    second = answered(ann.post(f"{path}/checkout", {"hold_seconds": 60}, key="k-2"), 201)
    assert second["lines"] == [{"sku": "tee", "quantity": 5}]
    replaced = answered(ann.post(f"{path}/checkout", {"hold_seconds": 60}, key="k"), 201)
    assert replaced == answered(first, 201) | {"state": "released"}
    assert counters(stocked, "tee") == (10, 5, 5, 0)


def test_a_user_s_repeated_cart_is_the_same_one_and_a_guest_s_key_is_refused(
    ann: Caller, bob: Caller, guest: Caller, shop: Caller
) -> None:
    first = ann.post("/v1/carts", key="k")
    path = f"/v1/carts/{answered(first, 201)['id']}"
    assert "Idempotent-Replayed" not in first.headers
    answered(ann.put(f"{path}/lines/tee", {"quantity": 1}))
    again = ann.post("/v1/carts", key="k")
    assert (again.status_code, again.data) == (201, first.data)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Location"] == path
    refused(ann.post("/v1/carts", {"lines": [{"sku": "tee", "quantity": 1}]}, key="k"), 422, "idempotency_key_reused")
    # Guests can't be told apart: one would get another's cart.
    for anybody in (guest, shop):
        assert "Idempotency-Key" in refused(anybody.post("/v1/carts", key="k"), 400, "bad_request")["detail"]
    others = [bob.post("/v1/carts", key="k"), guest.post("/v1/carts"), guest.post("/v1/carts")]
    others += [shop.post("/v1/carts", key="k", headers={"Stockade-User": user}) for user in ("ann", "bob")]
    others += [ann.post("/v1/carts", key="k-2"), ann.post("/v1/carts")]
    ids = {answered(response, 201)["id"] for response in [first, *others]}
    assert len(ids) == 1 + len(others)
    assert not any("Idempotent-Replayed" in response.headers for response in others)


def test_what_was_bought_is_out_of_the_cart_and_what_came_in_since_stays(
    stocked: Caller, ann: Caller, payer: Caller
) -> None:
    path = cart(ann, ("tee", 3), ("mug", 1))
    commit = f"/v1/reservations/{checked_out(ann, path)['id']}/commit"
    answered(ann.put(f"{path}/lines/tee", {"quantity": 4}))
    answered(ann.put(f"{path}/lines/cap", {"quantity": 1}))
    for _ in range(2):
        answered(payer.post(commit, {"payment_id": "p"}))
        shown = answered(ann.get(path))["lines"]
        assert [(line["sku"], line["quantity"]) for line in shown] == [("tee", 1), ("cap", 1)]


def test_a_cart_that_was_bought_whole_is_empty_and_stays_the_buyer_s(
    stocked: Caller, guest: Caller, ann: Caller, payer: Caller
) -> None:
    path = cart(guest, ("tee", 3))
    reservation = checked_out(ann, path)["id"]
    answered(payer.post(f"/v1/reservations/{reservation}/commit", {"payment_id": "p"}))
    assert answered(ann.get(path))["lines"] == []
    refused(guest.get(path), 404, "not_found")
    refused(ann.post(f"{path}/checkout"), 422, "empty_cart")


@pytest.mark.parametrize("who", ["guest", "ann"])
def test_a_cart_is_made_with_lines_and_all_of_them_are_set_at_once(
    stocked: Caller, request: pytest.FixtureRequest, who: str
) -> None:
    caller: Caller = request.getfixturevalue(who)
    asked = [("tee", 1), ("mug", 1), ("tee", 2)]
    made = caller.post("/v1/carts", {"lines": [{"sku": sku, "quantity": units} for sku, units in asked]})
    path = made.headers["Location"]
    shown = answered(made, 201)
    assert [(line["sku"], line["quantity"], line["fulfillable"]) for line in shown["lines"]] == [
        ("tee", 3, True),
        ("mug", 1, True),
    ]
    assert answered(caller.get(path)) == shown
    for lines in ([("mug", 2)], [], [("tee", 1), ("cap", 1)]):
        body = {"lines": [{"sku": sku, "quantity": units} for sku, units in lines]}
        shown = answered(caller.put(path, body))
        assert [(line["sku"], line["quantity"]) for line in shown["lines"]] == lines
        assert answered(caller.get(path)) == shown
    refused(caller.put(UNKNOWN, {"lines": []}), 404, "not_found")


LINE = {"sku": "tee", "quantity": 1}


@pytest.mark.parametrize(
    "lines",
    [
        *(None, {}, "tee", 1, [None], [[]], ["tee"], [{}], [{"sku": "tee"}], [{"quantity": 1}], [LINE | {"x": 1}]),
        *([LINE | {"quantity": wrong}] for wrong in (0, -1, 1.5, "1", True, None, 1_000_001)),
        *([LINE | {"sku": wrong}] for wrong in ("", " tee", "a\nb", 1, None)),
        *([LINE, LINE | {"quantity": 0}], [LINE] * 201),
    ],
    ids=lambda lines: str(lines)[:40],
)
def test_wrong_lines_are_refused_as_those_of_a_reservation_and_make_no_cart(
    stocked: Caller, guest: Caller, ann: Caller, fake_redis: Redis, lines: Any
) -> None:
    path = cart(ann, ("tee", 1))
    before = dump(fake_redis)
    as_reservation = refused(ann.post("/v1/reservations", {"lines": lines}), 422, "validation_failed")
    for response in (
        guest.post("/v1/carts", {"lines": lines}),
        ann.post("/v1/carts", {"lines": lines}, key="k"),
        ann.put(path, {"lines": lines}),
    ):
        problem = refused(response, 422, "validation_failed")
        assert problem["errors"].keys() == as_reservation["errors"].keys()
    assert dump(fake_redis) == before
    answered(ann.post("/v1/carts", {"lines": [LINE]}, key="k"), 201)


def test_a_cart_is_not_made_with_no_lines_and_a_body_has_nothing_but_lines(
    guest: Caller, ann: Caller, fake_redis: Redis
) -> None:
    path = cart(ann)
    before = dump(fake_redis)
    assert "lines" in refused(guest.post("/v1/carts", {"lines": []}), 422, "validation_failed")["errors"]
    assert "lines" in refused(ann.put(path, {}), 422, "validation_failed")["errors"]
    for body in ({"items": []}, {"lines": [LINE], "hold_seconds": 5}):
        refused(guest.post("/v1/carts", body), 422, "validation_failed")
        refused(ann.put(path, body), 422, "validation_failed")
    assert dump(fake_redis) == before


def test_the_repeat_of_a_cart_with_lines_gives_the_same_cart_and_another_body_is_refused(
    stocked: Caller, ann: Caller, bob: Caller
) -> None:
    body = {"lines": [LINE]}
    first = ann.post("/v1/carts", body, key="k")
    path = first.headers["Location"]
    again = ann.post("/v1/carts", body, key="k")
    assert (again.status_code, again.data, again.headers["Location"]) == (201, first.data, path)
    assert ("Idempotent-Replayed" in first.headers, again.headers["Idempotent-Replayed"]) == (False, "true")
    for other in (None, {"lines": [LINE | {"quantity": 2}]}):
        refused(ann.post("/v1/carts", other, key="k"), 422, "idempotency_key_reused")
    assert len(answered(ann.get(path))["lines"]) == 1
    assert bob.post("/v1/carts", {"lines": [LINE | {"quantity": 2}]}, key="k").headers["Location"] != path


def test_a_guest_s_cart_too_many_is_429_until_a_checkout_makes_room(
    stocked: Caller, guest: Caller, ann: Caller, fake_engine: Engine, fake_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(fake_engine.settings.__dict__, "most_guest_carts", 2)
    empty, first = cart(guest), cart(guest, ("tee", 1))
    cart(guest, ("tee", 1))
    before = dump(fake_redis)
    for response in (
        guest.post("/v1/carts", {"lines": [LINE]}),
        guest.put(f"{empty}/lines/tee", {"quantity": 1}),
        guest.put(empty, {"lines": [LINE]}),
    ):
        assert "token" in refused(response, 429, "too_many_requests")["detail"]
        assert 1 <= int(response.headers["Retry-After"]) <= 60
    assert dump(fake_redis) == before
    assert answered(guest.get(empty))["lines"] == []
    assert answered(ann.post("/v1/carts", {"lines": [LINE]}), 201)["lines"]
    checked_out(ann, first)
    assert answered(guest.put(f"{empty}/lines/tee", {"quantity": 1}))["lines"]


@pytest.mark.parametrize("how", ["cart", "last line", "all lines"])
def test_emptying_or_deleting_a_cart_releases_its_live_reservation(stocked: Caller, ann: Caller, how: str) -> None:
    path = cart(ann, ("tee", 3))
    reservation = checked_out(ann, path)["id"]
    if how == "cart":
        assert ann.delete(path).status_code == 204
    elif how == "last line":
        answered(ann.delete(f"{path}/lines/tee"))
    else:
        answered(ann.put(path, {"lines": []}))
    assert answered(ann.get(f"/v1/reservations/{reservation}"))["state"] == "released"
    assert counters(stocked, "tee") == (10, 10, 0, 0)


def test_a_deleted_cart_s_reservation_can_still_be_paid_if_its_stock_is_free(
    stocked: Caller, ann: Caller, payer: Caller
) -> None:
    path = cart(ann, ("tee", 3))
    reservation = checked_out(ann, path)["id"]
    assert ann.delete(path).status_code == 204
    answered(payer.post(f"/v1/reservations/{reservation}/commit", {"payment_id": "p"}))
    refused(ann.get(path), 404, "not_found")
    assert counters(stocked, "tee") == (10, 7, 0, 3)


def test_behind_a_closed_gate_no_cart_can_be_checked_out(stocked: Caller, ann: Caller, fake_redis: Redis) -> None:
    path = cart(ann, ("tee", 3))
    fake_redis.hset("stk:{p0}:meta", "gate", "closed")
    before = stock(fake_redis)
    refused(ann.post(f"{path}/checkout"), 503, "closed")
    assert stock(fake_redis) == before
    answered(ann.get(path))
