from __future__ import annotations

import pytest

from engine.engine import Engine
from engine.errors import (
    EmptyCart,
    IdempotencyKeyReused,
    LinesUnavailable,
    NotFound,
    StoreUnavailable,
    ValidationFailed,
)
from engine.ids import CartIds
from engine.limits import MAX_LINES
from engine.states import Availability, State
from engine.values import Cart, Line, Operation, Origin, Reservation
from tests import books
from tests.books import lines, run_out

OPS, SHOP, GUEST = Origin("ops"), Origin("shop"), Origin("guest")
ANN, BOB = Origin("ann", user="ann"), Origin("bob", user="bob")
NO_KEY = Operation()


@pytest.fixture
def engine(fake_engine: Engine) -> Engine:
    return fake_engine


def stock(engine: Engine, sku: str, on_hand: int, **attributes: str | int) -> None:
    engine.stock.configure(sku, on_hand, {name: str(value) for name, value in attributes.items()}, OPS, NO_KEY)


def cart(engine: Engine, text: str, origin: Origin = ANN) -> str:
    return engine.carts.create(origin, lines(text)).id


def run_out_of_time(engine: Engine, owner: str = "ann") -> str:
    """The id of a cart whose time has run out, so that Redis has let it go."""
    ttl_ms = engine.settings.cart_ttl_ms if owner else engine.settings.guest_cart_ttl_ms
    return CartIds(engine.settings.id_secret).issue(owner, engine.store.time_ms() - ttl_ms)


def check_out(engine: Engine, cart_id: str, origin: Origin = ANN, seconds: int = 900) -> Reservation:
    return engine.carts.checkout(cart_id, origin, seconds)


def change(engine: Engine, cart_id: str, text: str) -> None:
    for line in lines(text):
        engine.carts.put_line(cart_id, ANN, line)


def pay(engine: Engine, reservation_id: str, payment_id: str = "p1") -> None:
    engine.reservations.commit(reservation_id, SHOP, payment_id, NO_KEY)


def wanted(shown: Cart) -> dict[str, int]:
    return {line.sku: line.quantity for line in shown.lines}


def fulfillable(engine: Engine, cart_id: str, origin: Origin = ANN) -> dict[str, bool]:
    return {line.sku: line.fulfillable for line in engine.carts.get(cart_id, origin).lines}


def live(engine: Engine) -> list[str]:
    found: list[str] = engine.store.redis.zrange(engine.store.keys.deadlines, 0, -1)
    return found


def ttl_ms(engine: Engine, cart_id: str) -> int:
    return int(engine.store.redis.pttl(engine.store.keys.cart(cart_id)))


def nearly_run_out(engine: Engine, cart_id: str) -> None:
    engine.store.redis.pexpire(engine.store.keys.cart(cart_id), 60_000)


def test_a_cart_never_touches_stock(engine: Engine) -> None:
    stock(engine, "a", 5)
    before = {key: value for key, value in books.dump(engine.store.redis).items() if "cart" not in key}
    for origin in (GUEST, ANN):
        cart_id = cart(engine, "a=9 b=1", origin)
        engine.carts.get(cart_id, origin)
        engine.carts.put_line(cart_id, origin, Line("a", 0))
        engine.carts.delete(cart_id, origin)
    assert {key: value for key, value in books.dump(engine.store.redis).items() if "cart" not in key} == before
    books.assert_right(engine)


def test_a_cart_s_id_cannot_be_guessed(engine: Engine) -> None:
    ids = {engine.carts.create(GUEST).id for _ in range(50)}
    assert len(ids) == 50
    assert {len(cart_id) for cart_id in ids} == {22}


