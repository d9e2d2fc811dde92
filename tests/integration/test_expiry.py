from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from engine.engine import Engine, build
from engine.errors import EngineError, LinesUnavailable, RefundRequired, StoreUnavailable
from engine.expiry import PAGE
from engine.keeper import Keeper
from engine.states import Availability, State, Verdict
from engine.store import client
from engine.values import Operation, Origin, Reservation
from tests import books
from tests.books import lines, run_out
from tests.waiting import wait_until

OPS, KEEPER, SHOP = Origin("ops"), Origin("keeper"), Origin("shop")
ANN, BOB = Origin("ann", user="ann"), Origin("bob", user="bob")
NO_KEY = Operation()


@pytest.fixture(autouse=True)
def keepers_stop_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.keeper.SUBSCRIPTION_WAIT_SECONDS", 0.05)


@contextmanager
def keeper(engine: Engine, sweep_interval_ms: int) -> Iterator[None]:
    """A keeper at work in a thread, with connections of its own, as the command runs it."""
    configured = replace(engine.settings, sweep_interval_ms=sweep_interval_ms)
    redis, watching = client(configured, certified=True), client(configured)
    working = Keeper(build(configured, redis, watching=watching))
    thread = threading.Thread(target=working.run)
    thread.start()
    try:
        yield
    finally:
        working.stop()
        thread.join(10)
        redis.close()
        watching.close()
        assert not thread.is_alive()


def stock(engine: Engine, sku: str, on_hand: int) -> None:
    engine.stock.configure(sku, on_hand, {}, OPS, NO_KEY)


def hold(engine: Engine, text: str, origin: Origin = ANN, seconds: int = 900) -> Reservation:
    return engine.reservations.reserve(origin, lines(text), seconds)


def state(engine: Engine, reservation_id: str) -> str:
    return str(engine.store.redis.hget(engine.store.keys.reservation(reservation_id), "state"))


def operations(engine: Engine) -> Counter[str]:
    return Counter(event.op for event in books.recorded(engine))


def wait_until_due(engine: Engine, held: Reservation) -> None:
    wait_until(lambda: engine.store.now_ms() >= held.deadline_ms)


def test_a_notification_alone_wakes_the_sweeper(recorded_engine: Engine) -> None:
    engine = recorded_engine
    stock(engine, "a", 5)
    redis = engine.store.redis
    redis.config_set("notify-keyspace-events", "")
    with keeper(engine, sweep_interval_ms=60_000):
        wait_until(lambda: redis.pubsub_numsub("__keyevent@0__:expired")[0][1])
        expect_expiry_by_a_keeper(engine)


def test_the_sweeper_works_with_notifications_switched_off(recorded_engine: Engine) -> None:
    engine = recorded_engine
    stock(engine, "a", 5)
    redis = engine.store.redis
    with keeper(engine, sweep_interval_ms=250):
        wait_until(lambda: redis.pubsub_numsub("__keyevent@0__:expired")[0][1])
        redis.config_set("notify-keyspace-events", "")
        expect_expiry_by_a_keeper(engine)


def expect_expiry_by_a_keeper(engine: Engine) -> None:
    held = hold(engine, "a=2", seconds=1)
    assert books.counters(engine.store, "a") == (3, 2, 0, 5)
    wait_until(lambda: state(engine, held.id) == "expired", 5)
    [expired] = [event for event in books.recorded(engine) if event.op == "expire"]
    assert expired.actor == "keeper"
    assert 0 <= expired.at_ms - held.deadline_ms < 2_000
    assert books.counters(engine.store, "a") == (5, 0, 0, 5)
    books.assert_right(engine)


def test_a_keeper_says_that_it_is_alive_and_opens_an_empty_store(recorded_engine: Engine) -> None:
    engine = recorded_engine
    engine.store.redis.flushall()
    assert engine.gate() == "closed"
    with keeper(engine, 250):
        wait_until(engine.store.keeper_alive)
        wait_until(lambda: engine.gate() == "open")
    assert not engine.store.keeper_alive()


def test_reserve_gets_stock_that_is_due_without_any_keeper(engine: Engine) -> None:
    stock(engine, "a", 2)
    held = hold(engine, "a=2", seconds=1)
    with pytest.raises(LinesUnavailable) as refused:
        hold(engine, "a=1", BOB)
    assert refused.value.lines[0].verdict is Verdict.ALL_HELD
    wait_until_due(engine, held)
    hold(engine, "a=1", BOB)
    assert books.counters(engine.store, "a") == (1, 1, 0, 2)
    assert state(engine, held.id) == "expired"
    books.assert_right(engine)


def test_availability_shows_stock_that_is_due_without_any_keeper(engine: Engine) -> None:
    stock(engine, "a", 2)
    held = hold(engine, "a=2", seconds=1)
    assert engine.stock.availability(["a"], SHOP)[0].status is Availability.ALL_HELD
    wait_until_due(engine, held)
    [found] = engine.stock.availability(["a"], SHOP)
    assert (found.status, found.available) == (Availability.AVAILABLE, 2)
    books.assert_right(engine)


