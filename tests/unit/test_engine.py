from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs
from redis.exceptions import NoScriptError, ResponseError

from engine.engine import Engine
from engine.errors import (
    AlreadyCommitted,
    Closed,
    EngineError,
    IdempotencyKeyReused,
    Inconsistent,
    InsufficientStock,
    InvalidTransition,
    LinesUnavailable,
    NotFound,
    RefundRequired,
    ReservationExpired,
    StockBelowClaims,
    ValidationFailed,
)
from engine.expiry import NEXT_RELEASE_SECONDS
from engine.pipe import Command
from engine.reservations import MAX_ROUNDS_WITHOUT_PROGRESS
from engine.states import Availability, State, Verdict
from engine.stock import MAX_ROUNDS_WITHOUT_PROGRESS as VAIN_READS
from engine.values import Lever, Line, LineVerdict, MissingLine, Operation, Order, Origin, Reservation, Sku, SkuChange
from tests import books
from tests.books import lines, run_out

OPS, KEEPER, SHOP = Origin("ops"), Origin("keeper"), Origin("shop")
ANN, BOB = Origin("ann", user="ann"), Origin("bob", user="bob")
NO_KEY = Operation()
FAR_MS = 4_000_000_000_000


@pytest.fixture
def engine(fake_engine: Engine) -> Engine:
    return fake_engine


def stock(engine: Engine, sku: str, on_hand: int, **attributes: str | int) -> None:
    engine.stock.configure(sku, on_hand, {name: str(value) for name, value in attributes.items()}, OPS, NO_KEY)


def hold(engine: Engine, text: str, origin: Origin = ANN, seconds: int = 900) -> Reservation:
    return engine.reservations.reserve(origin, lines(text), seconds)


def pay(engine: Engine, reservation_id: str, payment_id: str = "p1", operation: Operation = NO_KEY) -> Order:
    return engine.reservations.commit(reservation_id, SHOP, payment_id, operation)


def verdicts(engine: Engine, text: str, origin: Origin = BOB) -> dict[str, LineVerdict]:
    before = books.dump(engine.store.redis)
    with pytest.raises(LinesUnavailable) as refused:
        hold(engine, text, origin)
    assert books.dump(engine.store.redis) == before
    return {line.sku: line for line in refused.value.lines}


def status(engine: Engine, sku: str) -> Availability:
    [found] = engine.stock.availability([sku], SHOP)
    return found.status


def test_a_checkout_turns_available_into_reserved_and_a_payment_into_allocated(engine: Engine) -> None:
    stock(engine, "a", 5)
    held = hold(engine, "a=2 a=1")
    assert (held.state, held.user, held.lines) == (State.RESERVED, "ann", (Line("a", 3),))
    assert held.deadline_ms - held.created_ms == 900_000
    assert books.counters(engine.store, "a") == (2, 3, 0, 5)
    order = pay(engine, held.id)
    assert (order.id, order.state, order.late, order.user) == (held.id, "allocated", False, "ann")
    assert books.counters(engine.store, "a") == (2, 0, 3, 5)
    books.assert_right(engine)


def test_a_refused_basket_has_a_verdict_for_every_line(engine: Engine) -> None:
    stock(engine, "fine", 5)
    stock(engine, "short", 1)
    stock(engine, "held", 2)
    stock(engine, "sold", 2)
    stock(engine, "paused", 5, paused=1)
    stock(engine, "later", 5, sale_starts_ms=FAR_MS)
    stock(engine, "over", 5, sale_ends_ms=1)
    stock(engine, "limited", 5, limit_per_customer=3)
    pay(engine, hold(engine, "sold=2").id)
    first = hold(engine, "held=2")
    hold(engine, "limited=1", BOB)
    found = verdicts(engine, "fine=2 short=2 held=1 sold=1 paused=1 later=1 over=1 limited=3 nowhere=1")
    expected = [
        LineVerdict("fine", 2, 5, Verdict.OK, 5, 0),
        LineVerdict("short", 2, 1, Verdict.INSUFFICIENT, 1, 0),
        LineVerdict("held", 1, 0, Verdict.ALL_HELD, 0, first.deadline_ms),
        LineVerdict("sold", 1, 0, Verdict.SOLD_OUT, 0, 0),
        LineVerdict("paused", 1, 5, Verdict.PAUSED, 0, 0),
        LineVerdict("later", 1, 5, Verdict.NOT_STARTED, 0, 0),
        LineVerdict("over", 1, 5, Verdict.ENDED, 0, 0),
        LineVerdict("limited", 3, 4, Verdict.LIMIT_EXCEEDED, 2, 0),
        LineVerdict("nowhere", 1, 0, Verdict.UNKNOWN_SKU, 0, 0),
    ]
    assert list(found.values()) == expected
    assert set(Verdict) == {line.verdict for line in expected}


def test_the_next_release_is_the_earliest_deadline_of_a_live_hold_of_that_sku(engine: Engine) -> None:
    stock(engine, "a", 3)
    stock(engine, "b", 1)
    soon = hold(engine, "a=1", seconds=100)
    later = hold(engine, "a=1", seconds=200)
    hold(engine, "b=1", seconds=50)
    assert verdicts(engine, "a=2")["a"].verdict is Verdict.INSUFFICIENT
    assert verdicts(engine, "a=2")["a"].next_release_ms == soon.deadline_ms
    engine.reservations.release(soon.id, ANN)
    assert verdicts(engine, "a=3")["a"].next_release_ms == later.deadline_ms


def test_the_next_release_of_a_wholly_held_sku_is_shown_to_buyers(engine: Engine) -> None:
    stock(engine, "a", 1)
    held = hold(engine, "a=1", seconds=100)
    [found] = engine.stock.availability(["a"], SHOP)
    assert (found.available, found.status, found.next_release_ms) == (0, Availability.ALL_HELD, held.deadline_ms)
    extended = engine.reservations.extend(held.id, ANN, 300, NO_KEY)
    [found] = engine.stock.availability(["a"], SHOP)
    assert found.next_release_ms == extended.deadline_ms


