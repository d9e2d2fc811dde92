from __future__ import annotations

import random
import threading
from collections.abc import Callable

import pytest

from engine.engine import Engine
from engine.errors import EngineError
from engine.store import Store
from engine.values import Operation, Origin
from engine.verify import Report, verify
from tests import books
from tests.books import lines, run_out
from tests.waiting import wait_until

OPS, KEEPER, SHOP = Origin("ops"), Origin("keeper"), Origin("shop")
ANN = Origin("ann", user="ann")
NO_KEY = Operation()


@pytest.fixture
def live(engine: Engine) -> str:
    """The id of a live hold in a store with some of everything: `a` and `b` held and bought, `b` with a limit."""
    engine.stock.configure("a", 50, {}, OPS, NO_KEY)
    engine.stock.configure("b", 50, {"limit_per_customer": "20"}, OPS, NO_KEY)
    ids = [engine.reservations.reserve(ANN, lines("a=2 b=1"), 900).id for _ in range(8)]
    for paid in ids[:4]:
        engine.reservations.commit(paid, SHOP, "p1", NO_KEY)
    engine.orders.cancel(ids[0], OPS, "", [], NO_KEY)
    engine.orders.cancel(ids[1], OPS, "", lines("a=1"), NO_KEY)
    engine.orders.fulfil(ids[2], OPS, NO_KEY)
    engine.reservations.release(ids[4], ANN)
    run_out(engine.store, ids[5])
    engine.expiry.sweep(KEEPER)
    engine.reservations.extend(ids[6], ANN, 300, NO_KEY)
    engine.stock.adjust("a", 5, OPS, "delivery", NO_KEY)
    return ids[7]


def test_verify_is_clean_after_a_mixed_history(engine: Engine, live: str) -> None:
    report = verify(engine.store)
    assert report == Report(skus=2, live=2, orders=2, events=report.events, still=True, problems=())
    assert report.events == len(books.events(engine.store)) > 15
    books.assert_right(engine)


def test_verify_is_clean_on_an_empty_store(engine: Engine) -> None:
    assert verify(engine.store) == Report(skus=0, live=0, orders=0, events=0, still=True, problems=())


Tamper = Callable[[Store, str], object]


def sku(name: str, field: str, value: int | str) -> Tamper:
    return lambda store, live: store.redis.hset(store.keys.sku(name), field, value)


def record(field: str, value: int | str) -> Tamper:
    return lambda store, live: store.redis.hset(store.keys.reservation(live), field, value)


def meta(field: str, value: int | str) -> Tamper:
    return lambda store, live: store.redis.hset(store.keys.meta, field, value)


def drop_events(*numbers: int) -> Tamper:
    return lambda store, live: store.redis.xdel(store.keys.ledger, *(f"1-{number}" for number in numbers))


def drop_last_event(store: Store, live: str) -> None:
    store.redis.xdel(store.keys.ledger, f"1-{store.meta()['seq']}")


