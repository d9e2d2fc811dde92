"""The record check: what it notices in a second, what it puts back, and that it is silent as long as nothing is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event, Thread

import psycopg
import pytest

from engine import damage
from engine.fold import COUNTERS
from engine.readiness import record
from engine.record_check import RecordCheck
from engine.values import Problems
from tests.integration.shops import Shop, assert_written, buyer, one_kind

pytestmark = one_kind


@pytest.fixture
def check(shop: Shop) -> Iterator[RecordCheck]:
    """Of a shop with a history that Postgres has whole: some events before and after, four holds, two orders."""
    for sku in ("a", "b"):
        shop.stock(sku, 50)
    held = [shop.hold("ann", sku, 2) for sku in ("a", "b", "a", "b", "a", "b")]
    for name in held[:2]:
        shop.pay(name)
    shop.writer.drain()
    shop.recovery.projection.advance()
    check = RecordCheck(shop.engine.database, shop.engine.store, lambda: "")
    assert check.look() == []
    yield check
    check.close()


def change(shop: Shop, query: str) -> None:
    with psycopg.connect(shop.url, autocommit=True) as connection:
        connection.execute(query)


MISSING = {
    "the newest rows": "DELETE FROM ledger WHERE seq > 6",
    "a row between others": "DELETE FROM ledger WHERE seq = 5",
    "several rows in two places": "DELETE FROM ledger WHERE seq IN (3, 4, 7)",
    "the first row": "DELETE FROM ledger WHERE seq = 1",
    "every row": "DELETE FROM ledger",
    "a position that is behind": "UPDATE ledger_position SET (seq, payload_hash, chain_hash) = "
    "(SELECT seq, payload_hash, chain_hash FROM ledger WHERE seq = 6)",
    "a position that is gone": "DELETE FROM ledger_position",
    "a position with another hash": "UPDATE ledger_position SET chain_hash = payload_hash",
}
"""What the stream and the chain prove, so that nobody but the service is needed to put it back."""


@pytest.mark.parametrize("query", MISSING.values(), ids=MISSING.keys())
def test_what_is_missing_is_put_back_by_itself(shop: Shop, check: RecordCheck, query: str) -> None:
    before = shop.query("SELECT * FROM ledger ORDER BY epoch, seq"), shop.position()
    change(shop, query)
    check.look()
    assert (shop.query("SELECT * FROM ledger ORDER BY epoch, seq"), shop.position()) == before
    assert check.look() == []
    shop.pay(shop.hold())
    shop.writer.drain()
    assert_written(shop)
    assert shop.problems() == ()


CHANGED = {
    "a row with another actor": (
        "UPDATE ledger SET actor = 'eve' WHERE seq = 5",
        "5 in Postgres isn't what was written",
    ),
    "a row with another epoch": ("UPDATE ledger SET epoch = 9 WHERE seq = 5", "Postgres has event 9-5"),
    "a hash of an event": ("UPDATE ledger SET payload_hash = '' WHERE seq = 5", "5 in Postgres isn't what was written"),
    "a hash of the chain": ("UPDATE ledger SET chain_hash = '' WHERE seq = 5", "5 in Postgres isn't what was written"),
    "a row too many at the end": (
        "INSERT INTO ledger SELECT partition, epoch, seq + 100, at_ms, op, actor, user_name, reservation_id, lines, "
        "deadline_ms, payment_id, reason, request_id, detail, counted, operation, skus, payload_hash, chain_hash "
        "FROM ledger WHERE seq = 5",
        "-105, and the ledger goes to",
    ),
    "a position that is ahead": ("UPDATE ledger_position SET seq = seq + 5", "and the ledger goes to"),
}
"""What only the owner of the tables may put right, or nobody can prove."""


@pytest.mark.parametrize(("query", "says"), CHANGED.values(), ids=CHANGED.keys())
def test_what_was_changed_is_told_as_long_as_it_lasts(shop: Shop, check: RecordCheck, query: str, says: str) -> None:
    change(shop, query)
    for _ in range(2):
        problems = check.look()
        assert [problem for problem in problems if says in problem], problems
        told = record(shop.engine.store.glance())
        assert told.startswith(f"damaged: {problems[0]}")


def test_the_owner_of_the_table_has_rows_replaced_that_the_chain_proves(shop: Shop, check: RecordCheck) -> None:
    before = shop.query("SELECT * FROM ledger ORDER BY epoch, seq")
    for query, _ in list(CHANGED.values())[:5]:
        change(shop, query)
        check.look()
        with psycopg.connect(shop.url, autocommit=True) as connection:
            _, found = damage.newest(connection, "p0", 1_000)
            assert [
                each for each in found if not damage.mend(connection, shop.engine.store, each, replacing=True)
            ] == []
        assert shop.query("SELECT * FROM ledger ORDER BY epoch, seq") == before
        assert check.look() == []


def test_older_rows_come_to_their_turn_also_when_the_stream_has_lost_them(
    shop: Shop, check: RecordCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.record_check.OVERLAP", 3)
    change(shop, "DELETE FROM ledger WHERE seq IN (3, 4)")
    shop.redis.xtrim(shop.engine.store.keys.ledger, maxlen=4, approximate=False)
    for _ in range(3):
        assert ["between" in problem for problem in check.look()] == [True]
    # So does the keeper that leads next, before it has come to those rows again.
    monkeypatch.setattr("engine.record_check.WALK_SECONDS", 0)
    follower = RecordCheck(shop.engine.database, shop.engine.store, lambda: "")
    assert ["between" in problem for problem in follower.look()] == [True]
    follower.close()


def test_tables_that_are_gone_are_told(shop: Shop) -> None:
    assert shop.engine.database.unwritable() == ""
    with psycopg.connect(shop.url) as connection:
        connection.execute("ALTER TABLE ledger RENAME TO ledger_gone")
        connection.commit()
        try:
            assert shop.engine.database.unwritable() == "the table ledger is missing"
        finally:
            connection.execute("ALTER TABLE ledger_gone RENAME TO ledger")
            connection.commit()


@pytest.mark.parametrize("name", COUNTERS)
def test_a_counter_that_somebody_changed_is_told_until_it_is_right(shop: Shop, check: RecordCheck, name: str) -> None:
    key = shop.engine.store.keys.sku("a")
    shop.redis.hincrby(key, name, 3)
    for _ in range(2):
        [problem] = check.look()
        assert problem.startswith(f"SKU a has {name}=")
    shop.redis.hincrby(key, name, -3)
    assert check.look() == []


def test_what_was_made_or_removed_by_hand_is_told(shop: Shop, check: RecordCheck) -> None:
    held, keys = shop.hold(), shop.engine.store.keys
    shop.writer.drain()
    shop.recovery.projection.advance()
    shop.redis.delete(keys.reservation(held))
    shop.redis.delete(keys.sku("b"))
    shop.redis.hset(keys.sku("made-up"), mapping=dict.fromkeys(COUNTERS, 1))
    shop.redis.zadd(keys.skus, {"made-up": 0})
    assert set(check.look()) == {
        "SKU b is only in the ledger",
        "SKU made-up is only in Redis",
        f"Reservation {held} is only in the ledger",
    }


def test_a_ledger_and_projections_that_stand_still_are_told(
    shop: Shop, check: RecordCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.record_check.MAX_BEHIND_SECONDS", 0)
    shop.hold()
    assert ["The ledger doesn't follow Redis" in problem for problem in check.look()] == [True]
    shop.writer.drain()
    assert ["The projections stand at" in problem for problem in check.look()] == [True]
    shop.recovery.projection.advance()
    assert check.look() == []


def test_only_what_is_wrong_is_told_while_people_buy(shop: Shop, check: RecordCheck) -> None:
    stop = Event()

    def buy() -> None:
        while not stop.is_set():
            held = shop.hold("bob", "a", 1)
            shop.engine.reservations.release(held, buyer("bob"))

    def follow() -> None:
        while not stop.is_set():
            shop.writer.drain()
            shop.recovery.projection.advance()

    shop.stock("a", 100_000)
    threads = [Thread(target=work) for work in (buy, buy, follow)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(30):
            assert check.look() == []
        shop.redis.hincrby(shop.engine.store.keys.sku("a"), "available", 3)
        for _ in range(10):
            [problem] = check.look()
            assert problem.startswith("SKU a has available=")
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_what_cannot_be_read_is_told_and_hides_nothing_else(shop: Shop, check: RecordCheck) -> None:
    keys = shop.engine.store.keys
    shop.redis.set(keys.sku("made-up"), "no hash")
    shop.redis.zadd(keys.skus, {"made-up": 0})
    shop.redis.hincrby(keys.sku("a"), "available", 3)
    assert sorted(problem.partition(" has ")[0] for problem in check.look()) == [
        "SKU a",
        "SKU made-up can't be read in Redis",
    ]


@pytest.mark.parametrize("how", ["removed", "moved"])
def test_a_deadline_that_is_not_the_holds_is_told(shop: Shop, check: RecordCheck, how: str) -> None:
    held, keys = shop.hold(), shop.engine.store.keys
    shop.writer.drain()
    shop.recovery.projection.advance()
    if how == "removed":
        shop.redis.zrem(keys.deadlines, held)
    else:
        shop.redis.zadd(keys.deadlines, {held: 4_000_000_000_000})
    assert check.look() == [f"Reservation {held} is live, and its deadline is not in the set of deadlines"]


def test_no_user_and_no_cart_is_told(shop: Shop, check: RecordCheck) -> None:
    held, keys = shop.hold("alice@example.com"), shop.engine.store.keys
    shop.writer.drain()
    shop.recovery.projection.advance()
    shop.redis.hset(keys.reservation(held), "user", "bob@example.com")
    assert check.look() == [f"Reservation {held} has another user in Redis than by the ledger"]


def test_an_empty_shop_has_nothing_to_follow(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.record_check.MAX_BEHIND_SECONDS", 0)
    change(shop, "UPDATE ledger_position SET epoch = 1, seq = 0, payload_hash = '', chain_hash = ''")
    change(shop, "DELETE FROM ledger")
    shop.redis.delete(shop.engine.store.keys.ledger)
    shop.redis.hset(shop.engine.store.keys.meta, "seq", 0)
    found = RecordCheck(shop.engine.database, shop.engine.store, lambda: "")
    assert found.look() == []
    found.close()


def test_drift_is_not_judged_by_events_that_are_not_there_any_more(shop: Shop, check: RecordCheck) -> None:
    for _ in range(3):
        shop.pay(shop.hold())
    shop.writer.drain()
    shop.redis.xtrim(shop.engine.store.keys.ledger, maxlen=2, approximate=False)
    assert check.look() == []


def test_a_redis_that_is_being_compared_is_not_judged(shop: Shop, check: RecordCheck) -> None:
    shop.redis.hincrby(shop.engine.store.keys.sku("a"), "available", 3)
    assert len(check.look()) == 1
    shop.redis.hset(shop.engine.store.keys.meta, "gate", "closed")
    assert check.look() == []


def test_a_check_that_has_ended_is_told(shop: Shop, check: RecordCheck) -> None:
    store = shop.engine.store
    assert record(store.glance()) == "ok"
    store.publish_problems(Problems(store.now_ms() - 60_000, 0, ()))
    assert record(store.glance()) == "unchecked for 60 s"
    shop.redis.delete(store.keys.record)
    assert record(store.glance()) == "unchecked"


def test_what_was_sold_too_often_is_told_though_redis_and_the_ledger_agree(shop: Shop, check: RecordCheck) -> None:
    keys = shop.engine.store.keys
    available = shop.engine.stock.get("a").available
    shop.redis.hincrby(keys.sku("a"), "available", 3)
    too_many = shop.hold("eve", "a", available + 3)
    shop.recovery.rebuild(shop.recovery.compare())
    assert shop.engine.stock.get("a").available == -3
    assert check.look() == ["SKU a has available=-3: more is promised than there is"]
    [told] = shop.engine.stock.availability(["a"], buyer("ann"))
    assert told.available == 0
    shop.engine.reservations.release(too_many, buyer("eve"))
    shop.writer.drain()
    shop.recovery.projection.advance()
    assert check.look() == []