def test_availability_ends_due_holds_of_every_sku_asked_for(engine: Engine) -> None:
    stock(engine, "a", PAGE)
    stock(engine, "b", 1)
    for _ in range(PAGE):
        run_out(engine.store, hold(engine, "a=1").id, by_ms=5_000)
    run_out(engine.store, hold(engine, "b=1").id)
    found = engine.stock.availability(["a", "b"], SHOP)
    assert [(item.status, item.available) for item in found] == [
        (Availability.AVAILABLE, PAGE),
        (Availability.AVAILABLE, 1),
    ]


def test_commit_after_the_deadline_is_decided_by_the_clock_of_redis_without_any_keeper(engine: Engine) -> None:
    stock(engine, "a", 2)
    held = hold(engine, "a=2", seconds=1)
    wait_until_due(engine, held)
    assert state(engine, held.id) == "reserved"
    order = engine.reservations.commit(held.id, SHOP, "p1", NO_KEY)
    assert order.late
    assert order.committed_ms >= held.deadline_ms
    assert operations(engine) == {"recount": 1, "reserve": 1, "expire": 1, "commit": 1}
    books.assert_right(engine)


def test_commit_before_the_deadline_holds_for_good(recorded_engine: Engine) -> None:
    engine = recorded_engine
    stock(engine, "a", 2)
    held = hold(engine, "a=2", seconds=1)
    assert not engine.reservations.commit(held.id, SHOP, "p1", NO_KEY).late
    with keeper(engine, 10):
        wait_until_due(engine, held)
        wait_until(engine.store.keeper_alive)
    assert state(engine, held.id) == "committed"
    assert operations(engine)["expire"] == 0
    books.assert_right(engine)


def test_commit_around_the_deadline_happens_once_and_never_against_the_clock(engine: Engine) -> None:
    stock(engine, "a", 30)
    held = [hold(engine, "a=1", seconds=1) for _ in range(30)]
    wait_until(lambda: engine.store.now_ms() >= held[15].deadline_ms)
    orders = [engine.reservations.commit(each.id, SHOP, f"p of {each.id}", NO_KEY) for each in held]
    again = [engine.reservations.commit(each.id, SHOP, f"p of {each.id}", NO_KEY) for each in held]
    assert [(order.committed_ms, order.late) for order in again] == [
        (order.committed_ms, order.late) for order in orders
    ]
    assert all(order.late == (order.committed_ms >= each.deadline_ms) for order, each in zip(orders, held, strict=True))
    assert orders[0].late
    assert operations(engine)["commit"] == 30
    books.assert_right(engine)


def test_a_late_commit_without_stock_asks_for_a_refund(engine: Engine) -> None:
    stock(engine, "a", 1)
    held = hold(engine, "a=1", seconds=1)
    wait_until_due(engine, held)
    hold(engine, "a=1", BOB)
    with pytest.raises(RefundRequired):
        engine.reservations.commit(held.id, SHOP, "p1", NO_KEY)
    books.assert_right(engine)


def test_expiring_twice_gives_one_event(engine: Engine) -> None:
    stock(engine, "a", 5)
    held = hold(engine, "a=2")
    run_out(engine.store, held.id)
    statuses = engine.scripts.expire([(held.id, ["a"]), (held.id, ["a"])], KEEPER)
    assert statuses == ["expired", "ended"]
    assert engine.scripts.expire([(held.id, ["a"])], KEEPER) == ["ended"]
    assert operations(engine)["expire"] == 1
    books.assert_right(engine)