def test_a_cart_shows_what_can_be_had_of_each_line(engine: Engine) -> None:
    stock(engine, "a", 5)
    stock(engine, "paused", 5, paused=1)
    stock(engine, "held", 1)
    engine.reservations.reserve(BOB, lines("held=1"), 900)
    shown = engine.carts.get(cart(engine, "a=5 paused=1 held=1 nowhere=1"), ANN)
    assert [(line.sku, line.quantity, line.available, line.status, line.fulfillable) for line in shown.lines] == [
        ("a", 5, 5, Availability.AVAILABLE, True),
        ("paused", 1, 5, Availability.PAUSED, False),
        ("held", 1, 0, Availability.ALL_HELD, False),
        ("nowhere", 1, 0, Availability.UNKNOWN_SKU, False),
    ]


def test_more_than_is_available_is_not_fulfillable(engine: Engine) -> None:
    stock(engine, "a", 5)
    assert fulfillable(engine, cart(engine, "a=6")) == {"a": False}


def test_fulfillable_counts_the_units_of_the_cart_s_own_hold(engine: Engine) -> None:
    stock(engine, "a", 3)
    cart_id = cart(engine, "a=2")
    held = check_out(engine, cart_id)
    assert fulfillable(engine, cart_id) == {"a": True}
    change(engine, cart_id, "a=3")
    assert fulfillable(engine, cart_id) == {"a": True}
    change(engine, cart_id, "a=4")
    assert fulfillable(engine, cart_id) == {"a": False}
    assert fulfillable(engine, cart(engine, "a=2")) == {"a": False}
    change(engine, cart_id, "a=3")
    run_out(engine.store, held.id)
    other = engine.reservations.reserve(BOB, lines("a=1"), 900)
    assert fulfillable(engine, cart_id) == {"a": False}
    engine.reservations.release(other.id, BOB)
    assert fulfillable(engine, cart_id) == {"a": True}


def test_fulfillable_knows_the_limit_of_the_customer(engine: Engine) -> None:
    stock(engine, "a", 9, limit_per_customer=3)
    engine.reservations.reserve(ANN, lines("a=1"), 900)
    cart_id = cart(engine, "a=2")
    assert fulfillable(engine, cart_id) == {"a": True}
    check_out(engine, cart_id)
    assert fulfillable(engine, cart_id) == {"a": True}
    change(engine, cart_id, "a=3")
    assert fulfillable(engine, cart_id) == {"a": False}


def test_fulfillable_is_right_when_the_limit_was_lowered_below_what_was_bought(engine: Engine) -> None:
    stock(engine, "a", 9, limit_per_customer=5)
    pay(engine, engine.reservations.reserve(ANN, lines("a=2"), 900).id)
    cart_id = cart(engine, "a=3")
    check_out(engine, cart_id)
    stock(engine, "a", 9, limit_per_customer=2)
    assert fulfillable(engine, cart_id) == {"a": False}
    with pytest.raises(LinesUnavailable):
        check_out(engine, cart_id)


def test_every_use_of_a_cart_renews_its_time(engine: Engine) -> None:
    stock(engine, "a", 9)
    cart_id = cart(engine, "a=1")
    whole_ms = engine.settings.cart_ttl_ms
    assert whole_ms - 60_000 < ttl_ms(engine, cart_id) <= whole_ms
    nearly_run_out(engine, cart_id)
    engine.carts.put_line(cart_id, ANN, Line("a", 1))
    assert ttl_ms(engine, cart_id) > 60_000
    nearly_run_out(engine, cart_id)
    engine.carts.get(cart_id, ANN)
    assert ttl_ms(engine, cart_id) > 60_000
    nearly_run_out(engine, cart_id)
    held = check_out(engine, cart_id)
    assert ttl_ms(engine, cart_id) > 60_000
    nearly_run_out(engine, cart_id)
    pay(engine, held.id)
    assert ttl_ms(engine, cart_id) > 60_000


