"""Carts that nobody has signed in for: what they may cost, and what their ids prove."""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis

from engine.engine import Engine
from engine.errors import NotFound, TooManyGuestCarts
from engine.ids import CartIds, random_id
from engine.values import Cart, Line, Operation, Origin
from tests import books
from tests.books import lines
from tests.conftest import opened, settings

OPS, GUEST = Origin("ops"), Origin("guest")
ANN, BOB = Origin("ann", user="ann"), Origin("bob", user="bob")
MOST = 3


@pytest.fixture
def engine(fake_redis: Redis) -> Engine:
    engine = opened(settings(STOCKADE_MOST_GUEST_CARTS=str(MOST)), fake_redis)
    engine.stock.configure("a", 50, {}, OPS, Operation())
    return engine


def in_redis(engine: Engine) -> dict[str, Any]:
    """Everything about carts, and whether it is forgotten some day."""
    keys = ("stk:cart:", "stk:guest_carts")
    return {key: value for key, value in books.dump(engine.store.redis).items() if key.startswith(keys)}


def counted(engine: Engine) -> set[str]:
    return {cart_id for cart_id, _ in engine.store.redis.zscan_iter(engine.store.keys.guest_carts)}


def kept(engine: Engine, origin: Origin = GUEST) -> str:
    return engine.carts.create(origin, lines("a=1")).id


def wanted(cart: Cart) -> dict[str, int]:
    return {line.sku: line.quantity for line in cart.lines}


def issued_ago(engine: Engine, age_ms: int, owner: str = "") -> str:
    return CartIds(engine.settings.id_secret).issue(owner, engine.store.time_ms() - age_ms)


def assert_unknown(engine: Engine, cart_id: str, origin: Origin) -> None:
    """Nobody finds such a cart, and trying leaves nothing."""
    before = books.dump(engine.store.redis)
    for use in (
        lambda: engine.carts.get(cart_id, origin),
        lambda: engine.carts.put_line(cart_id, origin, Line("a", 1)),
        lambda: engine.carts.put_line(cart_id, origin, Line("a", 0)),
        lambda: engine.carts.set_lines(cart_id, origin, lines("a=1")),
        lambda: engine.carts.set_lines(cart_id, origin, ()),
        lambda: engine.carts.delete(cart_id, origin),
        lambda: engine.carts.checkout(cart_id, origin if origin.user else BOB, 900),
    ):
        with pytest.raises(NotFound):
            use()
    assert books.dump(engine.store.redis) == before


@pytest.mark.parametrize("origin", [GUEST, ANN], ids=["guest", "user"])
def test_a_cart_that_never_had_a_line_is_not_kept(engine: Engine, origin: Origin) -> None:
    before = books.dump(engine.store.redis)
    for _ in range(20):
        cart_id = engine.carts.create(origin).id
        for shown in (
            engine.carts.get(cart_id, origin),
            engine.carts.put_line(cart_id, origin, Line("a", 0)),
            engine.carts.set_lines(cart_id, origin, ()),
        ):
            assert (shown.id, shown.lines) == (cart_id, ())
    assert books.dump(engine.store.redis) == before


@pytest.mark.parametrize("origin", [GUEST, ANN], ids=["guest", "user"])
def test_a_cart_gets_its_key_with_its_first_line_and_every_key_ends_some_day(engine: Engine, origin: Origin) -> None:
    cart_id = engine.carts.create(origin).id
    assert wanted(engine.carts.put_line(cart_id, origin, Line("a", 2))) == {"a": 2}
    key, redis = engine.store.keys.cart(cart_id), engine.store.redis
    assert redis.hget(key, "user") == (origin.user or None)
    whole_ms = engine.settings.cart_ttl_ms if origin.user else engine.settings.guest_cart_ttl_ms
    assert whole_ms - 60_000 < redis.pttl(key) <= whole_ms
    assert counted(engine) == (set() if origin.user else {cart_id})
    assert all(is_forgotten for _, is_forgotten in in_redis(engine).values())


