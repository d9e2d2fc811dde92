"""Snapshots are what Redis held at one event, taken while it sells; what is off is named and kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from engine import ledger, picture, snapshots
from engine.database import Database
from engine.errors import StoreUnavailable
from engine.fold import Fold
from engine.ledger import Position
from engine.snapshots import DAILY_MS, HOURLY_MS, thin_out
from tests.integration.shops import NO_KEY, OPS, History, Shop, one_kind, selling
from tests.waiting import wait_until

MINUTE_MS = 60_000
_SOON = "idle_in_transaction_session_timeout=100"


def kept(shop: Shop, epoch: int, seq: int) -> Fold:
    with psycopg.connect(shop.url, autocommit=True) as connection:
        fold = snapshots.content(connection, "p0", epoch, seq)
    fold.buyers = {sku: users for sku, users in fold.buyers.items() if users}
    return fold


def folded(shop: Shop, epoch: int, seq: int) -> Fold:
    """The fold of the ledger up to there, without what a snapshot leaves out."""
    fold = Fold()
    with psycopg.connect(shop.url, autocommit=True) as connection:
        for page in ledger.events(connection, "p0", Position(), ledger.at(connection, "p0", epoch, seq)):
            fold.apply_all(page)
    fold.records = {name: record for name, record in fold.records.items() if record["state"] == "reserved"}
    fold.buyers = {sku: users for sku, users in fold.buyers.items() if users}
    return fold


def test_a_snapshot_has_what_the_ledger_says_up_to_its_event(shop: Shop) -> None:
    history = History(shop, 61).begin()
    for _ in range(3):
        history.go_on(50)
        snapshot = shop.snapshots.take()
        assert snapshot.problems == ()
        assert (snapshot.epoch, snapshot.seq) == shop.rows()[-1]
        books_say, held = folded(shop, snapshot.epoch, snapshot.seq), kept(shop, snapshot.epoch, snapshot.seq)
        assert held.skus == books_say.skus
        assert held.records == books_say.records
        assert held.buyers == books_say.buyers
        assert (snapshot.skus, snapshot.reservations) == (len(held.skus), len(held.records))


def test_snapshots_taken_while_everybody_buys_have_no_problems(shop: Shop) -> None:
    for sku in ("a", "b"):
        shop.stock(sku)
        shop.engine.stock.configure(sku, None, {"limit_per_customer": "50"}, OPS, NO_KEY)
    taken = []
    with selling(shop):
        for _ in range(6):
            seq = shop.engine.store.meta()["seq"]
            wait_until(lambda seq=seq: shop.engine.store.meta()["seq"] != seq)  # type: ignore[misc]
            taken.append(shop.snapshots.take())
    assert [snapshot.problems for snapshot in taken] == [()] * 6
    assert len({snapshot.seq for snapshot in taken}) > 1
    for snapshot in taken:
        books_say, held = folded(shop, snapshot.epoch, snapshot.seq), kept(shop, snapshot.epoch, snapshot.seq)
        assert (held.skus, held.records, held.buyers) == (books_say.skus, books_say.records, books_say.buyers)
    assert shop.problems() == ()


@one_kind
def test_a_snapshot_may_take_longer_than_a_transaction_may_stand_still(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, differences = Database._options, picture.differences

    def impatient(self: Database, longest_s: float) -> dict[str, object]:
        found = options(self, longest_s)
        found["options"] = found["options"].replace("idle_in_transaction_session_timeout=5000", _SOON)
        assert _SOON in found["options"]
        return found

    def slowly(*arguments: Any, **more: Any) -> Iterator[str]:
        idle = "SELECT FROM pg_stat_activity WHERE state = 'idle in transaction' AND state_change < now() - interval '0.3 s'"
        wait_until(lambda: shop.query(idle))
        yield from differences(*arguments, **more)

    shop.stock()
    monkeypatch.setattr(Database, "_options", impatient)
    monkeypatch.setattr(picture, "differences", slowly)
    assert shop.snapshots.take().problems == ()


TAMPERED: dict[str, tuple[Callable[[Shop, str], object], str]] = {
    "a counter": (
        lambda shop, held: shop.redis.hincrby(shop.engine.store.keys.sku("a"), "available", 1),
        "SKU a has available 8, the ledger says 7",
    ),
    "a counter that is gone": (
        lambda shop, held: shop.redis.hdel(shop.engine.store.keys.sku("a"), "on_hand"),
        "SKU a has on_hand None, the ledger says 10",
    ),
    "a SKU that is gone": (
        lambda shop, held: shop.redis.delete(shop.engine.store.keys.sku("a")),
        "SKU a has available None, the ledger says 7",
    ),
    "a SKU that nobody has": (
        lambda shop, held: (
            shop.redis.zadd(shop.engine.store.keys.skus, {"x": 0}),
            shop.redis.hset(shop.engine.store.keys.sku("x"), "available", 5),
        ),
        "SKU x has available 5, the ledger says None",
    ),
    "a limit": (
        lambda shop, held: shop.redis.hset(shop.engine.store.keys.sku("a"), "limit_per_customer", 99),
        "SKU a has limit_per_customer 99, the ledger says 5",
    ),
    "a record's lines": (
        lambda shop, held: shop.redis.hset(shop.engine.store.keys.reservation(held), "lines", "a=1"),
        "has lines a=1, the ledger says a=3",
    ),
    "a record that is gone": (
        lambda shop, held: shop.redis.delete(shop.engine.store.keys.reservation(held)),
        "is only in the ledger: reserved",
    ),
    "a record that is torn": (
        lambda shop, held: shop.redis.hdel(shop.engine.store.keys.reservation(held), "lines"),
        "is only in the ledger: reserved",
    ),
    "a hold that is not in deadlines": (
        lambda shop, held: shop.redis.zrem(shop.engine.store.keys.deadlines, held),
        "is only in the ledger: reserved",
    ),
    "a buyer's count": (
        lambda shop, held: shop.redis.hset(shop.engine.store.keys.buyers("a"), "ann", 1),
        "user ann has 1 of SKU a counted, the ledger says 3",
    ),
    "a buyer whom nobody knows": (
        lambda shop, held: shop.redis.hset(shop.engine.store.keys.buyers("a"), "eve", 1),
        "user eve has 1 of SKU a counted, the ledger says 0",
    ),
}


@one_kind
@pytest.mark.parametrize(("tamper", "says"), TAMPERED.values(), ids=TAMPERED)
def test_what_was_tampered_with_is_named_and_kept(shop: Shop, tamper: Callable[[Shop, str], object], says: str) -> None:
    shop.stock("a", 10)
    shop.engine.stock.configure("a", None, {"limit_per_customer": "5"}, OPS, NO_KEY)
    held = shop.hold(units=3)
    assert shop.snapshots.take().problems == ()
    tamper(shop, held)
    # Nothing was sold since the snapshot before.
    snapshot = shop.snapshots.take()
    assert [problem for problem in snapshot.problems if says in problem], snapshot.problems
    [(problems,)] = shop.query("SELECT problems FROM snapshots WHERE seq = %s", snapshot.seq)
    assert tuple(problems) == snapshot.problems
    assert [problem for problem in shop.problems() if says in problem or held in problem]


def insert(shop: Shop, taken_ms: dict[int, int], problems: list[int]) -> None:
    with psycopg.connect(shop.url, autocommit=True) as connection:
        for seq, at_ms in taken_ms.items():
            off = ["something"] if seq in problems else []
            connection.execute("INSERT INTO snapshots VALUES ('p0', 1, %s, %s, %s)", [seq, at_ms, off])


@one_kind
def test_old_snapshots_thin_out_to_one_an_hour_then_one_a_day_then_none(shop: Shop) -> None:
    # The end of an hour and of a day, so that each age below is in a known one.
    now_ms = (int(time.time() * 1000) // DAILY_MS + 1) * DAILY_MS - 1
    ages_ms = {
        # The last two hours stay.
        1: 0,
        2: 5 * MINUTE_MS,
        3: 119 * MINUTE_MS,
        # An hour in which three were taken: the first one stays.
        11: 5 * HOURLY_MS + 50 * MINUTE_MS,
        12: 5 * HOURLY_MS + 30 * MINUTE_MS,
        13: 5 * HOURLY_MS + 10 * MINUTE_MS,
        14: 6 * HOURLY_MS + 10 * MINUTE_MS,
        # A day in which three were taken, with one that had problems.
        21: 10 * DAILY_MS + 20 * HOURLY_MS,
        22: 10 * DAILY_MS + 10 * HOURLY_MS,
        23: 10 * DAILY_MS + 5 * HOURLY_MS,
        24: 10 * DAILY_MS + 4 * HOURLY_MS,
        31: 29 * DAILY_MS + 2 * HOURLY_MS,
        # Too old.
        41: 31 * DAILY_MS,
        42: 400 * DAILY_MS,
        43: 400 * DAILY_MS + 1,
    }
    insert(shop, {seq: now_ms - age_ms for seq, age_ms in ages_ms.items()}, problems=[23, 43])
    for _ in range(2):
        with psycopg.connect(shop.url, autocommit=True) as connection:
            thin_out(connection, "p0", now_ms)
        left = [seq for (seq,) in shop.query("SELECT seq FROM snapshots ORDER BY seq")]
        assert left == [1, 2, 3, 11, 14, 21, 23, 31, 43]


@one_kind
def test_thinning_out_again_and_again_leaves_one_a_day(shop: Shop) -> None:
    """As time goes by, and not only at once at the end."""
    start_ms = int(time.time() * 1000) // DAILY_MS * DAILY_MS
    insert(shop, {seq: start_ms + seq * 30 * MINUTE_MS for seq in range(48 * 4)}, problems=[])
    with psycopg.connect(shop.url, autocommit=True) as connection:
        for hours in range(0, 24 * 10, 5):
            thin_out(connection, "p0", start_ms + hours * HOURLY_MS + 7 * MINUTE_MS)
    days = [(seq * 30 * MINUTE_MS) // DAILY_MS for (seq,) in shop.query("SELECT seq FROM snapshots ORDER BY seq")]
    # And the newest.
    assert days == [0, 1, 2, 3, 3]


def test_two_who_take_one_at_once_keep_it_once(opening: Callable[..., Shop], shop: Shop) -> None:
    History(shop, 62).begin().go_on(40)
    other = opening()

    def take(each: Shop) -> str:
        try:
            return str(each.snapshots.take())
        except StoreUnavailable:
            return "again"

    with ThreadPoolExecutor(2) as pool:
        found = set(pool.map(take, (shop, other)))
    assert len(found - {"again"}) == 1
    assert shop.query("SELECT count(*) FROM snapshots") == [(1,)]
    assert str(other.snapshots.take()) in found
