"""What every test of the engine looks at in the end: all keys, the counters, the ledger and its fold."""

from __future__ import annotations

from collections import defaultdict
from itertools import accumulate
from typing import Any

from engine.engine import Engine
from engine.fold import MOVES
from engine.ledger import Filter
from engine.picture import from_stream, take
from engine.store import Store
from engine.values import Event, Line
from engine.verify import walk

Counters = tuple[int, int, int, int]


def dump(redis: Any) -> dict[str, Any]:
    """Every key with its value and whether it has a time to live."""
    read = {
        "hash": redis.hgetall,
        "string": redis.get,
        "zset": lambda key: redis.zrange(key, 0, -1, withscores=True),
        "stream": redis.xrange,
    }
    return {key: (read[redis.type(key)](key), redis.pttl(key) > 0) for key in redis.keys("*")}


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


def fold(happened: list[Event]) -> dict[str, Counters]:
    """The counters that the ledger alone says there should be."""
    totals: dict[str, Counters] = defaultdict(lambda: (0, 0, 0, 0))
    for event in happened:
        move = MOVES.get("commit late" if (event.op, event.detail) == ("commit", "late") else event.op)
        for line in event.lines if move else ():
            before = totals[line.sku]
            totals[line.sku] = tuple(  # type: ignore[assignment]
                count + line.quantity * step for count, step in zip(before, move or (), strict=True)
            )
    return dict(totals)


def walked(store: Store) -> list[str]:
    """What is off with Redis by itself."""
    return list(walk(store, take(store, from_stream(store))))


def assert_right(engine: Engine) -> None:
    """Counters, holds, orders and ledger agree, and nothing is missing from the ledger. Each `open` begins an epoch."""
    assert walked(engine.store) == []
    happened = recorded(engine)
    epochs = accumulate((event.op == "open" for event in happened), initial=1)
    next(epochs)
    assert [(event.epoch, event.seq) for event in happened] == [
        (epoch, seq) for seq, epoch in enumerate(epochs, start=1)
    ]
    assert fold(happened) == all_counters(engine.store)
    for available, reserved, allocated, on_hand in all_counters(engine.store).values():
        assert available + reserved + allocated == on_hand


def run_out(store: Store, reservation_id: str, by_ms: int = 0) -> None:
    """Put a live hold's deadline `by_ms` before now, as an extension to no time at all would."""
    deadline_ms = store.now_ms() - by_ms
    record = store.record(reservation_id)
    assert record is not None
    key = store.keys.reservation(reservation_id)
    store.redis.hsetnx(key, "first_deadline_ms", record.fields["deadline_ms"])
    store.redis.hset(key, "deadline_ms", deadline_ms)
    store.redis.zadd(store.keys.deadlines, {reservation_id: deadline_ms})
    for sku in record.skus:
        store.redis.hset(store.keys.sku(sku), "next_release_ms", deadline_ms)


def lines(text: str) -> list[Line]:
    """`a=2 b=1` as lines."""
    return [Line(sku, int(quantity)) for sku, quantity in (word.split("=") for word in text.split())]