def test_the_refusals_of_a_batch_have_their_next_releases_from_one_search(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for sku in "abc":
        stock(engine, sku, 1)
    first, second = hold(engine, "a=1", seconds=300), hold(engine, "b=1")
    searched: list[Mapping[str, int]] = []
    search = engine.expiry.next_releases
    monkeypatch.setattr(
        engine.expiry, "next_releases", lambda bounds, *more: searched.append(bounds) or search(bounds, *more)
    )
    claims = [engine.reservations.claim(BOB, lines(text), None, "", "") for text in ("a=1", "c=1", "b=1")]
    for_a, for_c, for_b = engine.reservations.reserve_all(claims)
    assert isinstance(for_a, LinesUnavailable)
    assert isinstance(for_b, LinesUnavailable)
    assert isinstance(for_c, Reservation)
    assert [line.next_release_ms for line in (*for_a.lines, *for_b.lines)] == [first.deadline_ms, second.deadline_ms]
    assert [sorted(bounds) for bounds in searched] == [["a", "b"]]


@pytest.mark.parametrize("what", ["refused", "asked before the script"])
def test_a_deadline_that_is_asked_for_along_with_a_reservation_can_not_spoil_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    stock(engine, "a", 1)
    first = hold(engine, "a=1", seconds=300)
    with pytest.raises(LinesUnavailable):
        hold(engine, "a=1", BOB)
    assert engine.expiry.remembered(["a"]) == [first.id]
    ask = engine.store.calls.ask
    beside: list[str] = []

    def asked(*commands: Command) -> list[Any]:
        if commands[0][0] != "EVALSHA" or commands[-1][0] != "ZSCORE":
            return ask(*commands)
        beside.append(str(commands[-1][2]))
        if what == "refused":
            return [*ask(*commands[:-1]), ResponseError("NOPERM")]
        return [NoScriptError("NOSCRIPT"), *ask(commands[-1])]

    monkeypatch.setattr(engine.store.calls, "ask", asked)
    with pytest.raises(LinesUnavailable) as refused:
        hold(engine, "a=1", BOB)
    assert refused.value.lines[0].next_release_ms == first.deadline_ms
    engine.reservations.release(first.id, ANN)
    assert hold(engine, "a=1", BOB).state is State.RESERVED
    assert beside == [first.id, first.id]


def test_a_hold_that_a_batch_itself_makes_is_the_next_release_for_all_its_refusals(engine: Engine) -> None:
    stock(engine, "a", 2)
    hold(engine, "a=1")
    wanted = [("a=2", 900), ("a=1", 300), ("a=1", 900)]
    claims = [engine.reservations.claim(BOB, lines(text), seconds, "", "") for text, seconds in wanted]
    before, made, after = engine.reservations.reserve_all(claims)
    assert isinstance(before, LinesUnavailable)
    assert isinstance(made, Reservation)
    assert isinstance(after, LinesUnavailable)
    assert [line.next_release_ms for line in (*before.lines, *after.lines)] == [made.deadline_ms] * 2


def test_every_buyer_who_is_refused_is_counted_once_alone_or_in_a_batch(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock(engine, "a", 2)
    counted: list[str] = []
    monkeypatch.setattr(engine.meter, "refused", lambda: counted.append("refused"))
    hold(engine, "a=1")
    with pytest.raises(LinesUnavailable):
        hold(engine, "a=2", BOB)
    assert len(counted) == 1
    claims = [engine.reservations.claim(BOB, lines(text), None, "", "") for text in ("a=2", "a=1", "a=2")]
    engine.reservations.reserve_all(claims)
    assert len(counted) == 3


def test_a_shorter_hold_made_since_the_search_is_shown_as_soon_as_that_is_too_old(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock(engine, "a", 3)
    first, later = hold(engine, "a=1", seconds=50), hold(engine, "a=1", seconds=900)
    engine.reservations.release(first.id, ANN)
    assert verdicts(engine, "a=3")["a"].next_release_ms == later.deadline_ms
    shorter = hold(engine, "a=1", seconds=100)
    now_s = time.monotonic() + NEXT_RELEASE_SECONDS
    monkeypatch.setattr("engine.expiry.time.monotonic", lambda: now_s)
    assert verdicts(engine, "a=3")["a"].next_release_ms == shorter.deadline_ms


def test_a_hold_that_falls_due_while_others_are_looked_for_is_not_in_the_way(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock(engine, "a", 2)
    stock(engine, "b", 1)
    first, second = hold(engine, "a=1", seconds=50), hold(engine, "a=1", seconds=100)
    hold(engine, "b=1", seconds=60)
    engine.reservations.release(first.id, ANN)
    hold(engine, "a=1", seconds=900)
    clock(engine, second.created_ms + 70_000)
    settle, rounds = engine.expiry.settle, []

    def slow_settle(skus: list[str], now_ms: int, request_id: str) -> int:
        ended = settle(skus, now_ms, request_id)
        rounds.append(ended)
        clock(engine, second.deadline_ms)
        return ended

    monkeypatch.setattr(engine.expiry, "settle", slow_settle)
    assert hold(engine, "a=1", BOB).state is State.RESERVED
    assert rounds == [0, 1]
    books.assert_right(engine)


def test_a_buyer_is_not_kept_waiting_for_ever_while_others_fall_due(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock(engine, "a", 1)
    stock(engine, "b", 1)
    first = hold(engine, "a=1", seconds=50)
    engine.reservations.extend(first.id, ANN, 900, NO_KEY)
    other = hold(engine, "b=1", seconds=60)
    clock(engine, other.deadline_ms)
    rounds = []
    monkeypatch.setattr(engine.store, "next_deadline", lambda after_ms: rounds.append(after_ms) or 0)
    with pytest.raises(LinesUnavailable):
        hold(engine, "a=1", BOB)
    assert len(rounds) == MAX_ROUNDS_WITHOUT_PROGRESS


def clock(engine: Engine, now_ms: int) -> None:
    """Let the time that scripts go by be at least that."""
    engine.store.redis.hset(engine.store.keys.meta, "clock_ms", now_ms)


def test_availability_has_seven_statuses(engine: Engine) -> None:
    stock(engine, "fine", 5)
    stock(engine, "held", 2)
    stock(engine, "sold", 0)
    stock(engine, "paused", 5, paused=1)
    stock(engine, "later", 5, sale_starts_ms=FAR_MS)
    stock(engine, "over", 5, sale_ends_ms=1)
    held = hold(engine, "held=2")
    skus = ["sold", "paused", "fine", "later", "nowhere", "over", "held"]
    found = engine.stock.availability(skus, SHOP)
    assert [item.sku for item in found] == skus
    assert {item.sku: (item.status, item.available, item.next_release_ms) for item in found} == {
        "fine": (Availability.AVAILABLE, 5, 0),
        "held": (Availability.ALL_HELD, 0, held.deadline_ms),
        "sold": (Availability.SOLD_OUT, 0, 0),
        "paused": (Availability.PAUSED, 5, 0),
        "later": (Availability.NOT_STARTED, 5, 0),
        "over": (Availability.ENDED, 5, 0),
        "nowhere": (Availability.UNKNOWN_SKU, 0, 0),
    }
    assert {item.status for item in found} == set(Availability)


def test_stock_is_read_again_only_while_something_is_due_and_not_for_ever(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock(engine, "a", 2)
    stock(engine, "b", 1)
    other = hold(engine, "b=1")
    engine.store.redis.hset(engine.store.keys.sku("a"), "next_release_ms", 1)
    settled: list[int] = []
    settle = engine.expiry.settle
    monkeypatch.setattr(engine.expiry, "settle", lambda *asked: settled.append(settle(*asked)) or settled[-1])
    assert (status(engine, "a"), settled) == (Availability.AVAILABLE, [])
    run_out(engine.store, other.id)
    assert (status(engine, "a"), settled) == (Availability.AVAILABLE, [0] * VAIN_READS)


def test_whoever_looks_at_a_hold_that_lives_runs_no_script(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    stock(engine, "a", 1)
    held = hold(engine, "a=1")
    monkeypatch.setattr(engine.scripts, "expire", None)
    assert engine.reservations.get(held.id, "ann").deadline_ms == held.deadline_ms


def test_a_sale_is_open_between_its_start_and_its_end(engine: Engine) -> None:
    now_ms = engine.store.now_ms()
    stock(engine, "a", 5, sale_starts_ms=now_ms - 1_000, sale_ends_ms=now_ms + 60_000)
    hold(engine, "a=1")
    assert status(engine, "a") is Availability.AVAILABLE


def test_a_hold_can_be_paid_after_the_sale_has_ended(engine: Engine) -> None:
    stock(engine, "a", 5)
    held = hold(engine, "a=1")
    engine.stock.configure("a", None, {"sale_ends_ms": "1"}, OPS, NO_KEY)
    assert verdicts(engine, "a=1")["a"].verdict is Verdict.ENDED
    assert not pay(engine, held.id).late


def test_a_pause_of_selling_stops_reservations_but_not_payments(engine: Engine) -> None:
    stock(engine, "a", 5)
    held = hold(engine, "a=1")
    engine.stock.set_selling(True, "fire", OPS)
    assert engine.stock.selling().paused
    assert engine.stock.selling().reason == "fire"
    assert verdicts(engine, "a=1")["a"].verdict is Verdict.PAUSED
    assert status(engine, "a") is Availability.PAUSED
    assert engine.reservations.extend(held.id, ANN, 600, NO_KEY).state is State.RESERVED
    assert pay(engine, held.id).state == "allocated"
    engine.stock.set_selling(False, "out", OPS)
    hold(engine, "a=1")
    books.assert_right(engine)


def limited(engine: Engine) -> Reservation:
    stock(engine, "a", 9, limit_per_customer=2)
    return hold(engine, "a=2")


def test_the_limit_counts_holds_of_one_customer(engine: Engine) -> None:
    limited(engine)
    refused = verdicts(engine, "a=1", ANN)["a"]
    assert (refused.verdict, refused.max_reservable) == (Verdict.LIMIT_EXCEEDED, 0)
    hold(engine, "a=2", BOB)


def test_the_limit_counts_purchases(engine: Engine) -> None:
    held = limited(engine)
    pay(engine, held.id)
    assert verdicts(engine, "a=1", ANN)["a"].verdict is Verdict.LIMIT_EXCEEDED
    engine.orders.fulfil(held.id, OPS, [], NO_KEY)
    assert verdicts(engine, "a=1", ANN)["a"].verdict is Verdict.LIMIT_EXCEEDED


def test_the_limit_is_given_back_on_release(engine: Engine) -> None:
    engine.reservations.release(limited(engine).id, ANN)
    hold(engine, "a=2")
    books.assert_right(engine)


def test_the_limit_is_given_back_on_expiry(engine: Engine) -> None:
    run_out(engine.store, limited(engine).id)
    hold(engine, "a=2")
    books.assert_right(engine)


def test_the_limit_is_given_back_on_cancellation_as_far_as_it_goes(engine: Engine) -> None:
    order = pay(engine, limited(engine).id)
    engine.orders.cancel(order.id, OPS, "broken", lines("a=1"), NO_KEY)
    assert verdicts(engine, "a=2", ANN)["a"].max_reservable == 1
    hold(engine, "a=1")
    books.assert_right(engine)


def test_the_limit_counts_a_late_purchase(engine: Engine) -> None:
    held = limited(engine)
    run_out(engine.store, held.id)
    assert pay(engine, held.id).late
    assert verdicts(engine, "a=1", ANN)["a"].verdict is Verdict.LIMIT_EXCEEDED


def test_a_limit_counts_what_was_held_and_bought_before_it_was_set(engine: Engine) -> None:
    stock(engine, "a", 9)
    pay(engine, hold(engine, "a=3").id)
    held = hold(engine, "a=2")
    engine.stock.configure("a", None, {"limit_per_customer": "4"}, OPS, NO_KEY)
    refused = verdicts(engine, "a=1", ANN)["a"]
    assert (refused.verdict, refused.max_reservable) == (Verdict.LIMIT_EXCEEDED, 0)
    engine.reservations.release(held.id, ANN)
    assert verdicts(engine, "a=2", ANN)["a"].max_reservable == 1
    hold(engine, "a=1")
    hold(engine, "a=4", BOB)
    books.assert_right(engine)


def test_a_customer_s_count_outlives_the_limit_and_ends_with_what_is_counted(engine: Engine) -> None:
    stock(engine, "a", 9, limit_per_customer=3)
    held = hold(engine, "a=3")
    engine.stock.configure("a", None, {"limit_per_customer": ""}, OPS, NO_KEY)
    hold(engine, "a=2")
    assert engine.store.redis.hgetall(engine.store.keys.buyers("a")) == {"ann": "5"}
    run_out(engine.store, held.id)
    engine.expiry.sweep(KEEPER)
    assert engine.store.redis.hgetall(engine.store.keys.buyers("a")) == {"ann": "2"}


def test_extend_never_goes_past_900_seconds_from_the_start(engine: Engine) -> None:
    stock(engine, "a", 5)
    held = hold(engine, "a=1", seconds=10)
    key = engine.store.keys.reservation(held.id)
    engine.store.redis.hset(key, "created_ms", held.created_ms - 600_000)
    extended = engine.reservations.extend(held.id, ANN, 900, NO_KEY)
    assert extended.deadline_ms == held.created_ms - 600_000 + 900_000
    assert engine.reservations.get(held.id, "ann").deadline_ms == extended.deadline_ms


def test_reserve_never_holds_longer_than_900_seconds(engine: Engine) -> None:
    stock(engine, "a", 5)
    held = hold(engine, "a=1", seconds=5_000)
    assert held.deadline_ms - held.created_ms == 900_000


def test_extend_can_shorten_a_hold(engine: Engine) -> None:
    stock(engine, "a", 1)
    held = hold(engine, "a=1")
    shortened = engine.reservations.extend(held.id, ANN, 5, NO_KEY)
    assert held.created_ms + 5_000 <= shortened.deadline_ms < held.deadline_ms
    assert verdicts(engine, "a=1")["a"].next_release_ms == shortened.deadline_ms
    assert engine.store.redis.pttl(engine.store.keys.lease(held.id)) <= 5_000
    books.assert_right(engine)


def test_extend_is_refused_after_the_deadline(engine: Engine) -> None:
    stock(engine, "a", 1)
    held = hold(engine, "a=1")
    run_out(engine.store, held.id)
    with pytest.raises(ReservationExpired):
        engine.reservations.extend(held.id, ANN, 900, NO_KEY)


def release_it(engine: Engine, held: Reservation) -> None:
    engine.reservations.release(held.id, ANN)


def expire_it(engine: Engine, held: Reservation) -> None:
    run_out(engine.store, held.id)
    assert engine.expiry.sweep(KEEPER).expired == 1


def extend_it(engine: Engine, held: Reservation) -> None:
    engine.reservations.extend(held.id, ANN, 30, NO_KEY)


def pay_it(engine: Engine, held: Reservation) -> None:
    pay(engine, held.id)


def cancel_it(engine: Engine, held: Reservation) -> None:
    pay(engine, held.id)
    engine.orders.cancel(held.id, OPS, "", [], NO_KEY)


AFTERWARDS = [release_it, expire_it, extend_it, pay_it, cancel_it]


@pytest.mark.parametrize("happens", AFTERWARDS)
def test_a_repeated_checkout_shows_the_reservation_as_it_is_now(
    engine: Engine, happens: Callable[[Engine, Reservation], None]
) -> None:
    stock(engine, "a", 5)
    first = engine.reservations.reserve(ANN, lines("a=2"), 60, "key", "7")
    happens(engine, first)
    before = books.dump(engine.store.redis)
    again = engine.reservations.reserve(ANN, lines("a=2"), 60, "key", "7")
    assert again.replayed
    assert not first.replayed
    assert structs.replace(again, replayed=False) == engine.reservations.get(first.id, "ann")
    assert (again.id, again.created_ms, again.lines) == (first.id, first.created_ms, first.lines)
    assert books.dump(engine.store.redis) == before


def test_the_repeat_of_a_checkout_whose_hold_is_due_says_that_it_has_expired(engine: Engine) -> None:
    stock(engine, "a", 5)
    first = engine.reservations.reserve(ANN, lines("a=2"), 60, "key", "7")
    run_out(engine.store, first.id)
    assert engine.reservations.reserve(ANN, lines("a=2"), 60, "key", "7").state is State.EXPIRED
    [again] = engine.reservations.reserve_all([engine.reservations.claim(ANN, lines("a=2"), 60, "key", "7")])
    assert isinstance(again, Reservation)
    assert (again.id, again.state, again.replayed) == (first.id, State.EXPIRED, True)


def test_a_key_belongs_to_its_caller(engine: Engine) -> None:
    stock(engine, "a", 5)
    first = engine.reservations.reserve(ANN, lines("a=1"), 60, "key", "7")
    other = engine.reservations.reserve(BOB, lines("a=2"), 60, "key", "8")
    acted_for = engine.reservations.reserve(Origin("bob", user="ann"), lines("a=1"), 60, "key", "7")
    assert len({first.id, other.id, acted_for.id}) == 3


def test_a_key_with_another_request_is_refused(engine: Engine) -> None:
    stock(engine, "a", 5)
    engine.reservations.reserve(ANN, lines("a=1"), 60, "key", "7")
    with pytest.raises(IdempotencyKeyReused):
        engine.reservations.reserve(ANN, lines("a=2"), 60, "key", "8")
    books.assert_right(engine)


def test_a_refused_checkout_is_not_kept_under_its_key(engine: Engine) -> None:
    stock(engine, "a", 0)
    with pytest.raises(LinesUnavailable):
        engine.reservations.reserve(ANN, lines("a=1"), 60, "key", "7")
    stock(engine, "a", 1)
    assert not engine.reservations.reserve(ANN, lines("a=1"), 60, "key", "7").replayed


def test_a_repeated_extension_gives_the_first_answer(engine: Engine) -> None:
    stock(engine, "a", 5)
    held = hold(engine, "a=1")
    first = engine.reservations.extend(held.id, ANN, 60, Operation("o", "7"))
    engine.reservations.extend(held.id, ANN, 600, NO_KEY)
    pay(engine, held.id)
    again = engine.reservations.extend(held.id, ANN, 60, Operation("o", "7"))
    assert (again.deadline_ms, again.state, again.replayed) == (first.deadline_ms, State.RESERVED, True)
    with pytest.raises(IdempotencyKeyReused):
        engine.reservations.extend(held.id, ANN, 90, Operation("o", "8"))


def test_a_repeated_payment_gives_the_first_answer(engine: Engine) -> None:
    stock(engine, "a", 5)
    held = hold(engine, "a=1")
    first = pay(engine, held.id, operation=Operation("o", "7"))
    with_key = pay(engine, held.id, operation=Operation("o", "7"))
    with_payment = pay(engine, held.id)
    assert with_key.replayed
    assert first.committed_ms == with_key.committed_ms == with_payment.committed_ms
    assert [event.op for event in books.events(engine.store)].count("commit") == 1


def test_a_repeated_adjustment_gives_the_first_answer(engine: Engine) -> None:
    stock(engine, "a", 5)
    first = engine.stock.adjust("a", 3, OPS, "delivery", Operation("o", "7"))
    hold(engine, "a=2")
    again = engine.stock.adjust("a", 3, OPS, "delivery", Operation("o", "7"))
    assert again == first
    assert again.replayed
    assert books.counters(engine.store, "a") == (6, 2, 0, 8)


def test_a_repeated_cancellation_gives_the_first_answer(engine: Engine) -> None:
    stock(engine, "a", 5)
    order = pay(engine, hold(engine, "a=3").id)
    first = engine.orders.cancel(order.id, OPS, "", lines("a=1"), Operation("o", "7"))
    engine.orders.cancel(order.id, OPS, "", lines("a=1"), Operation("p", "8"))
    again = engine.orders.cancel(order.id, OPS, "", lines("a=1"), Operation("o", "7"))
    assert again.cancelled_lines == first.cancelled_lines == (Line("a", 1),)
    assert again.replayed
    assert books.counters(engine.store, "a") == (4, 0, 1, 5)


@pytest.mark.parametrize("end", [release_it, expire_it])
def test_a_late_payment_takes_the_stock_again_if_it_is_free(
    engine: Engine, end: Callable[[Engine, Reservation], None]
) -> None:
    stock(engine, "a", 2)
    held = hold(engine, "a=2")
    end(engine, held)
    order = pay(engine, held.id)
    assert order.late
    assert order.state == "allocated"
    assert books.counters(engine.store, "a") == (0, 0, 2, 2)
    assert pay(engine, held.id).late
    books.assert_right(engine)


@pytest.mark.parametrize("end", [release_it, expire_it])
def test_a_late_payment_without_stock_must_be_refunded_and_that_is_final(
    engine: Engine, end: Callable[[Engine, Reservation], None]
) -> None:
    stock(engine, "a", 2)
    stock(engine, "b", 2)
    held = hold(engine, "a=2 b=1")
    end(engine, held)
    other = hold(engine, "a=1", BOB)
    for _ in range(2):
        with pytest.raises(RefundRequired) as refused:
            pay(engine, held.id)
        assert refused.value.lines == (MissingLine("a", 2, 1, Verdict.INSUFFICIENT), MissingLine("b", 1, 2, Verdict.OK))
    engine.reservations.release(other.id, BOB)
    with pytest.raises(RefundRequired):
        pay(engine, held.id)
    assert [event.op for event in books.events(engine.store)].count("refund_required") == 1
    assert pay(engine, held.id, "p2").late
    books.assert_right(engine)


def test_a_late_payment_ends_holds_that_are_due_and_in_its_way(engine: Engine) -> None:
    stock(engine, "a", 2)
    held = hold(engine, "a=2")
    expire_it(engine, held)
    run_out(engine.store, hold(engine, "a=1", BOB).id)
    assert pay(engine, held.id).late
    books.assert_right(engine)


def test_a_payment_at_the_deadline_is_late(engine: Engine) -> None:
    stock(engine, "a", 2)
    held = hold(engine, "a=2")
    run_out(engine.store, held.id)
    assert pay(engine, held.id).late
    assert [event.op for event in books.events(engine.store)] == ["recount", "reserve", "expire", "commit"]
    books.assert_right(engine)


def test_a_partial_cancellation_leaves_the_rest_to_be_fulfilled(engine: Engine) -> None:
    stock(engine, "a", 5)
    stock(engine, "b", 5)
    order = pay(engine, hold(engine, "a=3 b=1").id)
    partly = engine.orders.cancel(order.id, OPS, "broken", lines("a=1 b=1"), NO_KEY)
    assert (partly.state, partly.cancelled_lines) == ("allocated", (Line("a", 1), Line("b", 1)))
    fulfilled = engine.orders.fulfil(order.id, OPS, [], NO_KEY)
    assert (fulfilled.state, fulfilled.lines) == ("fulfilled", (Line("a", 3), Line("b", 1)))
    assert fulfilled.cancelled_lines == (Line("a", 1), Line("b", 1))
    assert fulfilled.fulfilled_lines == (Line("a", 2),)
    assert books.all_counters(engine.store) == {"a": (3, 0, 0, 3), "b": (5, 0, 0, 5)}
    assert engine.orders.fulfil(order.id, OPS, [], NO_KEY).state == "fulfilled"
    assert engine.orders.get(order.id, "ann").state == "fulfilled"
    books.assert_right(engine)


def test_an_order_is_shipped_in_parts_and_is_allocated_until_nothing_is_left(engine: Engine) -> None:
    stock(engine, "a", 5)
    stock(engine, "b", 5)
    order = pay(engine, hold(engine, "a=3 b=2").id)
    part = engine.orders.fulfil(order.id, OPS, lines("a=1"), NO_KEY)
    assert (part.state, part.fulfilled_lines) == ("allocated", (Line("a", 1),))
    part = engine.orders.fulfil(order.id, OPS, lines("b=2 a=1"), NO_KEY)
    assert (part.state, part.fulfilled_lines) == ("allocated", (Line("a", 2), Line("b", 2)))
    assert books.all_counters(engine.store) == {"a": (2, 0, 1, 3), "b": (3, 0, 0, 3)}
    with pytest.raises(ValidationFailed):
        engine.orders.fulfil(order.id, OPS, lines("a=2"), NO_KEY)
    with pytest.raises(ValidationFailed):
        engine.orders.cancel(order.id, OPS, "", lines("b=1"), NO_KEY)
    ended = engine.orders.cancel(order.id, OPS, "broken", [], NO_KEY)
    assert (ended.state, ended.cancelled_lines) == ("fulfilled", (Line("a", 1),))
    assert engine.orders.get(order.id, "ann") == replace(ended, replayed=False)
    with pytest.raises(InvalidTransition):
        engine.orders.fulfil(order.id, OPS, lines("a=1"), NO_KEY)
    assert books.all_counters(engine.store) == {"a": (3, 0, 0, 3), "b": (3, 0, 0, 3)}
    assert engine.store.redis.hgetall(engine.store.keys.buyers("a")) == {"ann": "2"}
    books.assert_right(engine)


def test_a_part_is_shipped_once_however_often_the_call_is_repeated(engine: Engine) -> None:
    stock(engine, "a", 5)
    order = pay(engine, hold(engine, "a=3").id)
    first = engine.orders.fulfil(order.id, OPS, lines("a=1"), Operation("o1", "7"))
    again = engine.orders.fulfil(order.id, OPS, lines("a=1"), Operation("o1", "7"))
    assert (first.replayed, again) == (False, replace(first, replayed=True))
    with pytest.raises(IdempotencyKeyReused):
        engine.orders.fulfil(order.id, OPS, lines("a=2"), Operation("o1", "8"))
    assert books.counters(engine.store, "a") == (2, 0, 2, 4)
    books.assert_right(engine)


def test_cancellations_line_by_line_end_in_a_cancelled_order(engine: Engine) -> None:
    stock(engine, "a", 5)
    order = pay(engine, hold(engine, "a=2").id)
    assert engine.orders.cancel(order.id, OPS, "", lines("a=1"), NO_KEY).state == "allocated"
    assert engine.orders.cancel(order.id, OPS, "", lines("a=1"), NO_KEY).state == "cancelled"
    assert engine.orders.cancel(order.id, OPS, "", [], NO_KEY).state == "cancelled"
    assert books.counters(engine.store, "a") == (5, 0, 0, 5)
    books.assert_right(engine)


def test_release_is_repeatable_and_never_undoes_an_expiry(engine: Engine) -> None:
    stock(engine, "a", 5)
    held, overdue = hold(engine, "a=1"), hold(engine, "a=1")
    assert engine.reservations.release(held.id, ANN, "left").state is State.RELEASED
    assert engine.reservations.release(held.id, ANN).state is State.RELEASED
    run_out(engine.store, overdue.id)
    assert engine.reservations.release(overdue.id, ANN).state is State.EXPIRED
    assert engine.reservations.release(overdue.id, ANN).state is State.EXPIRED
    books.assert_right(engine)


Act = Callable[[Engine, Reservation], object]
HELD_ERRORS: list[tuple[str, Act, type[EngineError]]] = [
    ("another user's hold", lambda engine, held: engine.reservations.get(held.id, "bob"), NotFound),
    ("an unknown hold", lambda engine, held: engine.reservations.get("r9", "ann"), NotFound),
    ("extend another's", lambda engine, held: engine.reservations.extend(held.id, BOB, 9, NO_KEY), NotFound),
    ("release another's", lambda engine, held: engine.reservations.release(held.id, BOB), NotFound),
    ("pay nothing", lambda engine, held: pay(engine, "r9"), NotFound),
    ("an order that is a hold", lambda engine, held: engine.orders.get(held.id, None), NotFound),
    ("fulfil a hold", lambda engine, held: engine.orders.fulfil(held.id, OPS, [], NO_KEY), NotFound),
    ("cancel a hold", lambda engine, held: engine.orders.cancel(held.id, OPS, "", [], NO_KEY), NotFound),
    ("an unknown SKU", lambda engine, held: engine.stock.get("b"), NotFound),
    ("adjust an unknown SKU", lambda engine, held: engine.stock.adjust("b", 1, OPS, "", NO_KEY), NotFound),
    ("withdraw too much", lambda engine, held: engine.stock.adjust("a", -4, OPS, "", NO_KEY), InsufficientStock),
    ("restock too much", lambda engine, held: engine.stock.adjust("a", 10**9, OPS, "", NO_KEY), ValidationFailed),
    ("recount too low", lambda engine, held: stock(engine, "a", 1), StockBelowClaims),
    (
        "a window upside down",
        lambda engine, _: stock(engine, "a", 9, sale_starts_ms=2, sale_ends_ms=1),
        ValidationFailed,
    ),
]


@pytest.mark.parametrize(("act", "error"), [pytest.param(*row[1:], id=row[0]) for row in HELD_ERRORS])
def test_what_a_hold_forbids_is_a_typed_error_and_changes_nothing(
    engine: Engine, act: Act, error: type[EngineError]
) -> None:
    stock(engine, "a", 5)
    held = hold(engine, "a=2")
    before = books.dump(engine.store.redis)
    with pytest.raises(error):
        act(engine, held)
    assert books.dump(engine.store.redis) == before


ORDER_ERRORS: list[tuple[str, Act, type[EngineError]]] = [
    ("release", lambda engine, held: engine.reservations.release(held.id, ANN), AlreadyCommitted),
    ("another payment", lambda engine, held: pay(engine, held.id, "p2"), AlreadyCommitted),
    ("extend", lambda engine, held: engine.reservations.extend(held.id, ANN, 9, NO_KEY), InvalidTransition),
    ("another's order", lambda engine, held: engine.orders.get(held.id, "bob"), NotFound),
    ("cancel too much", lambda e, held: e.orders.cancel(held.id, OPS, "", lines("a=3"), NO_KEY), ValidationFailed),
    ("cancel another SKU", lambda e, held: e.orders.cancel(held.id, OPS, "", lines("b=1"), NO_KEY), ValidationFailed),
]


@pytest.mark.parametrize(("act", "error"), [pytest.param(*row[1:], id=row[0]) for row in ORDER_ERRORS])
def test_what_an_order_forbids_is_a_typed_error_and_changes_nothing(
    engine: Engine, act: Act, error: type[EngineError]
) -> None:
    stock(engine, "a", 5)
    held = hold(engine, "a=2")
    pay(engine, held.id)
    before = books.dump(engine.store.redis)
    with pytest.raises(error):
        act(engine, held)
    assert books.dump(engine.store.redis) == before


def test_a_fulfilled_order_cannot_be_cancelled_nor_a_cancelled_one_fulfilled(engine: Engine) -> None:
    stock(engine, "a", 5)
    fulfilled, cancelled = pay(engine, hold(engine, "a=1").id), pay(engine, hold(engine, "a=1").id, "p2")
    engine.orders.fulfil(fulfilled.id, OPS, [], NO_KEY)
    engine.orders.cancel(cancelled.id, OPS, "", [], NO_KEY)
    with pytest.raises(InvalidTransition, match="fulfilled"):
        engine.orders.cancel(fulfilled.id, OPS, "", [], NO_KEY)
    with pytest.raises(InvalidTransition, match="cancelled"):
        engine.orders.fulfil(cancelled.id, OPS, [], NO_KEY)


WRITES: list[Act] = [
    lambda engine, held: hold(engine, "a=1"),
    lambda engine, held: engine.reservations.extend(held.id, ANN, 9, NO_KEY),
    lambda engine, held: engine.reservations.release(held.id, ANN),
    lambda engine, held: pay(engine, held.id),
    lambda engine, held: engine.expiry.sweep(KEEPER),
    lambda engine, held: engine.stock.adjust("a", 1, OPS, "", NO_KEY),
    lambda engine, held: stock(engine, "a", 9),
    lambda engine, held: engine.stock.set_selling(True, "fire", OPS),
    lambda engine, held: engine.stock.set_default_hold(60, "a rush", OPS),
]


@pytest.mark.parametrize("act", WRITES)
def test_a_closed_store_changes_nothing(engine: Engine, act: Act) -> None:
    stock(engine, "a", 5)
    run_out(engine.store, hold(engine, "a=1").id)
    held = hold(engine, "a=2")
    engine.store.redis.hset(engine.store.keys.meta, "gate", "closed")
    before = books.dump(engine.store.redis)
    with pytest.raises(Closed):
        act(engine, held)
    assert books.dump(engine.store.redis) == before


@pytest.mark.parametrize("act", WRITES)
def test_a_ledger_that_is_ahead_of_its_counter_stops_every_change(engine: Engine, act: Act) -> None:
    stock(engine, "a", 5)
    run_out(engine.store, hold(engine, "a=1").id)
    held = hold(engine, "a=2")
    engine.store.redis.hset(engine.store.keys.meta, "seq", 1)
    before = books.dump(engine.store.redis)
    with pytest.raises(Inconsistent):
        act(engine, held)
    assert books.dump(engine.store.redis) == before


@pytest.mark.parametrize("tampered", [("sku", "reserved", "0"), ("rsv", "lines", "a=3")])
def test_a_due_hold_that_refuses_to_end_is_an_error_and_not_an_endless_wait(
    engine: Engine, tampered: tuple[str, str, str]
) -> None:
    stock(engine, "a", 5)
    held = hold(engine, "a=2")
    run_out(engine.store, held.id)
    kind, name, value = tampered
    keys = engine.store.keys
    engine.store.redis.hset(keys.sku("a") if kind == "sku" else keys.reservation(held.id), name, value)
    before = books.dump(engine.store.redis)
    with pytest.raises(Inconsistent):
        pay(engine, held.id)
    with pytest.raises(Inconsistent):
        engine.reservations.release(held.id, ANN)
    assert books.dump(engine.store.redis) == before


def test_a_recount_moves_available_only(engine: Engine) -> None:
    stock(engine, "a", 9)
    hold(engine, "a=2")
    pay(engine, hold(engine, "a=3").id)
    stock(engine, "a", 6)
    assert books.counters(engine.store, "a") == (1, 2, 3, 6)
    stock(engine, "a", 5)
    assert books.counters(engine.store, "a") == (0, 2, 3, 5)
    books.assert_right(engine)


def test_attributes_left_out_stay_and_empty_ones_are_cleared(engine: Engine) -> None:
    stock(engine, "a", 9, name="Shoe", limit_per_customer=2)
    sku, new = engine.stock.configure("a", None, {"name": ""}, OPS, NO_KEY)
    assert (sku.name, sku.limit_per_customer, sku.on_hand, new) == (None, 2, 9, False)
    sku, new = engine.stock.configure("b", None, {}, OPS, NO_KEY)
    assert (sku.on_hand, new) == (0, True)


def test_skus_are_listed_by_name_in_pages(engine: Engine) -> None:
    for sku in ("b", "a:1", "a", "c"):
        stock(engine, sku, 1)
    assert [sku.sku for sku in engine.stock.page("", 2)] == ["a", "a:1"]
    assert [sku.sku for sku in engine.stock.page("a:1", 2)] == ["b", "c"]
    assert engine.stock.page("c", 2) == []


def test_every_change_is_one_event_with_who_and_why(engine: Engine) -> None:
    stock(engine, "a", 5)
    origin = Origin("front", request_id="q1", user="ann")
    held = engine.reservations.reserve(origin, lines("a=2"), 60)
    engine.reservations.extend(held.id, origin, 90, NO_KEY)
    pay(engine, held.id)
    engine.orders.cancel(held.id, OPS, "broken", lines("a=1"), NO_KEY)
    engine.orders.fulfil(held.id, OPS, [], NO_KEY)
    gone = hold(engine, "a=1")
    engine.reservations.release(gone.id, ANN, "left")
    run_out(engine.store, hold(engine, "a=1", BOB).id)
    engine.expiry.sweep(KEEPER)
    engine.stock.adjust("a", 2, OPS, "delivery", NO_KEY)
    engine.stock.adjust("a", -1, OPS, "broken", NO_KEY)
    engine.stock.set_selling(True, "fire", OPS)
    engine.stock.set_selling(False, "out", OPS)
    engine.stock.set_default_hold(60, "a rush", OPS)
    engine.stock.configure("a", None, {"name": "Shoe"}, OPS, NO_KEY)
    happened = books.events(engine.store)
    assert [(event.epoch, event.seq) for event in happened] == [(1, seq) for seq in range(1, len(happened) + 1)]
    assert [(event.op, event.actor, event.user, event.reason) for event in happened] == [
        ("recount", "ops", "", ""),
        ("reserve", "front", "ann", ""),
        ("extend", "front", "ann", ""),
        ("commit", "shop", "ann", ""),
        ("cancel", "ops", "ann", "broken"),
        ("fulfil", "ops", "ann", ""),
        ("reserve", "ann", "ann", ""),
        ("release", "ann", "ann", "left"),
        ("reserve", "bob", "bob", ""),
        ("expire", "keeper", "bob", ""),
        ("restock", "ops", "", "delivery"),
        ("withdraw", "ops", "", "broken"),
        ("pause", "ops", "", "fire"),
        ("resume", "ops", "", "out"),
        ("default_hold", "ops", "", "a rush"),
        ("configure", "ops", "", "name=Shoe"),
    ]
    assert [event.request_id for event in happened][:3] == ["", "q1", "q1"]
    assert happened[3].payment_id == "p1"
    assert happened[1].deadline_ms == held.deadline_ms
    books.assert_right(engine)


def random_call(engine: Engine, pick: random.Random, held: list[Reservation]) -> None:
    skus = pick.sample(["a", "b", "c"], pick.randint(1, 3))
    user = pick.choice([ANN, BOB])
    chosen = pick.choice(held) if held else Reservation("r9", State.RESERVED, "ann", (), 0, 0)
    owner = Origin(chosen.user, user=chosen.user)
    match pick.randrange(12):
        case 0 | 1 | 2 | 3:
            held.append(engine.reservations.reserve(user, [Line(sku, pick.randint(1, 3)) for sku in skus], 900))
        case 4 | 5:
            pay(engine, chosen.id, pick.choice(["p1", "p2"]))
        case 6:
            engine.reservations.release(chosen.id, owner)
        case 7:
            if engine.reservations.get(chosen.id, chosen.user).state is State.RESERVED:
                run_out(engine.store, chosen.id)
        case 8:
            engine.orders.cancel(chosen.id, OPS, "", pick.choice([[], chosen.lines[:1]]), NO_KEY)
        case 9:
            engine.orders.fulfil(chosen.id, OPS, [], NO_KEY)
        case 10:
            engine.stock.adjust(skus[0], pick.choice([-2, -1, 3]), OPS, "", NO_KEY)
        case 11:
            stock(engine, skus[0], pick.randint(0, 12), limit_per_customer=pick.choice(["", "4"]))


@pytest.mark.parametrize("seed", range(5))
def test_whatever_happens_the_ledger_folds_to_the_counters(engine: Engine, seed: int) -> None:
    pick = random.Random(seed)
    for sku in ("a", "b", "c"):
        stock(engine, sku, 10)
    held: list[Reservation] = []
    refused: set[str] = set()
    for _ in range(300):
        try:
            random_call(engine, pick, held)
        except EngineError as error:
            refused.add(error.code)
    engine.expiry.sweep(KEEPER)
    assert "inconsistent" not in refused
    assert {"lines_unavailable", "already_committed"} <= refused
    books.assert_right(engine)


def test_what_is_due_does_not_stand_in_the_way_of_a_withdrawal_or_a_recount(fake_engine: Engine) -> None:
    stock(fake_engine, "a", 2)
    run_out(fake_engine.store, hold(fake_engine, "a=2").id)
    assert fake_engine.stock.adjust("a", -1, OPS, "broken", NO_KEY).available == 1
    run_out(fake_engine.store, hold(fake_engine, "a=1").id)
    assert fake_engine.stock.configure("a", 0, {}, OPS, NO_KEY)[0].on_hand == 0


def test_skus_are_configured_in_one_round_trip_each_on_its_own(fake_engine: Engine) -> None:
    stock(fake_engine, "held", 5)
    stock(fake_engine, "overdue", 5)
    stock(fake_engine, "overdue, too", 5)
    hold(fake_engine, "held=3")
    for sku in ("overdue", "overdue, too"):
        run_out(fake_engine.store, fake_engine.reservations.reserve(ANN, [Line(sku, 3)], 900).id)
    changes = [
        SkuChange("new", 7, {"name": "New"}),
        SkuChange("held", 2, {}),
        SkuChange("overdue", 2, {"limit_per_customer": "1"}),
        SkuChange("overdue, too", 1, {}),
        SkuChange("held", None, {"name": "Held"}),
        SkuChange("held", 9, {"sale_starts_ms": "2", "sale_ends_ms": "1"}),
    ]
    before = books.dump(fake_engine.store.redis)
    rehearsed = fake_engine.stock.configure_all(changes, OPS, "a drill", Lever.DRY_RUN)
    assert [type(result) for result in rehearsed[1:4]] == [StockBelowClaims] * 3
    assert books.dump(fake_engine.store.redis) == before
    created, below, *recounted, named, upside_down = fake_engine.stock.configure_all(changes, OPS)
    assert created == (Sku("new", 7, 7, 0, 0, name="New"), True)
    assert isinstance(below, StockBelowClaims)
    assert isinstance(upside_down, ValidationFailed)
    assert recounted == [
        (Sku("overdue", 2, 2, 0, 0, limit_per_customer=1), False),
        (Sku("overdue, too", 1, 1, 0, 0), False),
    ]
    assert named == (Sku("held", 5, 2, 3, 0, name="Held"), False)
    books.assert_right(fake_engine)
    assert fake_engine.stock.configure_all([], OPS) == []


def test_whoever_is_in_the_way_of_an_overdue_hold_the_ledger_says_that_expiry_ended_it(fake_engine: Engine) -> None:
    stock(fake_engine, "a", 1)
    for ask in (
        lambda held: fake_engine.stock.availability(["a"], Origin("guest")),
        lambda held: fake_engine.reservations.release(held, ANN),
        lambda held: fake_engine.reservations.get(held, "ann"),
    ):
        held = hold(fake_engine, "a=1").id
        run_out(fake_engine.store, held)
        ask(held)
        assert books.events(fake_engine.store)[-1].op == "expire"
        assert books.events(fake_engine.store)[-1].actor == "expiry"