def test_an_id_that_was_never_issued_is_not_found(engine: Engine) -> None:
    real = engine.carts.create(GUEST).id
    other_secret = CartIds(b"another secret").issue("", engine.store.time_ms())
    one_off = real[:-1] + ("0" if real[-1] != "0" else "1")
    for forged in (
        random_id(),
        other_secret,
        one_off,
        real[::-1],
        "z" * 22,
        "0" * 22,
        "x",
        "",
        real + "0",
        "{" + real + "}",
    ):
        for origin in (GUEST, ANN):
            assert_unknown(engine, forged, origin)


def test_a_user_s_empty_cart_is_the_user_s_alone(engine: Engine) -> None:
    cart_id = engine.carts.create(ANN).id
    for stranger in (BOB, GUEST):
        assert_unknown(engine, cart_id, stranger)
    assert engine.carts.put_line(cart_id, ANN, Line("a", 1)).lines
    for stranger in (BOB, GUEST):
        assert_unknown(engine, cart_id, stranger)


def test_a_guest_s_empty_cart_is_anybody_s_who_knows_it(engine: Engine) -> None:
    cart_id = engine.carts.create(GUEST).id
    for origin in (ANN, BOB, GUEST):
        assert engine.carts.get(cart_id, origin).lines == ()
    assert engine.carts.put_line(cart_id, ANN, Line("a", 1)).lines
    assert engine.carts.get(cart_id, GUEST).lines
    assert counted(engine) == {cart_id}


@pytest.mark.parametrize("owner", ["", "ann"])
def test_an_empty_cart_ends_with_its_time_and_so_does_one_that_was_kept(engine: Engine, owner: str) -> None:
    origin = ANN if owner else GUEST
    ttl_ms = engine.settings.cart_ttl_ms if owner else engine.settings.guest_cart_ttl_ms
    assert engine.carts.get(issued_ago(engine, ttl_ms - 60_000, owner), origin).lines == ()
    assert_unknown(engine, issued_ago(engine, ttl_ms, owner), origin)


@pytest.mark.parametrize("first_line", [True, False])
@pytest.mark.parametrize("origin", [GUEST, ANN], ids=["guest", "user"])
def test_a_deleted_cart_is_gone_for_good_and_its_mark_ends_after_its_id(
    engine: Engine, origin: Origin, first_line: bool
) -> None:
    cart_id = kept(engine, origin) if first_line else engine.carts.create(origin).id
    engine.carts.delete(cart_id, origin)
    assert_unknown(engine, cart_id, origin)
    key, redis = engine.store.keys.cart(cart_id), engine.store.redis
    assert redis.hgetall(key) == {"deleted": "1"}
    ttl_ms = engine.settings.cart_ttl_ms if origin.user else engine.settings.guest_cart_ttl_ms
    assert ttl_ms < redis.pttl(key) <= ttl_ms + 60_000


def test_a_cart_whose_id_is_old_is_deleted_without_a_mark(engine: Engine) -> None:
    cart_id = issued_ago(engine, 2 * engine.settings.cart_ttl_ms, "ann")
    engine.scripts.put_line(cart_id, "ann", Line("a", 1), "ann", may_make=True)
    engine.carts.delete(cart_id, ANN)
    assert in_redis(engine) == {}
    assert_unknown(engine, cart_id, ANN)


def test_a_cart_of_before_ids_were_issued_goes_on(engine: Engine) -> None:
    cart_id, redis = random_id(), engine.store.redis
    redis.hset(engine.store.keys.cart(cart_id), mapping={"created_ms": 1, "sku:a": 2})
    assert wanted(engine.carts.put_line(cart_id, GUEST, Line("b", 1))) == {"a": 2, "b": 1}
    assert engine.carts.checkout(engine.carts.set_lines(cart_id, GUEST, lines("a=1")).id, ANN, 60).user == "ann"
    engine.carts.delete(cart_id, ANN)
    assert_unknown(engine, cart_id, ANN)


