"""The totals are those of every SKU, whatever happens, and after the first count only what has changed is read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import pytest

from engine import totals
from engine.errors import StoreUnavailable
from engine.keeper import Keeper
from engine.recovery import Recovered
from engine.store import COUNTERS, Store
from engine.totals import Totals
from engine.values import Units
from tests.integration.shops import History, Shop, selling
from tests.waiting import wait_until

MANY = 3_000


def truth(shop: Shop) -> tuple[int, ...]:
    """The sums of all SKUs as they are now, added up one by one."""
    store = shop.engine.store
    rows = [store.redis.hgetall(store.keys.sku(name)) for name in store.all_skus()]
    return tuple(sum(int(row[counter]) for row in rows) for counter in COUNTERS)


def sums(units: Units) -> tuple[int, ...]:
    return units.on_hand, units.available, units.reserved, units.allocated


def reserved(shop: Shop) -> set[str]:
    store = shop.engine.store
    return {name for name in store.all_skus() if int(store.redis.hget(store.keys.sku(name), "reserved"))}


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_the_totals_are_those_of_every_sku(shop: Shop, seed: int) -> None:
    counting = Totals(shop.engine.watch)
    counting.publish()
    history = History(shop, seed).begin()
    for _ in range(20):
        history.go_on(15)
        units = counting.publish()
        assert sums(units) == truth(shop)
        assert {*units.most_reserved} == reserved(shop)


@contextmanager
def asked(shop: Shop) -> Iterator[Callable[[], list[str]]]:
    """Which SKUs' counters were read since the last time."""
    read: list[str] = []
    first = Store.counters

    def note(store: Store, skus: Any) -> Any:
        read.extend(skus)
        return first(store, skus)

    def taken() -> list[str]:
        found, read[:] = sorted(read), []
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "counters", note)
        yield taken


def test_after_the_first_count_only_skus_of_new_events_are_read(shop: Shop) -> None:
    for number in range(30):
        shop.stock(f"s{number}", 10)
    counting = Totals(shop.engine.watch)
    with asked(shop) as read:
        counting.publish()
        assert len(read()) == 30
        counting.publish()
        assert read() == []
        for _ in range(5):
            shop.hold(sku="s3")
        shop.stock("new", 1)
        counting.publish()
        assert read() == ["new", "s3"]


def test_events_that_the_clerk_trims_are_noted_before(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.stock("a", 1_000)
    shop.stock("b", 1_000)
    counting = Totals(shop.engine.watch)
    counting.publish()
    with asked(shop) as read:
        shop.hold(sku="b")
        counting.follow()
        for _ in range(20):
            shop.hold()
        counting.follow()
        shop.redis.xtrim(shop.engine.store.keys.ledger, maxlen=1, approximate=False)
        assert sums(counting.publish()) == truth(shop)
        assert read() == ["a", "b"]


def test_after_events_that_were_missed_everything_is_counted_again(shop: Shop) -> None:
    shop.stock("a", 1_000)
    shop.stock("b", 1_000)
    counting = Totals(shop.engine.watch)
    counting.publish()
    with asked(shop) as read:
        for _ in range(20):
            shop.hold()
        shop.redis.xtrim(shop.engine.store.keys.ledger, maxlen=1, approximate=False)
        assert sums(counting.publish()) == truth(shop)
        assert read() == ["a", "b"]


def test_a_redis_that_lost_everything_is_counted_anew_after_its_restore(shop: Shop) -> None:
    History(shop, 5).begin().go_on(60)
    counting = Totals(shop.engine.watch)
    counting.publish()
    shop.writer.drain()
    before = truth(shop)
    shop.redis.flushall()
    assert sums(counting.publish()) == truth(shop) == (0, 0, 0, 0)
    assert isinstance(shop.recovery.recover(), Recovered)
    assert sums(counting.publish()) == truth(shop) == before


def test_a_count_that_breaks_off_begins_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(totals, "PAGE", 2)
    for number in range(5):
        shop.stock(f"s{number}", 10)
    counting = Totals(shop.engine.watch)
    first, calls = Store.counters, []

    def fail_once(store: Store, skus: Any) -> Any:
        calls.append(skus)
        if len(calls) == 2:
            raise StoreUnavailable("gone")
        return first(store, skus)

    monkeypatch.setattr(Store, "counters", fail_once)
    with pytest.raises(StoreUnavailable):
        counting.publish()
    assert sums(counting.publish()) == truth(shop) == (50, 50, 0, 0)


def test_while_people_buy_and_stock_is_loaded_the_totals_are_right_as_soon_as_it_is_quiet(
    opening: Callable[..., Shop],
) -> None:
    shop, keeper = opening(), Keeper(opening().engine)
    working = Thread(target=keeper.run, daemon=True)
    working.start()
    try:
        wait_until(lambda: shop.engine.gate() == "open")
        shop.stock("a")
        shop.stock("b")
        seen: list[int] = []
        with selling(shop, threads=2):
            for number in range(MANY):
                shop.stock(f"many-{number:05}", 7)
                if number % 500 == 0:
                    # Published again and again while all of this goes on.
                    seen.append(wait_until(lambda: _newer(shop, seen)))
        shop.hold(sku="many-02999")
        wait_until(lambda: _published(shop) == truth(shop))
        assert truth(shop)[0] == 2_000 + 7 * MANY
        wait_until(lambda: "many-02999" in (_units(shop).most_reserved))
        assert seen == sorted({*seen})
    finally:
        keeper.stop()
        working.join(20)


def _units(shop: Shop) -> Units:
    return wait_until(lambda: shop.engine.overview.now().units)


def _published(shop: Shop) -> tuple[int, ...]:
    return sums(_units(shop))


def _newer(shop: Shop, seen: list[int]) -> int:
    as_of_ms = _units(shop).as_of_ms
    return as_of_ms if not seen or as_of_ms > seen[-1] else 0


def test_a_keeper_that_does_not_lead_publishes_nothing(shop: Shop) -> None:
    stop = threading.Event()
    working = Thread(target=Totals(shop.engine.watch).run, args=(lambda: False, stop), daemon=True)
    working.start()
    stop.set()
    working.join(10)
    assert shop.engine.overview.now().units is None