def test_a_cart_that_has_run_out_is_not_found_and_its_hold_stands(engine: Engine) -> None:
    stock(engine, "a", 5)
    cart_id = run_out_of_time(engine)
    engine.scripts.put_line(cart_id, "ann", Line("a", 2), "ann", may_make=True)
    held = check_out(engine, cart_id)
    engine.store.redis.delete(engine.store.keys.cart(cart_id))
    for use in (engine.carts.get, engine.carts.delete):
        with pytest.raises(NotFound):
            use(cart_id, ANN)
    with pytest.raises(NotFound):
        check_out(engine, cart_id)
    with pytest.raises(NotFound):
        change(engine, cart_id, "a=1")
    assert live(engine) == [held.id]
    pay(engine, held.id)
    assert not engine.store.redis.exists(engine.store.keys.cart(cart_id))


@pytest.mark.parametrize("other", [BOB, GUEST], ids=["another user", "a guest"])
def test_another_user_s_cart_is_not_found_and_stays_as_it_is(engine: Engine, other: Origin) -> None:
    stock(engine, "a", 5)
    cart_id = cart(engine, "a=2")
    before = books.dump(engine.store.redis)
    with pytest.raises(NotFound):
        engine.carts.get(cart_id, other)
    with pytest.raises(NotFound):
        engine.carts.put_line(cart_id, other, Line("a", 1))
    with pytest.raises(NotFound):
        engine.carts.delete(cart_id, other)
    with pytest.raises(NotFound):
        check_out(engine, cart_id, other if other.user else BOB)
    assert books.dump(engine.store.redis) == before


def test_a_guest_s_cart_belongs_to_its_buyer_from_the_checkout_on(engine: Engine) -> None:
    stock(engine, "a", 5)
    cart_id = cart(engine, "a=2", GUEST)
    assert wanted(engine.carts.get(cart_id, GUEST)) == wanted(engine.carts.get(cart_id, ANN)) == {"a": 2}
    held = check_out(engine, cart_id, ANN)
    assert (held.user, held.lines) == ("ann", (Line("a", 2),))
    assert wanted(engine.carts.get(cart_id, ANN)) == {"a": 2}
    for stranger in (GUEST, BOB):
        with pytest.raises(NotFound):
            engine.carts.get(cart_id, stranger)


def test_a_full_cart_takes_no_more_lines(engine: Engine) -> None:
    cart_id = cart(engine, " ".join(f"s{number}=1" for number in range(MAX_LINES)))
    with pytest.raises(ValidationFailed):
        change(engine, cart_id, "another=1")
    change(engine, cart_id, "s0=0 another=1")


def test_an_empty_cart_cannot_be_checked_out(engine: Engine) -> None:
    emptied = cart(engine, "a=1")
    change(engine, emptied, "a=0")
    for cart_id in (emptied, engine.carts.create(ANN).id, engine.carts.create(GUEST).id):
        with pytest.raises(EmptyCart):
            check_out(engine, cart_id)


def test_a_cart_made_again_with_its_key_is_the_same_cart_as_it_is_now(engine: Engine) -> None:
    first = engine.carts.create(ANN, lines("a=1 b=1 a=2"), "key", "7")
    assert wanted(first) == {"a": 3, "b": 1}
    change(engine, first.id, "b=0")
    again = engine.carts.create(ANN, lines("a=1 b=1 a=2"), "key", "7")
    assert (again.id, first.replayed, again.replayed) == (first.id, False, True)
    assert wanted(again) == {"a": 3}
    with pytest.raises(IdempotencyKeyReused):
        engine.carts.create(ANN, lines("a=1"), "key", "8")
    assert engine.carts.create(BOB, (), "key", "7").id != first.id
    assert engine.carts.create(GUEST, (), "key", "7").id != engine.carts.create(GUEST, (), "key", "7").id
    engine.carts.delete(first.id, ANN)
    with pytest.raises(NotFound):
        engine.carts.create(ANN, lines("a=1 b=1 a=2"), "key", "7")


