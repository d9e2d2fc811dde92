"""What a Redis lacks comes back from Postgres exactly, what contradicts Postgres stays shut, and nobody sells meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from redis import Redis

from engine import comparison, dry_run, writer
from engine import recovery as recovering
from engine.errors import Closed, ConfigurationError, EngineError, LedgerBroken, StoreUnavailable
from engine.recovery import Finding, Need, Recovered, Recovery
from engine.restoring import Restoring
from engine.values import Line
from tests import books
from tests.integration.shops import (
    NO_KEY,
    OPS,
    History,
    PrivateRedis,
    Shop,
    assert_written,
    buyer,
    essence,
    one_kind,
    open_shop,
    put_back,
    saved,
    split,
)
from tests.waiting import wait_until

Tamper = Callable[[Shop], object]


def recovered(shop: Shop, need: Need) -> Recovered:
    """Recover, and see that it was this that was needed."""
    done = shop.recovery.recover()
    assert isinstance(done, Recovered), done
    assert done.finding.need is need, done
    assert shop.recovery.certified()
    assert shop.engine.gate() == "open"
    return done


def expect_as_before(shop: Shop, before: dict[str, Any]) -> None:
    """Redis has every key that it had, the books are right, and sales go on."""
    after = essence(shop.redis)
    assert {name: value for name, value in after.items() if before.get(name) != value} == {
        name: value for name, value in before.items() if after.get(name) != value
    }
    assert shop.problems() == ()
    assert_written(shop)


def test_a_new_redis_with_an_empty_ledger_is_opened(opening: Callable[..., Shop]) -> None:
    shop = opening()
    assert shop.engine.gate().startswith("closed")
    with pytest.raises(Closed):
        shop.stock()
    assert recovered(shop, Need.CERTIFY).finding.why == "new"
    shop.stock()
    assert shop.redis.hget(shop.engine.store.keys.meta, "selling_paused") is None


@pytest.mark.parametrize("behind", [0, 3])
def test_what_redis_has_and_postgres_lacks_is_written(shop: Shop, behind: int) -> None:
    History(shop, 3).begin().go_on(60)
    shop.writer.drain()
    for _ in range(behind):
        shop.engine.stock.adjust("a", 1, OPS, "", NO_KEY)
    before, seq = essence(shop.redis), len(shop.rows())
    done = recovered(shop, Need.CERTIFY)
    assert done.finding.redis.seq - done.finding.ledger.seq == behind
    assert shop.rows()[-1] == (2, seq + behind + 1)
    expect_as_before(shop, before)
    recovered(shop, Need.CERTIFY)
    assert shop.rows()[-1] == (3, seq + behind + 2)
    expect_as_before(shop, before)


def fall_behind(shop: Shop, seed: int, steps: int = 90) -> tuple[History, dict[str, Any]]:
    """Let Redis lose what has happened last. Gives what it had."""
    history = History(shop, seed).begin().go_on(steps)
    copy = saved(shop.redis)
    history.go_on(steps)
    shop.writer.drain()
    before = essence(shop.redis)
    put_back(shop.redis, copy)
    assert essence(shop.redis) != before
    return history, before


@pytest.mark.parametrize("seed", [21, 22])
def test_a_redis_that_lacks_the_last_events_gets_what_they_touched(shop: Shop, seed: int) -> None:
    history, before = fall_behind(shop, seed)
    recovered(shop, Need.REPLAY)
    expect_as_before(shop, before)
    history.go_on(60)
    shop.engine.expiry.sweep(OPS)
    assert shop.problems() == ()
    assert_written(shop)


@pytest.mark.parametrize("seed", [31, 32])
def test_an_empty_redis_is_made_anew(shop: Shop, seed: int) -> None:
    history = History(shop, seed).begin().go_on(180)
    shop.writer.drain()
    before = essence(shop.redis)
    shop.redis.flushall()
    recovered(shop, Need.REBUILD)
    expect_as_before(shop, before)
    history.go_on(60)
    assert shop.problems() == ()
    shop.writer.drain()
    assert_written(shop)


def paid(shop: Shop) -> str:
    """An order of the shop. There is one."""
    (row,) = shop.query("SELECT id FROM orders")
    return str(row[0])


def spoil(shop: Shop) -> None:
    """Change the oldest event in the stream, which Postgres has."""
    key = shop.engine.store.keys.ledger
    (first, fields), *others = shop.redis.xrange(key)
    shop.redis.delete(key)
    for name, content in [(first, fields | {"actor": "opt"}), *others]:
        shop.redis.xadd(key, content, name)


def stray(shop: Shop) -> None:
    """What a bad disk makes of a hold's key."""
    (name,) = [name for name, _ in shop.redis.zscan_iter(shop.engine.store.keys.deadlines)]
    key = shop.engine.store.keys.reservation(name)
    shop.redis.rename(key, key.encode()[:-1] + b"\xf7")


