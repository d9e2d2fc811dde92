"""What every test of the engine looks at in the end: all keys, the counters, the ledger and its fold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from engine.engine import Engine
from engine.invariants import live
from engine.invariants.record import Record
from engine.ledger import Filter
from engine.picture import from_stream, take
from engine.store import Store
from engine.values import Event, Line

Counters = tuple[int, int, int, int]

RAN_OUT: set[str] = set()
"""Reservations whose deadline a test has moved past the ledger, so that it can't be judged by it."""


def dump(redis: Any) -> dict[str, Any]:
    """Every key with its value and whether it has a time to live."""
    read = {
        "hash": redis.hgetall,
        "string": redis.get,
        "zset": lambda key: redis.zrange(key, 0, -1, withscores=True),
        "stream": redis.xrange,
    }
    kinds = {key: redis.type(key) for key in redis.keys("*")}
    # A lease may end while this looks.
    found = {key: (read[kind](key), redis.pttl(key) > 0) for key, kind in kinds.items() if kind in read}
    return {key: (value, is_forgotten) for key, (value, is_forgotten) in found.items() if value}


def counters(store: Store, sku: str) -> Counters:
    found = store.sku(sku)
    assert found is not None
    return found.available, found.reserved, found.allocated, found.on_hand


def all_counters(store: Store) -> dict[str, Counters]:
    return {found.sku: counters(store, found.sku) for found in store.skus("", 100_000)}


def events(store: Store) -> list[Event]:
    found: list[Event] = []
    while page := store.events(f"{found[-1].epoch}-{found[-1].seq}" if found else "-", 10_000):
        found += page
    return found


def recorded(engine: Engine) -> list[Event]:
    """Every event, also those that the stream has let go because Postgres has them."""
    found, after = engine.audit.page(Filter(), "", 10_000)
    while after:
        page, after = engine.audit.page(Filter(), after, 10_000)
        found += page
    return found


def judge(record: Record, happened: list[Event]) -> list[str]:
    """What is wrong with more of the ledger."""
    as_known = (replace(event, deadline_ms=0) if event.reservation_id in RAN_OUT else event for event in happened)
    return [str(violation) for event in as_known for violation in record.take(event)]


def totals(record: Record) -> dict[str, Counters]:
    """The counters that the ledger alone says there should be."""
    return {sku: (counts[0], counts[1], counts[2], counts[3]) for sku, counts in record.counters.items()}


def walked(store: Store) -> list[str]:
    """What is off with Redis by itself."""
    return list(map(str, live.check(store, take(store, from_stream(store)), None)))


def assert_right(engine: Engine) -> None:
    """Redis by itself, the ledger by itself, and the counters of both are right."""
    assert walked(engine.store) == []
    record = Record(engine.settings.retain_ms)
    assert judge(record, recorded(engine)) == []
    assert totals(record) == all_counters(engine.store)


def run_out(store: Store, reservation_id: str, by_ms: int = 0) -> None:
    """Put a live hold's deadline `by_ms` before now, as an extension to no time at all would."""
    deadline_ms = store.now_ms() - by_ms
    record = store.record(reservation_id)
    assert record is not None
    key = store.keys.reservation(reservation_id)
    RAN_OUT.add(reservation_id)
    store.redis.hset(key, "deadline_ms", deadline_ms)
    store.redis.zadd(store.keys.deadlines, {reservation_id: deadline_ms})
    for sku in record.skus:
        store.redis.hset(store.keys.sku(sku), "next_release_ms", deadline_ms)


def lines(text: str) -> list[Line]:
    """`a=2 b=1` as lines."""
    return [Line(sku, int(quantity)) for sku, quantity in (word.split("=") for word in text.split())]