def test_the_repeat_puts_the_lines_in_if_the_first_call_broke_off_before(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(engine.scripts, "set_lines", broken)
        with pytest.raises(StoreUnavailable):
            engine.carts.create(ANN, lines("a=2"), "key", "7")
    assert wanted(engine.carts.create(ANN, lines("a=2"), "key", "7")) == {"a": 2}


def broken(*_: object, **__: object) -> None:
    raise StoreUnavailable


@pytest.mark.parametrize("how", ["delete", "take out", "set"])
def test_emptying_or_deleting_a_cart_releases_its_live_reservation(engine: Engine, how: str) -> None:
    stock(engine, "a", 5)
    cart_id = cart(engine, "a=2")
    held = check_out(engine, cart_id)
    change(engine, cart_id, "a=1 c=1")
    change(engine, cart_id, "c=0")
    assert live(engine) == [held.id]
    if how == "delete":
        engine.carts.delete(cart_id, ANN)
    elif how == "set":
        engine.carts.set_lines(cart_id, ANN, ())
    else:
        change(engine, cart_id, "a=0")
    assert live(engine) == []
    assert engine.reservations.get(held.id, "ann").state is State.RELEASED
    event = books.events(engine.store)[-1]
    assert (event.op, event.actor, event.user) == ("release", "ann", "ann")
    assert event.reason == ("cart deleted" if how == "delete" else "cart emptied")
    books.assert_right(engine)


@pytest.mark.parametrize("how", ["delete", "take out"])
def test_emptying_or_deleting_a_cart_leaves_what_is_paid_for_and_what_has_ended(engine: Engine, how: str) -> None:
    stock(engine, "a", 9)
    cart_id = cart(engine, "a=2")
    held = check_out(engine, cart_id)
    change(engine, cart_id, "a=3")
    pay(engine, held.id)
    before = books.events(engine.store)
    if how == "delete":
        engine.carts.delete(cart_id, ANN)
    else:
        change(engine, cart_id, "a=0")
    assert engine.orders.get(held.id, "ann").state == "allocated"
    assert books.events(engine.store) == before
    other = cart(engine, "a=1")
    ended = check_out(engine, other)
    run_out(engine.store, ended.id)
    change(engine, other, "a=0")
    engine.carts.delete(other, ANN)
    assert engine.reservations.get(ended.id, "ann").state is State.EXPIRED
    books.assert_right(engine)


@pytest.mark.parametrize("how", ["delete", "take out"])
def test_a_checkout_whose_cart_is_emptied_or_deleted_meanwhile_leaves_no_hold(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    stock(engine, "a", 5)
    cart_id = cart(engine, "a=2")
    bind_cart = engine.scripts.bind_cart

    def change_in_between(*arguments: str) -> None:
        bind_cart(*arguments)
        if how == "delete":
            engine.carts.delete(cart_id, ANN)
        else:
            change(engine, cart_id, "a=0")

    monkeypatch.setattr(engine.scripts, "bind_cart", change_in_between)
    with pytest.raises(NotFound if how == "delete" else EmptyCart):
        check_out(engine, cart_id)
    assert (live(engine), engine.stock.get("a").reserved) == ([], 0)
    books.assert_right(engine)


def test_a_cart_whose_hold_cannot_be_released_now_can_be_deleted_later(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock(engine, "a", 5)
    cart_id = cart(engine, "a=2")
    check_out(engine, cart_id)
    with monkeypatch.context() as patched:
        patched.setattr(engine.scripts, "release", broken)
        with pytest.raises(StoreUnavailable):
            engine.carts.delete(cart_id, ANN)
        with pytest.raises(StoreUnavailable):
            change(engine, cart_id, "a=0")
    change(engine, cart_id, "a=0")
    engine.carts.delete(cart_id, ANN)
    assert live(engine) == []


def test_all_lines_of_a_cart_are_set_at_once(engine: Engine) -> None:
    cart_id = cart(engine, "a=1 b=2")
    assert wanted(engine.carts.set_lines(cart_id, ANN, lines("b=1 c=1 b=4"))) == {"b": 5, "c": 1}
    with pytest.raises(ValidationFailed):
        engine.carts.set_lines(cart_id, ANN, [Line(f"s{number}", 1) for number in range(MAX_LINES + 1)])
    assert wanted(engine.carts.get(cart_id, ANN)) == {"b": 5, "c": 1}


def test_a_second_checkout_replaces_the_first(engine: Engine) -> None:
    stock(engine, "a", 3)
    stock(engine, "b", 1)
    cart_id = cart(engine, "a=2")
    first = check_out(engine, cart_id)
    change(engine, cart_id, "a=3 b=1")
    second = check_out(engine, cart_id, seconds=60)
    assert live(engine) == [second.id]
    assert engine.reservations.get(first.id, "ann").state is State.RELEASED
    assert books.all_counters(engine.store) == {"a": (0, 3, 0, 3), "b": (0, 1, 0, 1)}
    assert [(event.op, event.reason) for event in books.events(engine.store)[-2:]] == [
        ("release", "replaced"),
        ("reserve", ""),
    ]
    books.assert_right(engine)


def test_starting_over_does_not_move_the_cap(engine: Engine) -> None:
    stock(engine, "a", 3)
    cart_id = cart(engine, "a=2")
    start_ms = check_out(engine, cart_id).created_ms
    engine.store.redis.hset(engine.store.keys.meta, "clock_ms", start_ms + 600_000)
    second = check_out(engine, cart_id)
    assert (second.created_ms, second.deadline_ms) == (start_ms, start_ms + 900_000)
    extended = engine.reservations.extend(second.id, ANN, 900, NO_KEY)
    assert extended.deadline_ms == start_ms + 900_000


def test_the_first_hold_stands_if_the_second_cannot_be_had(engine: Engine) -> None:
    stock(engine, "a", 3)
    cart_id = cart(engine, "a=2")
    first = check_out(engine, cart_id)
    change(engine, cart_id, "a=4")
    before = books.counters(engine.store, "a")
    with pytest.raises(LinesUnavailable, match=f"reservation {first.id} stands") as refused:
        check_out(engine, cart_id)
    assert refused.value.standing == first.id
    assert (live(engine), books.counters(engine.store, "a")) == ([first.id], before)
    books.assert_right(engine)


def test_a_hold_that_has_run_out_is_not_said_to_stand(engine: Engine) -> None:
    stock(engine, "a", 3)
    cart_id = cart(engine, "a=2")
    run_out(engine.store, check_out(engine, cart_id).id)
    change(engine, cart_id, "a=4")
    with pytest.raises(LinesUnavailable) as refused:
        check_out(engine, cart_id)
    assert refused.value.standing == ""
    change(engine, cart_id, "a=1 nowhere=1")
    with pytest.raises(LinesUnavailable) as refused:
        check_out(engine, cart_id)
    assert refused.value.standing == ""


def test_a_hold_that_has_run_out_is_not_replaced_but_expired(engine: Engine) -> None:
    stock(engine, "a", 3)
    cart_id = cart(engine, "a=3")
    first = check_out(engine, cart_id)
    run_out(engine.store, first.id)
    second = check_out(engine, cart_id)
    assert engine.reservations.get(first.id, "ann").state is State.EXPIRED
    assert second.deadline_ms == second.created_ms + 900_000
    books.assert_right(engine)


def test_a_repeated_checkout_shows_its_reservation_as_it_is_now_even_if_the_cart_has_changed(engine: Engine) -> None:
    stock(engine, "a", 5)
    cart_id = cart(engine, "a=2")
    first = engine.carts.checkout(cart_id, ANN, 60, "key", "7")
    change(engine, cart_id, "a=3")
    check_out(engine, cart_id)
    before = books.dump(engine.store.redis)
    again = engine.carts.checkout(cart_id, ANN, 60, "key", "7")
    assert (again.id, again.lines, again.deadline_ms, again.state) == (
        first.id,
        first.lines,
        first.deadline_ms,
        State.RELEASED,
    )
    assert again.replayed
    with pytest.raises(IdempotencyKeyReused):
        engine.carts.checkout(cart_id, ANN, 90, "key", "8")
    assert books.dump(engine.store.redis) == before


def test_a_refused_checkout_is_not_kept_under_its_key(engine: Engine) -> None:
    stock(engine, "a", 1)
    cart_id = cart(engine, "a=2")
    with pytest.raises(LinesUnavailable):
        engine.carts.checkout(cart_id, ANN, 60, "key", "7")
    change(engine, cart_id, "a=1")
    assert not engine.carts.checkout(cart_id, ANN, 60, "key", "7").replayed


def test_a_cart_is_emptied_of_what_was_bought_once(engine: Engine) -> None:
    stock(engine, "a", 9)
    stock(engine, "b", 9)
    cart_id = cart(engine, "a=2 b=1")
    held = check_out(engine, cart_id)
    change(engine, cart_id, "a=3 c=1")
    pay(engine, held.id)
    assert wanted(engine.carts.get(cart_id, ANN)) == {"a": 1, "c": 1}
    change(engine, cart_id, "a=2 b=1")
    for _ in range(2):
        pay(engine, held.id)
    assert wanted(engine.carts.get(cart_id, ANN)) == {"a": 2, "b": 1, "c": 1}
    books.assert_right(engine)


def test_a_cart_is_emptied_by_the_repeat_if_the_commit_broke_off_before(engine: Engine) -> None:
    stock(engine, "a", 9)
    cart_id = cart(engine, "a=2")
    held = check_out(engine, cart_id)
    record = engine.store.record(held.id)
    assert record is not None
    engine.scripts.commit(record, SHOP, "p1", False, NO_KEY, "", None)
    assert wanted(engine.carts.get(cart_id, ANN)) == {"a": 2}
    pay(engine, held.id)
    assert wanted(engine.carts.get(cart_id, ANN)) == {}


def test_a_late_payment_empties_the_cart_as_well(engine: Engine) -> None:
    stock(engine, "a", 9)
    cart_id = cart(engine, "a=2")
    held = check_out(engine, cart_id)
    run_out(engine.store, held.id)
    pay(engine, held.id)
    assert wanted(engine.carts.get(cart_id, ANN)) == {}


def test_a_checkout_after_the_payment_is_a_new_one(engine: Engine) -> None:
    stock(engine, "a", 9)
    cart_id = cart(engine, "a=2")
    first = check_out(engine, cart_id)
    pay(engine, first.id)
    change(engine, cart_id, "a=1")
    second = check_out(engine, cart_id)
    assert second.deadline_ms == second.created_ms + 900_000
    assert books.counters(engine.store, "a") == (6, 1, 2, 9)
    books.assert_right(engine)


def test_a_checkout_right_after_the_payment_buys_nothing_twice(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    stock(engine, "a", 10)
    cart_id = cart(engine, "a=2")
    held = check_out(engine, cart_id)
    with monkeypatch.context() as patched:
        patched.setattr(engine.scripts, "empty_cart", lambda *_: None)
        pay(engine, held.id)
    with pytest.raises(EmptyCart):
        check_out(engine, cart_id)
    assert engine.carts.get(cart_id, ANN).lines == ()
    assert engine.stock.get("a").reserved == 0


def test_a_payment_that_comes_in_the_middle_of_a_checkout_is_seen_by_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock(engine, "a", 10)
    cart_id = cart(engine, "a=2")
    held = check_out(engine, cart_id)
    bind_cart = engine.scripts.bind_cart

    def pay_in_between(*arguments: str) -> None:
        bind_cart(*arguments)
        pay(engine, held.id)

    monkeypatch.setattr(engine.scripts, "bind_cart", pay_in_between)
    with pytest.raises(EmptyCart):
        check_out(engine, cart_id)
    assert engine.stock.get("a").reserved == 0