TAMPERED: list[tuple[str, Tamper, str]] = [
    ("available", lambda s, _: s.redis.hincrby(s.keys.sku("a"), "available", 1), "conservation: SKU a has on_hand"),
    ("on_hand", lambda s, _: s.redis.hincrby(s.keys.sku("a"), "on_hand", -1), "conservation: SKU a has on_hand"),
    (
        "reserved and available",
        lambda s, _: (
            s.redis.hincrby(s.keys.sku("a"), "reserved", -1),
            s.redis.hincrby(s.keys.sku("a"), "available", 1),
        ),
        "holds: SKU a has reserved 3, but live reservations hold 4",
    ),
    (
        "allocated and available",
        lambda s, _: (
            s.redis.hincrby(s.keys.sku("b"), "allocated", 1),
            s.redis.hincrby(s.keys.sku("b"), "available", -1),
        ),
        "orders: SKU b has allocated 3, but open orders have 2",
    ),
    ("a counter below 0", sku("a", "available", -1), "range: SKU a has a counter below 0"),
    ("a counter that is no number", sku("a", "available", "many"), "counters: SKU a lacks a counter"),
    ("a bound that is no number", sku("a", "next_release_ms", "soon"), "next_release: SKU a has next_release_ms"),
    ("a seq that is no number", meta("seq", "many"), "ledger: seq is -1"),
    ("a counter gone", lambda s, _: s.redis.hdel(s.keys.sku("a"), "reserved"), "counters: SKU a lacks a counter"),
    ("a SKU gone", lambda s, _: s.redis.delete(s.keys.sku("a")), "holds: SKU a has reserved None"),
    ("a hold gone", lambda s, live: s.redis.delete(s.keys.reservation(live)), "holds: SKU a has reserved 4"),
    (
        "a hold gone, its deadline left",
        lambda s, live: s.redis.delete(s.keys.reservation(live)),
        "is in deadlines, but no live reservation",
    ),
    ("another state", record("state", "released"), "holds: SKU a has reserved 4, but live reservations hold 2"),
    ("other lines", record("lines", "a=3 b=1"), "holds: SKU a has reserved 4, but live reservations hold 5"),
    ("torn lines", record("lines", "a=2 torn"), "is torn"),
    ("an unknown state", record("state", "gone"), "is torn"),
    (
        "a record's deadline gone",
        lambda s, live: s.redis.hdel(s.keys.reservation(live), "deadline_ms"),
        "is torn",
    ),
    ("a deadline gone", lambda s, live: s.redis.zrem(s.keys.deadlines, live), "is live, but not in deadlines"),
    ("a deadline moved", lambda s, live: s.redis.zadd(s.keys.deadlines, {live: 5}), "has deadline_ms"),
    ("a deadline too many", lambda s, _: s.redis.zadd(s.keys.deadlines, {"r9": 5}), "deadlines: r9 is in deadlines"),
    ("a record's deadline moved", record("deadline_ms", 5), "next_release: SKU a has next_release_ms later"),
    ("next release too late", sku("a", "next_release_ms", 4_000_000_000_000), "next_release: SKU a"),
    ("next release gone", lambda s, _: s.redis.hdel(s.keys.sku("a"), "next_release_ms"), "next_release: SKU a"),
    ("a buyer forgotten", lambda s, _: s.redis.delete(s.keys.buyers("b")), "limits: user ann holds and bought"),
    ("a buyer counted too low", lambda s, _: s.redis.hset(s.keys.buyers("b"), "ann", 1), "but fewer are counted"),
    ("an event gone", drop_events(5), "ledger: events 5 to 5 are missing"),
    ("events gone", drop_events(5, 6, 7), "ledger: events 5 to 7 are missing"),
    ("the last event gone", drop_last_event, "are missing"),
    ("the ledger gone", lambda s, _: s.redis.delete(s.keys.ledger), "ledger: it is gone, but seq is"),
    ("seq behind", meta("seq", 3), "ledger: seq is 3, but the last event is"),
    ("seq ahead", meta("seq", 999), "ledger: seq is 999, but the last event is"),
    ("meta gone", lambda s, _: s.redis.delete(s.keys.meta), "meta: there is none"),
]


@pytest.mark.parametrize(("tamper", "says"), [pytest.param(*row[1:], id=row[0]) for row in TAMPERED])
def test_what_was_tampered_with_is_named(engine: Engine, live: str, tamper: Tamper, says: str) -> None:
    tamper(engine.store, live)
    report = verify(engine.store)
    assert [problem for problem in report.problems if says in problem]
    assert report.still


@pytest.mark.parametrize("left", [3, 0])
def test_events_cut_off_the_start_of_the_ledger_are_missed(engine: Engine, live: str, left: int) -> None:
    seq = int(engine.store.meta()["seq"])
    engine.store.redis.xtrim(engine.store.keys.ledger, maxlen=left, approximate=False)
    assert verify(engine.store).problems == (f"ledger: events 1 to {seq - left} are missing",)


def test_a_busy_store_is_not_still_without_a_pause_and_clean_with_one(engine: Engine, live: str) -> None:
    stop = threading.Event()

    def trade(number: int) -> None:
        pick = random.Random(number)
        while not stop.is_set():
            try:
                held = engine.reservations.reserve(ANN, lines("a=1"), 900).id
                if pick.random() < 0.5:
                    engine.reservations.release(held, ANN)
                else:
                    engine.reservations.commit(held, SHOP, "p1", NO_KEY)
                    engine.orders.cancel(held, OPS, "", [], NO_KEY)
            except EngineError:
                continue

    threads = [threading.Thread(target=trade, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    quiet = engine.store.meta()["seq"]
    try:
        wait_until(lambda: engine.store.meta()["seq"] != quiet)
        without, paused = verify(engine.store), verify(engine.store, pause=True)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not without.still
    assert paused.still
    assert paused.problems == ()
    books.assert_right(engine)