BAD_DISK: dict[str, Callable[[Shop, str, Any], object]] = {
    "a counter": lambda shop, held, keys: shop.redis.hincrby(keys.sku("a"), "available", 64),
    "a counter that is no number": lambda shop, held, keys: shop.redis.hset(keys.sku("a"), "reserved", "1p"),
    "a counter's name": lambda shop, held, keys: shop.redis.hdel(keys.sku("a"), "allocated"),
    "a counter that is no text": lambda shop, held, keys: shop.redis.hset(keys.sku("a"), "reserved", b"\xb2"),
    "a SKU that is gone": lambda shop, held, keys: shop.redis.delete(keys.sku("a")),
    "a SKU that nobody stocked": lambda shop, held, keys: shop.redis.zadd(keys.skus, {"A": 0}),
    "a SKU that was never whole": lambda shop, held, keys: shop.redis.hset(keys.sku("A"), "available", 5),
    "counts of a SKU that nobody stocked": lambda shop, held, keys: shop.redis.hset(keys.buyers("A"), "ann", 1),
    "a SKU that the index lacks": lambda shop, held, keys: shop.redis.zrem(keys.skus, "a"),
    "a hold's lines": lambda shop, held, keys: shop.redis.hset(keys.reservation(held), "lines", "a=7"),
    "a hold's lines, not to be read": lambda shop, held, keys: shop.redis.hset(keys.reservation(held), "lines", "a>2"),
    "a hold's state": lambda shop, held, keys: shop.redis.hset(keys.reservation(held), "state", "reservee"),
    "a hold that is gone": lambda shop, held, keys: shop.redis.delete(keys.reservation(held)),
    "a hold's key": lambda shop, held, keys: stray(shop),
    "a hold that has no deadline": lambda shop, held, keys: shop.redis.zrem(keys.deadlines, held),
    "another deadline": lambda shop, held, keys: shop.redis.zadd(keys.deadlines, {held: 2**52}),
    "a deadline too late": lambda shop, held, keys: shop.redis.hset(keys.sku("a"), "next_release_ms", 2**52),
    "a customer's count": lambda shop, held, keys: shop.redis.hset(keys.buyers("a"), "ann", 1),
    "an order's payment": lambda shop, held, keys: shop.redis.hset(keys.reservation(paid(shop)), "payment_id", "q1"),
    "a hold that nobody made": lambda shop, held, keys: shop.redis.hset(
        keys.reservation("A" * 22), "state", "reserved"
    ),
    "an older event": lambda shop, held, keys: spoil(shop),
    "a key of another type": lambda shop, held, keys: shop.redis.set(keys.sku("a"), "x"),
    "deadlines of another type": lambda shop, held, keys: shop.redis.set(keys.deadlines, "x"),
}


@one_kind
@pytest.mark.parametrize("what", BAD_DISK)
def test_a_redis_that_came_back_with_something_else_than_the_ledger_says_is_made_anew(shop: Shop, what: str) -> None:
    """A file of appended commands has no checksums: a byte that its disk has changed is loaded as if it were right."""
    shop.engine.stock.configure("a", 10, {"limit_per_customer": "5"}, OPS, NO_KEY)
    shop.pay(shop.hold("bob"))
    shop.recovery.projection.advance()
    held = shop.hold(units=2)
    before = essence(shop.redis)
    BAD_DISK[what](shop, held, shop.engine.store.keys)
    done = recovered(shop, Need.REBUILD)
    assert done.finding.why.startswith("Redis has 1 events that the ledger lacks, but ")
    expect_as_before(shop, before)


@one_kind
def test_what_operators_have_set_is_what_the_ledger_says(shop: Shop) -> None:
    shop.stock()
    before = essence(shop.redis)
    shop.redis.hset(shop.engine.store.keys.meta, "selling_paused", 1)
    recovered(shop, Need.CERTIFY)
    expect_as_before(shop, before)


