"""An Idempotency-Key counts on every route that changes state: walked over, so that a new route can't forget it."""

from __future__ import annotations

import pytest
from redis import Redis

from api.route import Route
from engine.engine import Engine
from tests.api.calling import Caller, answered, dump, refused
from tests.api.every_route import CALLS, World, where
from tests.api.every_route import world as world

keyed = where(lambda route: route.idempotent)
keeping = where(lambda route: route.keeps_answer)


@where(lambda route: True)
def test_every_route_that_changes_state_takes_a_key_but_the_webhook(route: Route) -> None:
    assert route.idempotent == (route.method != "GET" and not route.signed)


def meddle(world: World) -> None:
    """What others may do between a call and its repeat."""
    ops, ann, cart = world.callers["ops"], world.callers["ann"], world.ids["cart"]
    answered(ops.put("/v1/skus/tee", {"name": "meddled", "on_hand": 30}))
    answered(ops.put("/v1/selling", {"paused": True, "reason": "meddled"}))
    ann.put(f"/v1/carts/{cart}/lines/tee", {"quantity": 9})
    ann.put(f"/v1/carts/{cart}/lines/mug", {"quantity": 9})


@keyed
def test_a_repeat_gets_the_first_answer_though_others_came_between_and_changes_nothing(
    world: World, fake_redis: Redis, route: Route
) -> None:
    first = world.send(route, key="k")
    assert first.status_code in (200, 201, 204), first.text
    assert "Idempotent-Replayed" not in first.headers
    meddle(world)
    before = dump(fake_redis)
    for _ in range(2):
        again = world.send(route, key="k")
        assert (again.status_code, again.data) == (first.status_code, first.data)
        assert again.headers["Idempotent-Replayed"] == "true"
        for name in ("Location", "Content-Type", "Cache-Control"):
            assert again.headers.get(name) == first.headers.get(name)
    assert dump(fake_redis) == before


@keyed
def test_the_same_key_with_another_request_is_refused_and_changes_nothing(
    world: World, fake_redis: Redis, route: Route
) -> None:
    good = CALLS[route.name]
    assert world.send(route, key="k").status_code in (200, 201, 204)
    before = dump(fake_redis)
    if good.other is not None:
        response = world.send(route, body=good.other, key="k")
    else:
        response = world.callers[good.who].send(route.method, world.filled(good.other_path), key="k")
    problem = refused(response, 422, "idempotency_key_reused")
    assert "Idempotency-Key" in problem["detail"]
    assert dump(fake_redis) == before


@keyed
def test_a_key_that_cannot_be_one_is_refused(world: World, fake_redis: Redis, route: Route) -> None:
    before = dump(fake_redis)
    for key in ("", "x" * 256, "a b", "schlüssel"):
        assert "Idempotency-Key" in refused(world.send(route, key=key), 400, "bad_request")["detail"]
    assert dump(fake_redis) == before


@keeping
def test_a_refusal_is_not_kept(world: World, fake_redis: Redis, route: Route) -> None:
    before = dump(fake_redis)
    assert world.send(route, query="x=1", key="k").status_code == 422
    assert dump(fake_redis) == before
    assert "Idempotent-Replayed" not in world.send(route, key="k").headers


@keeping
def test_a_kept_answer_lives_as_long_as_the_settings_say(
    world: World, fake_engine: Engine, fake_redis: Redis, route: Route
) -> None:
    before = set(fake_redis.keys("stk:{p0}:op:*"))
    world.send(route, key="k")
    kept = set(fake_redis.keys("stk:{p0}:op:*")) - before
    assert kept
    for key in kept:
        left_ms: int = fake_redis.pttl(key)
        assert 0 <= fake_engine.settings.retain_ms - left_ms < 60_000


def guests_cart(guest: Caller, *skus: str) -> str:
    path = str(guest.post("/v1/carts").headers["Location"])
    for sku in skus:
        answered(guest.put(f"{path}/lines/{sku}", {"quantity": 1}))
    return path


def test_a_guest_s_key_belongs_to_the_cart_in_the_path(stocked: Caller, guest: Caller, fake_redis: Redis) -> None:
    mine, other = guests_cart(guest), guests_cart(guest)
    first = guest.put(f"{mine}/lines/tee", {"quantity": 2}, key="k")
    assert answered(guest.put(f"{other}/lines/mug", {"quantity": 1}, key="k"))["lines"][0]["sku"] == "mug"
    answered(guest.delete(f"{mine}/lines/tee"))
    before = dump(fake_redis)
    again = guest.put(f"{mine}/lines/tee", {"quantity": 2}, key="k")
    assert (again.data, again.headers["Idempotent-Replayed"]) == (first.data, "true")
    refused(guest.put(f"{mine}/lines/tee", {"quantity": 3}, key="k"), 422, "idempotency_key_reused")
    refused(guest.delete(f"{mine}/lines/tee", key="k"), 422, "idempotency_key_reused")
    assert dump(fake_redis) == before


def test_a_deleted_cart_stays_deleted_and_its_repeat_is_answered(guest: Caller) -> None:
    path = guests_cart(guest)
    for replayed in (None, "true"):
        response = guest.delete(path, key="k")
        assert (response.status_code, response.data) == (204, b"")
        assert response.headers.get("Idempotent-Replayed") == replayed
    refused(guest.delete(path), 404, "not_found")


@pytest.mark.parametrize("written", ["gr%C3%B6%C3%9Fe", "gro%CC%88%C3%9Fe", "%67r%c3%b6%c3%9fe"])
def test_a_path_written_in_another_way_is_the_same_request(stocked: Caller, fake_redis: Redis, written: str) -> None:
    first = stocked.put("/v1/skus/gr%C3%B6%C3%9Fe", {"on_hand": 1}, key="k")
    again = stocked.put(f"/v1/skus/{written}", {"on_hand": 1}, key="k")
    assert (again.status_code, again.data) == (201, first.data)
    assert again.headers["Idempotent-Replayed"] == "true"
