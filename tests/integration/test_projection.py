"""The projections are what Redis holds, hash by hash, after whatever happened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from engine import ledger, projection
from engine.recovery import Recovered
from engine.values import Line, Operation
from tests.integration.shops import NO_KEY, OPS, History, Shop, buyer, essence

PROJECTED = {"skus": "sku, record", "reservations": "id, record", "checkouts": "cart, reservation_id"}


def projected(shop: Shop) -> dict[str, Any]:
    """The tables, in the words of Redis's keys."""
    keys = shop.engine.store.keys
    found: dict[str, Any] = {keys.sku(sku): record for sku, record in shop.query("SELECT sku, record FROM skus")}
    found |= {keys.reservation(name): record for name, record in shop.query("SELECT id, record FROM reservations")}
    for sku, user, units in shop.query("SELECT sku, user_name, units FROM buyers"):
        found.setdefault(keys.buyers(sku), {})[user] = str(units)
    found |= {keys.checkout(cart): name for cart, name in shop.query("SELECT cart, reservation_id FROM checkouts")}
    return found


def held(shop: Shop) -> dict[str, Any]:
    """The same out of Redis."""
    kinds = ("sku:", "rsv:", "buyers:", "checkout:")
    prefix = shop.engine.store.keys.prefix
    return {key: value for key, (value, _) in essence(shop.redis).items() if key.removeprefix(prefix).startswith(kinds)}


def contents(shop: Shop) -> list[Any]:
    tables = ("projection_position", "reservations", "skus", "buyers", "checkouts", "answers")
    return [sorted(map(str, shop.query(f"SELECT * FROM {table}"))) for table in tables]


@pytest.mark.parametrize("page", [1, 7, 5_000])
def test_the_tables_are_what_redis_holds_whatever_the_size_of_a_page(
    shop: Shop, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "PAGE", page)
    history = History(shop, page).begin()
    for _ in range(3):
        history.go_on(120)
        shop.writer.drain()
        reached = shop.recovery.projection.advance()
        assert (reached.epoch, reached.seq) == shop.rows()[-1]
        assert projected(shop) == held(shop)
    before = contents(shop)
    shop.recovery.projection.advance()
    assert contents(shop) == before
    assert shop.problems() == ()


def test_the_projections_stop_when_they_are_told_to_and_go_on_from_there(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "PAGE", 3)
    History(shop, 11).begin().go_on(30)
    shop.writer.drain()
    assert shop.recovery.projection.advance(lambda: True).seq == 3
    shop.recovery.projection.advance()
    assert projected(shop) == held(shop)


def test_two_that_follow_at_once_follow_each_event_once(
    opening: Callable[..., Shop], monkeypatch: pytest.MonkeyPatch
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    monkeypatch.setattr(ledger, "PAGE", 5)
    shops = [opening() for _ in range(3)]
    shops[0].recovery.recover()
    History(shops[0], 12).begin().go_on(200)
    shops[0].writer.drain()
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda shop: shop.recovery.projection.advance(), shops))
    assert projected(shops[0]) == held(shops[0])


def test_the_view_orders_has_every_order_and_nothing_else(shop: Shop) -> None:
    shop.stock("a", 10)
    live, paid, part, gone, sent = (shop.hold(units=2) for _ in range(5))
    for order in (paid, part, gone, sent):
        shop.pay(order, f"pay-{order}")
    shop.engine.orders.cancel(part, OPS, "", [Line("a", 1)], NO_KEY)
    shop.engine.orders.cancel(gone, OPS, "", [], NO_KEY)
    shop.engine.orders.fulfil(sent, OPS, [], NO_KEY)
    shop.writer.drain()
    shop.recovery.projection.advance()
    found = {
        row[0]: row[1:]
        for row in shop.query("SELECT id, user_name, state, lines, cancelled_lines, payment_id, late FROM orders")
    }
    assert found == {
        paid: ("ann", "allocated", "a=2", "", f"pay-{paid}", False),
        part: ("ann", "allocated", "a=2", "a=1", f"pay-{part}", False),
        gone: ("ann", "cancelled", "a=2", "a=2", f"pay-{gone}", False),
        sent: ("ann", "fulfilled", "a=2", "", f"pay-{sent}", False),
    }
    assert live not in found
    [(at, committed_ms)] = shop.query(
        "SELECT committed_at, (SELECT record ->> 'committed_ms' FROM reservations WHERE id = %s) FROM orders WHERE id = %s",
        paid,
        paid,
    )
    assert round(at.timestamp() * 1000) == int(committed_ms)