@one_kind
def test_a_redis_that_lacks_events_and_has_something_else_is_made_anew(shop: Shop) -> None:
    shop.stock("z")
    _, before = fall_behind(shop, 23)
    shop.redis.hincrby(shop.engine.store.keys.sku("z"), "available", 64)
    recovered(shop, Need.REBUILD)
    expect_as_before(shop, before)


def test_a_redis_that_lacks_very_many_events_is_made_anew(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovering, "MAX_REPLAYED", 3)
    _, before = fall_behind(shop, 24)
    recovered(shop, Need.REBUILD)
    expect_as_before(shop, before)


@pytest.mark.parametrize("most_replayed", [0, 1_000])
def test_a_hold_that_ended_long_ago_does_not_come_back_with_an_old_redis(
    shop: Shop, most_replayed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record isn't kept any more, but the old Redis still has it as a hold, and its buyer in the count of the limit."""
    monkeypatch.setattr(recovering, "MAX_REPLAYED", most_replayed)
    shop.engine.stock.configure("a", 10, {"limit_per_customer": "2"}, OPS, NO_KEY)
    held = shop.hold(units=2)
    shop.writer.drain()
    copy = saved(shop.redis)
    shop.engine.reservations.release(held, OPS, "", anybody=True)
    shop.writer.drain()
    ended_ms = shop.engine.store.now_ms()
    put_back(shop.redis, copy)
    wait_until(lambda: shop.engine.store.now_ms() > ended_ms + 2)
    engine, keys = shop.engine, shop.engine.store.keys
    short = Recovery(engine.database, engine.store, engine.scripts, retain_ms=1)
    assert isinstance(short.recover(), Recovered)
    assert shop.redis.zcard(keys.deadlines) == 0
    wait_until(lambda: not shop.redis.exists(keys.reservation(held), keys.lease(held)))
    assert books.counters(engine.store, "a") == (10, 0, 0, 10)
    assert shop.redis.hgetall(keys.buyers("a")) == {}
    short.writer.close()
    short.projection.close()


def test_the_global_stop_comes_back(shop: Shop) -> None:
    shop.stock()
    shop.engine.stock.set_selling(True, "a fire", OPS)
    shop.writer.drain()
    shop.redis.flushall()
    recovered(shop, Need.REBUILD)
    now = shop.engine.stock.selling()
    assert (now.paused, now.reason) == (True, "a fire")


def seconds_held(shop: Shop) -> int:
    """What a buyer is given who asks for no time."""
    held = shop.engine.reservations.reserve(buyer("ann"), [Line("a", 1)], None)
    return (held.deadline_ms - held.created_ms) // 1_000


@one_kind
@pytest.mark.parametrize("lost", ["all", "the end", "the lever's end", "nothing"])
def test_the_default_hold_is_as_it_was(shop: Shop, lost: str) -> None:
    shop.stock()
    if lost == "the lever's end":
        shop.engine.stock.set_default_hold(60, "a rush", OPS)
    copy = saved(shop.redis)
    shop.engine.stock.set_default_hold(None if lost == "the lever's end" else 60, "as it is", OPS)
    # What came after it must not take it away.
    shop.engine.stock.set_selling(True, "a breath", OPS)
    shop.engine.stock.set_selling(False, "rested", OPS)
    shop.writer.drain()
    if lost == "all":
        shop.redis.flushall()
    elif lost != "nothing":
        put_back(shop.redis, copy)
    need = {"all": Need.REBUILD, "nothing": Need.CERTIFY}.get(lost, Need.REPLAY)
    recovered(shop, need)
    assert seconds_held(shop) == (900 if lost == "the lever's end" else 60)
    assert shop.problems() == ()


# Forks


def last(shop: Shop) -> str:
    [(entry_id, _)] = shop.redis.xrevrange(shop.engine.store.keys.ledger, count=1)
    return str(entry_id)


def lose_the_stream_up_to_what_is_not_written(shop: Shop) -> None:
    shop.writer.drain()
    for _ in range(3):
        shop.engine.stock.adjust("a", 1, OPS, "", NO_KEY)
    shop.redis.xtrim(shop.engine.store.keys.ledger, maxlen=2, approximate=False)


FORKS: dict[str, tuple[Tamper, str]] = {
    "as many other events": (lambda shop: split(shop, 3, 3), "ledger_conflict"),
    "fewer other events": (lambda shop: split(shop, 3, 1), "ledger_conflict"),
    "more other events": (lambda shop: split(shop, 3, 7), "ledger_conflict"),
    "another event in the place of one": (
        lambda shop: (
            shop.writer.drain(),
            shop.redis.delete(shop.engine.store.keys.ledger),
            shop.add(shop.position().seq, reason="another"),
        ),
        "ledger_conflict",
    ),
    "the last event is gone": (
        lambda shop: (shop.writer.drain(), shop.redis.xdel(shop.engine.store.keys.ledger, last(shop))),
        "ledger_gap",
    ),
    "seq is ahead of the stream": (
        lambda shop: shop.redis.hincrby(shop.engine.store.keys.meta, "seq", 1),
        "ledger_gap",
    ),
    "seq is behind the stream": (
        lambda shop: shop.redis.hincrby(shop.engine.store.keys.meta, "seq", -1),
        "ledger_gap",
    ),
    "the stream is gone": (lambda shop: shop.redis.delete(shop.engine.store.keys.ledger), "ledger_gap"),
    "the stream is trimmed too far": (lose_the_stream_up_to_what_is_not_written, "ledger_gap"),
    "meta is gone": (lambda shop: shop.redis.delete(shop.engine.store.keys.meta), "Redis has stock, but no meta"),
    "a hole in what is not written": (
        lambda shop: shop.redis.xdel(shop.engine.store.keys.ledger, f"1-{shop.position().seq + 2}"),
        "ledger_gap",
    ),
    "an event that is not ours": (
        lambda shop: (
            shop.add(shop.engine.store.latest_entries("+", 1)[0].seq + 1, at_ms="soon"),
            shop.redis.hincrby(shop.engine.store.keys.meta, "seq", 1),
        ),
        "ledger_conflict",
    ),
}


@one_kind
@pytest.mark.parametrize(("tamper", "why"), FORKS.values(), ids=FORKS)
def test_a_fork_stays_shut_and_changes_nothing(shop: Shop, tamper: Tamper, why: str) -> None:
    shop.stock("a", 50)
    shop.pay(shop.hold())
    for _ in range(3):
        shop.hold()
    tamper(shop)
    gate = {"gate", "gate_reason", "gate_token"}
    keys, before, rows = shop.engine.store.keys, books.dump(shop.redis), shop.rows()
    # What follows on what Postgres has, before the fork, is written; nothing else.
    for _ in range(2):
        finding = shop.recovery.recover()
        assert isinstance(finding, Finding), finding
        assert finding.need is Need.DECISION
        assert why in finding.why
        after = books.dump(shop.redis)
        metas = [dict(found.pop(keys.meta, ({}, False))[0]) for found in (dict(before), dict(after))]
        was, is_now = ({name: text for name, text in meta.items() if name not in gate} for meta in metas)
        assert was == is_now
        assert metas[1]["gate"] == "closed"
        assert why in metas[1]["gate_reason"]
        before.pop(keys.meta, None)
        after_meta = after.pop(keys.meta)
        assert after == before
        before[keys.meta] = after_meta
        assert shop.rows()[: len(rows)] == rows
    assert not shop.recovery.certified()
    with pytest.raises(Closed):
        shop.hold()


def test_a_ledger_that_cannot_be_folded_leaves_redis_as_it_was_even_by_force(shop: Shop) -> None:
    shop.stock("a", 50)
    shop.hold()
    shop.writer.drain()
    shop.query("UPDATE ledger SET actor = 'eve' WHERE seq = 2 RETURNING seq")
    before = shop.redis.hgetall(shop.engine.store.keys.sku("a"))
    with pytest.raises(LedgerBroken, match="ledger_changed"):
        shop.recovery.rebuild(shop.recovery.compare())
    assert shop.redis.hgetall(shop.engine.store.keys.sku("a")) == before
    assert shop.recovery.certified()


def test_a_server_that_was_a_replica_in_between_is_compared_anew(shop: Shop) -> None:
    shop.stock("a", 50)
    assert shop.recovery.certified()
    shop.redis.replicaof("127.0.0.1", 1)
    shop.redis.replicaof("NO", "ONE")
    assert not shop.recovery.certified()
    assert isinstance(shop.recovery.recover(), Recovered)
    assert shop.recovery.certified()


@pytest.mark.parametrize("field", ["epoch", "seq", "clock_ms"])
def test_a_meta_that_nobody_can_read_shuts_the_gate(shop: Shop, field: str) -> None:
    shop.stock("a", 50)
    shop.writer.drain()
    shop.redis.hset(shop.engine.store.keys.meta, field, "banana")
    assert not shop.recovery.certified()
    finding = shop.recovery.recover()
    assert isinstance(finding, Finding)
    assert shop.engine.gate().startswith("closed: fork: Redis has a meta without")
    assert isinstance(shop.recovery.rebuild(finding), Recovered)


def test_an_event_by_hand_far_ahead_shuts_the_gate(shop: Shop) -> None:
    shop.stock("a", 50)
    shop.add(999_999, epoch=99)
    assert not shop.recovery.certified()
    assert isinstance(shop.recovery.recover(), Finding)


def test_a_fork_is_made_anew_by_force(shop: Shop) -> None:
    shop.stock("a", 50)
    held = shop.hold()
    shop.writer.drain()
    cart = shop.engine.carts.create(buyer("ann")).id
    split(shop, 3, 7)
    shop.hold("eve")
    finding = shop.recovery.recover()
    assert isinstance(finding, Finding)
    shop.recovery.rebuild(finding)
    assert shop.recovery.certified()
    assert books.counters(shop.engine.store, "a") == (52, 1, 0, 53)
    assert shop.engine.reservations.get(held, None).state == "reserved"
    assert shop.engine.carts.get(cart, buyer("ann")).id == cart
    assert shop.problems() == ()
    assert_written(shop)
    shop.pay(held)


def test_a_redis_with_a_counter_that_somebody_changed_is_made_anew_without_losing_what_was_not_written_yet(
    shop: Shop,
) -> None:
    shop.stock("a", 50)
    shop.writer.drain()
    held = shop.hold()
    shop.redis.hset(shop.engine.store.keys.sku("a"), "reserved", 0)
    assert shop.recovery.certified()
    shop.recovery.rebuild(shop.recovery.compare())
    assert shop.engine.reservations.get(held, None).state == "reserved"
    assert shop.problems() == ()
    assert_written(shop)
    shop.pay(held)


def test_a_rehearsal_of_force_counts_what_would_be_carried_over_and_carries_nothing(shop: Shop) -> None:
    shop.stock("a", 50)
    shop.writer.drain()
    shop.hold()
    shop.redis.hincrby(shop.engine.store.keys.sku("a"), "reserved", 3)
    before = shop.query("SELECT seq FROM ledger ORDER BY seq")
    finding = shop.recovery.compare()
    [change] = dry_run.changes(shop.engine, shop.recovery, finding)
    assert change.startswith("SKU a has reserved")
    assert shop.query("SELECT seq FROM ledger ORDER BY seq") == before


def test_an_event_that_cannot_be_folded_and_is_not_written_yet_leaves_redis_as_it_was_even_by_force(shop: Shop) -> None:
    shop.stock("a", 50)
    held = shop.hold()
    shop.writer.drain()
    store = shop.engine.store
    event = {**shop.redis.xrevrange(store.keys.ledger, count=1)[0][1], "op": "release", "reservation_id": "x" * 22}
    epoch, seq = store.meta()["epoch"], int(store.meta()["seq"]) + 1
    shop.redis.xadd(store.keys.ledger, {**event, "lines": "unknown=1"}, id=f"{epoch}-{seq}")
    shop.redis.hset(store.keys.meta, "seq", seq)
    finding = shop.recovery.compare()
    with pytest.raises(LedgerBroken, match="ledger_unfoldable"):
        dry_run.changes(shop.engine, shop.recovery, finding)
    with pytest.raises(LedgerBroken, match="ledger_unfoldable"):
        shop.recovery.rebuild(finding)
    assert shop.redis.hget(store.keys.reservation(held), "state") == "reserved"


def test_while_redis_is_made_anew_nothing_is_said_not_to_exist(shop: Shop) -> None:
    shop.stock("a", 50)
    token = "t"
    shop.engine.scripts.close(token, "being restored", restoring=True)
    unknown = "0123456789ABCDEFabcdef"
    calls = (
        lambda: shop.engine.reservations.get(unknown, None),
        lambda: shop.engine.reservations.commit(unknown, OPS, "p", NO_KEY),
        lambda: shop.engine.orders.get(unknown, None),
        lambda: shop.engine.stock.get("b"),
        lambda: shop.engine.stock.availability(["b"], OPS),
    )
    for call in calls:
        with pytest.raises(Closed):
            call()


def test_a_shop_that_sells_while_it_is_made_anew_by_force_loses_no_order(shop: Shop) -> None:
    for sku in ("a", "b"):
        shop.stock(sku)
    paid: list[str] = []
    stop = threading.Event()

    def buy() -> None:
        while not stop.is_set():
            try:
                held = shop.hold()
                shop.pay(held)
                paid.append(held)
            except EngineError:
                continue

    with ThreadPoolExecutor(3) as pool:
        for _ in range(3):
            pool.submit(buy)
        try:
            for count in (5, 15, 25):
                wait_until(lambda count=count: len(paid) > count)  # type: ignore[misc]
                shop.recovery.rebuild(shop.recovery.compare())
        finally:
            stop.set()
    assert shop.problems() == ()
    assert all(shop.engine.orders.get(order, None).state == "allocated" for order in paid)
    assert_written(shop)


def test_an_epoch_is_never_used_again(shop: Shop) -> None:
    """Not even that of a Redis that was given up before its `open` event was written."""
    shop.stock("a", 50)
    shop.writer.drain()
    shop.redis.hset(shop.engine.store.keys.meta, "epoch", 7)
    shop.engine.stock.adjust("a", 1, OPS, "", NO_KEY)
    finding = shop.recovery.recover()
    assert isinstance(finding, Finding)
    shop.recovery.rebuild(finding)
    assert shop.redis.hget(shop.engine.store.keys.meta, "epoch") == "8"


def test_an_empty_ledger_is_nothing_to_make_redis_from(shop: Shop) -> None:
    shop.stock()
    finding = shop.recovery.compare()
    before = books.dump(shop.redis)
    with pytest.raises(ConfigurationError, match="empty"):
        shop.recovery.rebuild(finding)
    assert books.dump(shop.redis) == before


# Interruptions


class Interrupted(Exception):
    pass


def interrupt(monkeypatch: pytest.MonkeyPatch, after: int) -> Callable[[], None]:
    """Let a restore fail in the middle. Gives what ends that."""
    monkeypatch.setattr(recovering, "PIPELINED", 4)
    real, calls = Restoring.finish, [0]

    def finish(self: Restoring) -> None:
        calls[0] += 1
        if calls[0] > after:
            raise Interrupted
        real(self)

    monkeypatch.setattr(Restoring, "finish", finish)
    return lambda: monkeypatch.setattr(Restoring, "finish", real)


@one_kind
@pytest.mark.parametrize("after", [0, 4])
@pytest.mark.parametrize("need", [Need.REPLAY, Need.REBUILD])
def test_a_restore_that_was_interrupted_is_done_again(
    shop: Shop, need: Need, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, before = fall_behind(shop, 40 + after)
    if need is Need.REBUILD:
        shop.redis.flushall()
    whole = interrupt(monkeypatch, after)
    for _ in range(2):
        with pytest.raises(Interrupted):
            shop.recovery.recover()
        assert shop.engine.gate().startswith("closed: being")
        with pytest.raises(Closed):
            shop.hold()
    whole()
    recovered(shop, need)
    expect_as_before(shop, before)


@one_kind
@pytest.mark.parametrize("after", [0, 1, 4])
def test_a_forced_rebuild_that_was_interrupted_is_done_again_from_nothing(
    shop: Shop, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the fork had must not come through, wherever the first one ended."""
    shop.stock("a", 50)
    for number in range(8):
        shop.hold(f"u{number}")
    shop.writer.drain()
    copy = saved(shop.redis)
    shop.engine.stock.adjust("a", 1, OPS, "there", NO_KEY)
    shop.writer.drain()
    before = essence(shop.redis)
    put_back(shop.redis, copy)
    for number in range(8):
        shop.hold(f"other{number}")
    shop.stock("b")
    finding = shop.recovery.recover()
    assert isinstance(finding, Finding)
    whole = interrupt(monkeypatch, after)
    with pytest.raises(Interrupted):
        shop.recovery.rebuild(finding)
    whole()
    recovered(shop, Need.REBUILD)
    expect_as_before(shop, before)


def test_of_two_who_recover_at_once_one_does(
    opening: Callable[..., Shop], shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, before = fall_behind(shop, 51)
    other, entered, go_on = opening(), threading.Event(), threading.Event()
    real = Recovery._put_back

    def put_back_slowly(self: Recovery, *arguments: Any) -> Recovered:
        entered.set()
        assert go_on.wait(20)
        return real(self, *arguments)

    monkeypatch.setattr(Recovery, "_put_back", put_back_slowly)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(shop.recovery.recover)
        assert entered.wait(20)
        with pytest.raises(StoreUnavailable, match="Another process"):
            other.recovery.recover()
        go_on.set()
        assert isinstance(first.result(20), Recovered)
    expect_as_before(shop, before)


@one_kind
@pytest.mark.parametrize("how", ["recover", "rebuild"])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_one_who_was_taken_over_writes_nothing_more(
    opening: Callable[..., Shop], shop: Shop, how: str, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stood still, Postgres has ended its session, another one has recovered, and Redis sells."""
    monkeypatch.setattr(recovering, "PIPELINED", 6)
    _, before = fall_behind(shop, 52)
    other, entered, go_on = opening(), threading.Event(), threading.Event()
    real, calls, first_thread = Restoring.finish, [0], []

    def finish(self: Restoring) -> None:
        if threading.get_ident() in first_thread:
            calls[0] += 1
            if calls[0] == at:
                entered.set()
                assert go_on.wait(20)
        real(self)

    monkeypatch.setattr(Restoring, "finish", finish)
    finding = shop.recovery.compare()

    def first() -> object:
        first_thread.append(threading.get_ident())
        return shop.recovery.recover() if how == "recover" else shop.recovery.rebuild(finding)

    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(first)
        assert entered.wait(20)
        guards = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
        assert shop.query(guards)
        wait_until(lambda: not shop.query("SELECT FROM pg_locks WHERE locktype = 'advisory'"))
        assert isinstance(other.recovery.recover(), Recovered)
        expect_as_before(other, before)
        other.engine.stock.adjust("a", 1, OPS, "", NO_KEY)
        sold = books.dump(shop.redis)
        go_on.set()
        with pytest.raises(StoreUnavailable):
            outcome.result(20)
    assert books.dump(shop.redis) == sold
    assert other.problems() == ()


def test_a_redis_that_takes_long_to_read_is_read_to_the_end(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Postgres would end the session that has the lock, and each keeper would begin again without end."""
    shop.stock("a", 10)
    for number in range(4):
        shop.hold(f"u{number}")
    shop.writer.drain()
    monkeypatch.setattr(recovering, "GUARD_SECONDS", 1.5)
    monkeypatch.setattr(comparison, "PAGE", 1)
    read = shop.recovery._store.hashes

    def read_slowly(keys: Any) -> Any:
        threading.Event().wait(0.5)
        return read(keys)

    monkeypatch.setattr(shop.recovery._store, "hashes", read_slowly)
    recovered(shop, Need.CERTIFY)


def test_what_a_writer_is_about_to_commit_is_not_missed(
    opening: Callable[..., Shop], shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It read the stream of a Redis that then lost the events, and commits them while the loss is being looked at."""
    shop.stock("a", 50)
    shop.writer.drain()
    copy = saved(shop.redis)
    for _ in range(3):
        shop.hold()
    before, late, move = essence(shop.redis), opening(), writer.MOVE
    monkeypatch.setattr(writer, "MOVE", f"{move} RETURNING pg_sleep(0.5)")
    with ThreadPoolExecutor(1) as pool:
        committing = pool.submit(late.writer.drain)
        sleeping = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
        wait_until(lambda: shop.query(sleeping))
        monkeypatch.setattr(writer, "MOVE", move)
        put_back(shop.redis, copy)
        recovered(shop, Need.REPLAY)
        committing.result(20)
    expect_as_before(shop, before)


def test_a_postgres_that_goes_away_meanwhile_leaves_the_gate_shut(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    _, before = fall_behind(shop, 53)
    with monkeypatch.context() as patch:
        patch.setattr(shop.recovery.projection, "advance", lambda *_: psycopg.connect("host=/nowhere"))
        with pytest.raises(StoreUnavailable):
            shop.recovery.recover()
    assert not shop.recovery.certified()
    recovered(shop, Need.REPLAY)
    expect_as_before(shop, before)


# Who may sell


@pytest.fixture
def seller(own_redis: PrivateRedis, books_url: str) -> Shop:
    """A shop that sells only on a server that is certified. Its keeper is `Recovery` on a client of its own."""
    shop = open_shop(own_redis.url, books_url, certified=True)
    shop.recovery = open_shop(own_redis.url, books_url).recovery
    return shop


def selling_is(shop: Shop) -> str:
    try:
        shop.hold()
    except EngineError as error:
        return error.code
    return "open"


def test_only_a_server_that_was_compared_sells(own_redis: PrivateRedis, seller: Shop) -> None:
    assert selling_is(seller) == "closed"
    assert isinstance(seller.recovery.recover(), Recovered)
    seller.stock()
    assert selling_is(seller) == "open"
    own_redis.save()
    # It comes up with all that it had, but nobody knows.
    own_redis.kill()
    assert selling_is(seller) == "store_unavailable"
    own_redis.start()
    assert selling_is(seller) == "closed"
    assert seller.engine.gate() == "closed: not compared with the ledger yet"
    assert isinstance(seller.recovery.recover(), Recovered)
    assert selling_is(seller) == "open"
    # In the middle of a connection that was certified.
    seller.recovery._store.redis.flushall()
    assert selling_is(seller) == "closed"
    assert isinstance(seller.recovery.recover(), Recovered)
    assert selling_is(seller) == "open"
    assert seller.problems() == ()
    # What it had on disk is older than what Postgres has.
    own_redis.kill()
    own_redis.start()
    assert selling_is(seller) == "closed"
    done = seller.recovery.recover()
    assert isinstance(done, Recovered)
    assert done.finding.need is Need.REPLAY
    assert selling_is(seller) == "open"
    assert seller.problems() == ()
    seller.close()


def test_a_replica_that_was_promoted_does_not_sell_before_it_was_compared(
    own_redis: PrivateRedis, seller: Shop, books_url: str
) -> None:
    assert isinstance(seller.recovery.recover(), Recovered)
    seller.stock()
    seller.pay(seller.hold())
    replica = PrivateRedis(own_redis.kind)
    try:
        shop = open_shop(replica.url, books_url, certified=True)
        with Redis.from_url(own_redis.url) as master, Redis.from_url(replica.url, decode_responses=True) as other:
            # Replication needs a port; a copy of everything is what a replica has.
            put_back(other, saved(master))
        assert shop.engine.gate() == "closed: not compared with the ledger yet"
        assert selling_is(shop) == "closed"
        lost = seller.hold()
        keeper = open_shop(replica.url, books_url)
        assert isinstance(keeper.recovery.recover(), Recovered)
        assert selling_is(shop) == "open"
        # The old master can't write into the ledger any more, and what it promised alone is unknown here.
        with pytest.raises(StoreUnavailable):
            seller.pay(lost)
        assert shop.engine.store.record(lost) is None
        assert shop.problems() == ()
        for each in (shop, keeper, seller):
            each.close()
    finally:
        replica.kill()
        replica.directory.cleanup()


def test_another_layout_is_left_alone(shop: Shop) -> None:
    shop.stock()
    shop.redis.hset(shop.engine.store.keys.meta, "layout", 99)
    before = books.dump(shop.redis)
    with pytest.raises(ConfigurationError, match="layout 99"):
        shop.recovery.recover()
    with pytest.raises(ConfigurationError, match="layout 99"):
        shop.recovery.rebuild(Finding(Need.DECISION, "", shop.position(), shop.writer.drain()))
    assert books.dump(shop.redis) == before


def test_events_that_wait_for_postgres_are_bounded_by_refusing_new_holds_only(shop: Shop) -> None:
    shop.stock("a", 50)
    held, paid, due = (shop.hold() for _ in range(3))
    reached = shop.writer.drain()
    shop.engine.scripts.trim(reached, 10, 2)
    left = [shop.hold() for _ in range(2)]
    for _ in range(2):
        with pytest.raises(Closed):
            shop.hold()
        with pytest.raises(Closed):
            shop.engine.reservations.extend(held, buyer("ann"), 900, NO_KEY)
    shop.engine.reservations.release(left[0], buyer("ann"))
    books.run_out(shop.engine.store, due)
    shop.engine.expiry.sweep(OPS)
    assert shop.engine.reservations.get(due, None).state == "expired"
    shop.pay(paid)
    shop.engine.orders.cancel(paid, OPS, "", [Line("a", 1)], NO_KEY)
    with pytest.raises(Closed):
        shop.hold()
    shop.engine.scripts.trim(shop.writer.drain(), 10, 1_000)
    shop.hold()
    shop.engine.reservations.extend(held, buyer("ann"), 900, NO_KEY)
