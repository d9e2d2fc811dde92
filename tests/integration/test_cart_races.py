"""Hostile and hasty guests on real servers: what they do at once to one cart, and to the number of carts."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial

import pytest

from engine.carts import Carts
from engine.engine import Engine
from engine.ids import CartIds
from engine.values import Line, Operation, Origin
from tests import books
from tests.books import lines
from tests.integration.test_concurrency import race

GUEST, ANN = Origin("guest"), Origin("ann", user="ann")
MOST = 20


@pytest.fixture
def engine(engine: Engine) -> Engine:
    """With room for few carts of guests."""
    given = replace(engine.settings, most_guest_carts=MOST)
    scripts = type(engine.scripts)(engine.store, given, engine.meter)
    carts = Carts(engine.store, scripts, engine.stock, engine.reservations, engine.ids, CartIds(given.id_secret), given)
    engine.stock.configure("a", 500, {}, Origin("ops"), Operation())
    return replace(engine, settings=given, scripts=scripts, carts=carts)


def counted(engine: Engine) -> int:
    return int(engine.store.redis.zcard(engine.store.keys.guest_carts))


def kept(engine: Engine) -> int:
    return len(list(engine.store.redis.scan_iter("stk:cart:*")))


def test_first_lines_put_at_once_are_all_in_one_cart(engine: Engine) -> None:
    for origin in (GUEST, ANN):
        for _ in range(10):
            cart_id = engine.carts.create(origin).id
            asked = [Line(f"s{number}", 1) for number in range(8)]
            assert race([partial(engine.carts.put_line, cart_id, origin, line) for line in asked]) == ["Cart"] * 8
            assert {line.sku for line in engine.carts.get(cart_id, origin).lines} == {line.sku for line in asked}
    assert counted(engine) == 10


def test_guests_who_come_at_once_get_as_many_carts_as_there_may_be(engine: Engine) -> None:
    made = race([partial(engine.carts.create, GUEST, lines("a=1"))] * (3 * MOST))
    assert Counter(made) == {"Cart": MOST, "too_many_requests": 2 * MOST}
    assert (counted(engine), kept(engine)) == (MOST, MOST)


def test_a_guest_who_makes_and_deletes_carts_at_once_gets_no_more_keys_than_there_may_be(engine: Engine) -> None:
    def make_and_delete() -> object:
        cart = engine.carts.create(GUEST, lines("a=1"))
        return engine.carts.delete(cart.id, GUEST) or cart

    race([make_and_delete] * (2 * MOST))
    race([lambda: engine.carts.delete(engine.carts.create(GUEST).id, GUEST)] * MOST)
    assert (counted(engine), kept(engine)) == (MOST, MOST)


def test_a_cart_that_is_deleted_while_lines_are_put_stays_deleted(engine: Engine) -> None:
    for number in range(MOST):
        cart_id = engine.carts.create(GUEST).id
        if number % 2:
            engine.carts.put_line(cart_id, GUEST, Line("b", 1))
        calls = [partial(engine.carts.put_line, cart_id, GUEST, Line(f"s{n}", 1)) for n in range(3)]
        calls += [partial(engine.carts.set_lines, cart_id, GUEST, lines("a=2"))]
        outcomes = race([*calls, partial(engine.carts.delete, cart_id, GUEST)])
        assert outcomes[-1] in ("NoneType", "not_found")
        assert set(outcomes[:-1]) <= {"Cart", "not_found"}
        assert race([partial(engine.carts.get, cart_id, GUEST)]) == ["not_found"]
        assert engine.store.redis.hgetall(engine.store.keys.cart(cart_id)) == {"deleted": "1"}
    assert counted(engine) == MOST


def test_a_cart_that_is_emptied_or_deleted_while_it_is_checked_out_leaves_no_hold(engine: Engine) -> None:
    for number in range(30):
        cart_id = engine.carts.create(ANN, lines("a=2")).id
        end = (
            partial(engine.carts.delete, cart_id, ANN)
            if number % 2
            else partial(engine.carts.put_line, cart_id, ANN, Line("a", 0))
        )
        outcomes = race([partial(engine.carts.checkout, cart_id, ANN, 900), end] * 2)
        assert set(outcomes) <= {"Reservation", "empty_cart", "not_found", "Cart", "NoneType"}
        assert engine.store.redis.zcard(engine.store.keys.deadlines) == 0
    assert books.counters(engine.store, "a") == (500, 0, 0, 500)
    books.assert_right(engine)


def test_calls_with_one_key_at_once_make_one_cart_with_its_lines(engine: Engine) -> None:
    for number in range(10):
        made = partial(engine.carts.create, ANN, lines("a=2 b=1"), f"key{number}", "7")
        assert race([made] * 8) == ["Cart"] * 8
        assert kept(engine) == number + 1
        assert [(line.sku, line.quantity) for line in made().lines] == [("a", 2), ("b", 1)]


def test_every_key_that_guests_leave_ends_by_itself(engine: Engine) -> None:
    before = set(engine.store.redis.scan_iter("*"))
    for number in range(MOST):
        cart_id = engine.carts.create(GUEST, lines("a=1")).id
        if number % 3 == 1:
            engine.carts.delete(cart_id, GUEST)
        if number % 3 == 2:
            engine.carts.checkout(cart_id, ANN, 900)
    redis = engine.store.redis
    left = set(redis.scan_iter("stk:*cart*")) - before
    assert len(left) == MOST + 1
    assert all(redis.pttl(key) > 0 for key in left)