def test_many_sweepers_at_once_end_each_hold_once(engine: Engine) -> None:
    stock(engine, "a", 200)
    for _ in range(200):
        run_out(engine.store, hold(engine, "a=1").id)
    threads = [threading.Thread(target=engine.expiry.sweep, args=(KEEPER,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert operations(engine)["expire"] == 200
    assert books.counters(engine.store, "a") == (200, 0, 0, 200)
    books.assert_right(engine)


def test_three_thousand_holds_that_are_due_in_the_same_second_are_all_returned(recorded_engine: Engine) -> None:
    engine = recorded_engine
    stock(engine, "a", 3_000)
    deadline_ms = hold_many(engine, 3_000)
    with keeper(engine, 250):
        wait_until(lambda: books.counters(engine.store, "a") == (3_000, 0, 0, 3_000))
    assert engine.store.now_ms() >= deadline_ms
    assert operations(engine)["expire"] == 3_000
    assert engine.store.redis.zcard(engine.store.keys.deadlines) == 0
    books.assert_right(engine)


def test_reserve_gets_three_thousand_due_units_in_one_call(engine: Engine) -> None:
    stock(engine, "a", 3_000)
    deadline_ms = hold_many(engine, 3_000)
    wait_until(lambda: engine.store.now_ms() >= deadline_ms)
    hold(engine, "a=3000")
    assert books.counters(engine.store, "a") == (0, 3_000, 0, 3_000)
    books.assert_right(engine)


def hold_many(engine: Engine, count: int) -> int:
    """Hold one unit of `a` in each of `count` reservations, all with the deadline that is given back."""
    keys, redis = engine.store.keys, engine.store.redis
    held = [hold(engine, "a=1", Origin(f"u{number}", user=f"u{number}")).id for number in range(count)]
    deadline_ms: int = engine.store.now_ms() + 500
    pipe = redis.pipeline(transaction=False)
    for reservation_id in held:
        pipe.hset(keys.reservation(reservation_id), "deadline_ms", deadline_ms)
        pipe.set(keys.lease(reservation_id), 1, px=500)
    pipe.zadd(keys.deadlines, dict.fromkeys(held, deadline_ms))
    books.RAN_OUT.update(held)
    pipe.hset(keys.sku("a"), "next_release_ms", deadline_ms)
    pipe.execute()
    return deadline_ms


STUCK = {
    "counters too low": {"state": "reserved", "user": "eve", "lines": "gone=1", "deadline_ms": "1"},
    "no lines": {"state": "reserved", "user": "eve", "deadline_ms": "1"},
    "torn lines": {"state": "reserved", "user": "eve", "lines": "torn", "deadline_ms": "1"},
    "a torn line": {"state": "reserved", "user": "eve", "lines": "a=1 torn", "deadline_ms": "1"},
    "no deadline": {"state": "reserved", "user": "eve", "lines": "a=1"},
    "not due": {"state": "reserved", "user": "eve", "lines": "a=1", "deadline_ms": "4000000000000"},
}


@pytest.mark.parametrize("fields", STUCK.values(), ids=STUCK)
def test_holds_that_refuse_to_end_do_not_starve_those_behind_them(
    recorded_engine: Engine, fields: dict[str, str]
) -> None:
    engine = recorded_engine
    count = PAGE + 100
    stock(engine, "a", 5)
    keys, redis = engine.store.keys, engine.store.redis
    pipe = redis.pipeline(transaction=False)
    for number in range(count):
        pipe.hset(keys.reservation(f"stuck{number}"), mapping=fields)
        pipe.zadd(keys.deadlines, {f"stuck{number}": number + 1})
    pipe.execute()
    held = hold(engine, "a=2")
    run_out(engine.store, held.id)
    with keeper(engine, 50):
        wait_until(lambda: state(engine, held.id) == "expired", 5)
    assert redis.zcard(keys.deadlines) == count
    assert books.counters(engine.store, "a") == (5, 0, 0, 5)
    assert operations(engine) == {"recount": 1, "reserve": 1, "expire": 1}


def test_reserve_gets_due_stock_from_behind_holds_that_refuse_to_end(engine: Engine) -> None:
    stock(engine, "a", 2)
    keys, redis = engine.store.keys, engine.store.redis
    for number in range(PAGE):
        redis.hset(keys.reservation(f"dead{number}"), mapping=STUCK["not due"] | {"state": "expired"})
    redis.zadd(keys.deadlines, {f"dead{number}": number + 1 for number in range(PAGE)})
    run_out(engine.store, hold(engine, "a=2").id)
    hold(engine, "a=2", BOB)
    assert books.counters(engine.store, "a") == (0, 2, 0, 2)
    books.assert_right(engine)


def test_a_redis_that_takes_no_writes_is_an_outage_and_nothing_else(engine: Engine) -> None:
    stock(engine, "a", 2)
    held = hold(engine, "a=2")
    run_out(engine.store, held.id)
    engine.store.redis.config_set("min-replicas-to-write", 1)
    try:
        with pytest.raises(StoreUnavailable):
            engine.stock.adjust("a", 1, OPS, "", NO_KEY)
        with pytest.raises(StoreUnavailable):
            hold(engine, "a=2", BOB)
        with pytest.raises(StoreUnavailable):
            engine.expiry.sweep(KEEPER)
    finally:
        engine.store.redis.config_set("min-replicas-to-write", 0)
    hold(engine, "a=2", BOB)
    books.assert_right(engine)


def test_ids_in_deadlines_without_a_hold_are_dropped(recorded_engine: Engine) -> None:
    engine = recorded_engine
    stock(engine, "a", 5)
    released = hold(engine, "a=1")
    engine.reservations.release(released.id, ANN)
    redis, deadlines = engine.store.redis, engine.store.keys.deadlines
    redis.zadd(deadlines, {"orphan": 1, released.id: 2})
    with keeper(engine, 50):
        wait_until(lambda: redis.zcard(deadlines) == 0, 5)
    assert operations(engine) == {"recount": 1, "reserve": 1, "release": 1}
    books.assert_right(engine)


def test_a_dead_hold_stays_dead(engine: Engine) -> None:
    stock(engine, "a", 5)
    held = hold(engine, "a=1", seconds=1)
    wait_until_due(engine, held)
    with pytest.raises(EngineError) as refused:
        engine.reservations.extend(held.id, ANN, 900, NO_KEY)
    assert refused.value.code == "reservation_expired"
    assert engine.reservations.release(held.id, ANN).state is State.EXPIRED
    with pytest.raises(EngineError):
        engine.reservations.extend(held.id, ANN, 900, NO_KEY)
    books.assert_right(engine)