def test_forget_lets_go_what_redis_let_go_but_no_reservation(shop: Shop) -> None:
    shop.stock("a", 10)
    cart = shop.engine.carts.create(buyer("ann")).id
    shop.engine.carts.put_line(cart, buyer("ann"), Line("a", 1))
    held = shop.engine.carts.checkout(cart, buyer("ann"), 900).id
    shop.engine.reservations.extend(held, buyer("ann"), 900, Operation("call", "7"))
    shop.writer.drain()
    shop.recovery.projection.advance()
    now_ms = shop.engine.store.now_ms()
    for before_ms, left in ((now_ms - 60_000, 1), (now_ms + 1, 0)):
        with psycopg.connect(shop.url, autocommit=True) as connection:
            projection.forget(connection, "p0", before_ms)
        assert len(shop.query("SELECT FROM checkouts")) == left
        assert len(shop.query("SELECT FROM answers WHERE operation_id = 'call'")) == left
        assert len(shop.query("SELECT FROM reservations")) == 1


@pytest.mark.parametrize("page", [1, 5_000])
def test_a_call_whose_answer_was_forgotten_has_its_latest_answer(
    shop: Shop, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "PAGE", page)
    shop.stock("a", 10)
    for delta in (1, 2):
        shop.engine.stock.adjust("a", delta, OPS, "", Operation("call", "7"))
        answer = shop.redis.get(shop.engine.store.keys.operation("call"))
        shop.redis.delete(shop.engine.store.keys.operation("call"))
    shop.writer.drain()
    shop.recovery.projection.advance()
    assert shop.query("SELECT fingerprint || ' ' || answer FROM answers WHERE operation_id = 'call'") == [(answer,)]


@pytest.mark.parametrize("page", [1, 5_000])
def test_a_store_of_the_first_version_is_taken_over_with_its_events(
    shop: Shop, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its events say neither which units count for a limit, nor whose answers they are, and its meta names no server."""
    monkeypatch.setattr(ledger, "PAGE", page)
    keys = shop.engine.store.keys
    with monkeypatch.context() as before_there_was_a_ledger:
        before_there_was_a_ledger.setattr(shop.group, "wait", lambda epoch, seq: None)
        history = History(shop, 13).begin().go_on(250)
    happened = shop.redis.xrange(keys.ledger)
    shop.redis.delete(keys.ledger)
    for entry_id, fields in happened:
        shop.redis.xadd(keys.ledger, {name: fields[name] for name in ledger.FIELDS[:11]}, id=entry_id)
    shop.redis.hdel(keys.meta, "run_id", "full_seq")
    assert isinstance(shop.recovery.recover(), Recovered)
    shop.recovery.projection.advance()
    assert projected(shop) == held(shop)
    history.go_on(50)
    assert shop.problems() == ()
    shop.writer.drain()
    shop.redis.flushall()
    assert isinstance(shop.recovery.recover(), Recovered)
    assert projected(shop) == held(shop)
    assert shop.problems() == ()


def test_tables_that_were_emptied_under_it_are_made_anew_once(shop: Shop) -> None:
    History(shop, 5).begin().go_on(60)
    shop.writer.drain()
    follower = shop.recovery.projection
    follower.advance()
    before = shop.query("SELECT sku, record::text FROM skus ORDER BY sku")
    with psycopg.connect(shop.url, autocommit=True) as connection:
        connection.execute("TRUNCATE reservations, skus, buyers, checkouts, answers, payments, projection_position")
    for _ in range(2):
        follower.advance()
        assert shop.query("SELECT sku, record::text FROM skus ORDER BY sku") == before