def test_guests_cannot_have_more_carts_than_may_be_and_users_can(engine: Engine) -> None:
    ids = [kept(engine) for _ in range(MOST)]
    before, empty = in_redis(engine), engine.carts.create(GUEST).id
    for use in (
        lambda: kept(engine),
        lambda: engine.carts.put_line(empty, GUEST, Line("a", 1)),
        lambda: engine.carts.put_line(empty, ANN, Line("a", 1)),
        lambda: engine.carts.set_lines(empty, GUEST, lines("a=1")),
        lambda: engine.carts.delete(empty, GUEST),
    ):
        with pytest.raises(TooManyGuestCarts) as refused:
            use()
        assert 0 < refused.value.wait_ms <= engine.settings.guest_cart_ttl_ms
    assert in_redis(engine) == before
    assert engine.carts.get(empty, GUEST).lines == ()
    for cart_id in ids:
        assert len(engine.carts.put_line(cart_id, GUEST, Line("b", 1)).lines) == 2
    assert kept(engine, ANN) not in counted(engine)
    assert counted(engine) == set(ids)


def test_deleting_carts_makes_no_room_for_more_marks(engine: Engine) -> None:
    """A mark costs memory as well, so that a guest who deletes what he makes comes to the same end."""
    for number in range(MOST):
        engine.carts.delete(kept(engine) if number else engine.carts.create(GUEST).id, GUEST)
    with pytest.raises(TooManyGuestCarts):
        kept(engine)
    assert len(in_redis(engine)) == MOST + 1


def test_a_checkout_makes_room_and_gives_the_cart_a_user_s_time(engine: Engine) -> None:
    first, *others = [kept(engine) for _ in range(MOST)]
    engine.carts.checkout(first, ANN, 900)
    assert counted(engine) == set(others)
    left_ms = engine.store.redis.pttl(engine.store.keys.cart(first))
    assert engine.settings.cart_ttl_ms - 60_000 < left_ms <= engine.settings.cart_ttl_ms
    engine.carts.get(first, ANN)
    engine.carts.put_line(first, ANN, Line("a", 3))
    assert counted(engine) == set(others)
    kept(engine)


def test_a_cart_is_counted_as_long_as_its_use_renews_its_time(engine: Engine) -> None:
    cart_id, redis, keys = kept(engine), engine.store.redis, engine.store.keys
    for use in (
        lambda: engine.carts.get(cart_id, GUEST),
        lambda: engine.carts.put_line(cart_id, GUEST, Line("a", 2)),
        lambda: engine.carts.set_lines(cart_id, GUEST, lines("a=1")),
    ):
        now_ms = engine.store.time_ms()
        redis.zadd(keys.guest_carts, {cart_id: now_ms + 1_000})
        redis.pexpire(keys.guest_carts, 1_000)
        redis.pexpire(keys.cart(cart_id), 1_000)
        use()
        until_ms = redis.zscore(keys.guest_carts, cart_id)
        whole_ms = engine.settings.guest_cart_ttl_ms
        assert whole_ms <= until_ms - now_ms < whole_ms + 60_000
        assert redis.pttl(keys.guest_carts) > whole_ms - 60_000
        assert redis.pttl(keys.cart(cart_id)) > whole_ms - 60_000


def test_carts_whose_time_has_run_out_are_counted_no_more_and_cleaned_a_hundred_at_a_time(engine: Engine) -> None:
    redis, guest_carts = engine.store.redis, engine.store.keys.guest_carts
    redis.zadd(guest_carts, {f"old{number}": number + 1 for number in range(250)})
    for left in (150, 50, 0):
        kept(engine)
        assert redis.zcount(guest_carts, "-inf", 1_000) == left
    with pytest.raises(TooManyGuestCarts):
        kept(engine)
    assert redis.zcard(guest_carts) == MOST
