"""`verify` proves the books while sales go on, and names what is off, wherever it is."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest

from engine.engine import Engine
from engine.errors import EngineError
from engine.ids import once
from engine.keys import Keys
from engine.projection import Projection
from engine.recovery import OVERLAP
from engine.snapshots import Snapshots
from engine.store import Store
from engine.values import Operation, Origin
from engine.verify import Report, verify
from engine.writer import Writer
from tests import books
from tests.books import lines
from tests.integration.shops import one_kind
from tests.waiting import wait_until

OPS, KEEPER, SHOP = Origin("ops"), Origin("keeper"), Origin("shop")
ANN = Origin("ann", user="ann")
NO_KEY = Operation()


@pytest.fixture
def engine(recorded_engine: Engine) -> Engine:
    return recorded_engine


@pytest.fixture
def writer(engine: Engine) -> Iterator[Writer]:
    """Writes the ledger as a keeper does."""
    writing = Writer(engine.database, engine.store)
    yield writing
    writing.close()


@pytest.fixture
def projection(engine: Engine) -> Iterator[Projection]:
    following = Projection(engine.database, engine.store.keys.partition)
    yield following
    following.close()


@pytest.fixture
def snapshots(engine: Engine, writer: Writer, projection: Projection) -> Snapshots:
    return Snapshots(engine.database, engine.store, writer, projection, engine.settings.retain_ms)


def proof(engine: Engine) -> Report:
    return verify(engine.store, engine.database, engine.settings.retain_ms)


@pytest.fixture
def live(engine: Engine, writer: Writer) -> str:
    """The id of a live hold in a store with some of everything: `a` and `b` held and bought, `b` with a limit."""
    engine.stock.configure("a", 50, {}, OPS, NO_KEY)
    engine.stock.configure("b", 50, {"limit_per_customer": "20"}, OPS, NO_KEY)
    ids = [engine.reservations.reserve(ANN, lines("a=2 b=1"), 900).id for _ in range(8)]
    for paid in ids[:4]:
        engine.reservations.commit(paid, SHOP, f"p of {paid}", NO_KEY)
    engine.orders.cancel(ids[0], OPS, "", [], NO_KEY)
    engine.orders.cancel(ids[1], OPS, "", lines("a=1"), NO_KEY)
    engine.orders.fulfil(ids[2], OPS, [], NO_KEY)
    engine.reservations.release(ids[4], ANN)
    run_out_by_extension(engine, ids[5])
    engine.expiry.sweep(KEEPER)
    engine.reservations.extend(ids[6], ANN, 300, NO_KEY)
    engine.stock.adjust("a", 5, OPS, "delivery", NO_KEY)
    engine.stock.set_selling(True, "fire", OPS)
    engine.stock.set_selling(False, "out", OPS)
    engine.stock.set_default_hold(60, "a rush", OPS)
    writer.drain()
    return ids[7]


def run_out_by_extension(engine: Engine, reservation_id: str) -> None:
    """Let a hold run out in such a way that the ledger has its deadline."""
    record = engine.store.record(reservation_id)
    assert record is not None
    extended = engine.scripts.extend(record, ANN, 1, once(NO_KEY))
    wait_until(lambda: engine.store.now_ms() >= extended.deadline_ms)


def test_verify_is_clean_after_a_mixed_history(engine: Engine, live: str) -> None:
    report = proof(engine)
    assert report == Report(skus=2, live=2, orders=2, events=report.events, snapshot="", problems=())
    assert report.events == len(books.events(engine.store)) > 15
    books.assert_right(engine)


def test_verify_is_clean_on_an_empty_store(engine: Engine) -> None:
    assert proof(engine) == Report(skus=0, live=0, orders=0, events=0, snapshot="", problems=())


def test_verify_writes_what_postgres_lacks_and_compares_that_too(engine: Engine, live: str) -> None:
    before = proof(engine).events
    engine.reservations.release(live, ANN)
    assert (proof(engine).events, proof(engine).problems) == (before + 1, ())


def test_verify_is_clean_with_the_snapshots_that_are_there(engine: Engine, snapshots: Snapshots, live: str) -> None:
    first = snapshots.take()
    assert first.problems == ()
    assert proof(engine).snapshot == f"1-{first.seq}"
    engine.reservations.release(live, ANN)
    report = proof(engine)
    assert (report.snapshot, report.events, report.problems) == (f"1-{first.seq}", first.seq + 1, ())
    second = snapshots.take()
    report = proof(engine)
    assert (report.snapshot, report.problems) == (f"1-{second.seq}", ())


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


def change_last_event(store: Store, live: str) -> None:
    """Put another event in the place of the last one, as only somebody can who makes the stream anew."""
    happened = store.redis.xrange(store.keys.ledger)
    store.redis.delete(store.keys.ledger)
    for entry_id, fields in happened[:-1]:
        store.redis.xadd(store.keys.ledger, fields, entry_id)
    entry_id, fields = happened[-1]
    store.redis.xadd(store.keys.ledger, fields | {"actor": "eve"}, entry_id)


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
    ("a counter that is no number", sku("a", "available", "many"), "range: SKU a lacks a counter"),
    ("a bound that is no number", sku("a", "next_release_ms", "soon"), "next_release: SKU a has next_release_ms"),
    ("a seq that is no number", meta("seq", "many"), "dense_log: seq is -1"),
    ("a counter gone", lambda s, _: s.redis.hdel(s.keys.sku("a"), "reserved"), "range: SKU a lacks a counter"),
    ("a SKU gone", lambda s, _: s.redis.delete(s.keys.sku("a")), "holds: SKU a has reserved None"),
    ("a hold gone", lambda s, live: s.redis.delete(s.keys.reservation(live)), "holds: SKU a has reserved 4"),
    (
        "a hold gone, its deadline left",
        lambda s, live: s.redis.delete(s.keys.reservation(live)),
        "is in deadlines, but no live reservation",
    ),
    ("another state", record("state", "released"), "holds: SKU a has reserved 4, but live reservations hold 2"),
    ("other lines", record("lines", "a=3 b=1"), "holds: SKU a has reserved 4, but live reservations hold 5"),
    ("torn lines", record("lines", "a=2 torn"), "holds: the record of reservation"),
    ("an unknown state", record("state", "gone"), "holds: the record of reservation"),
    (
        "a record's deadline gone",
        lambda s, live: s.redis.hdel(s.keys.reservation(live), "deadline_ms"),
        "holds: the record of reservation",
    ),
    ("a deadline gone", lambda s, live: s.redis.zrem(s.keys.deadlines, live), "is live, but not in deadlines"),
    ("a deadline moved", lambda s, live: s.redis.zadd(s.keys.deadlines, {live: 5}), "has deadline_ms"),
    ("a deadline too many", lambda s, _: s.redis.zadd(s.keys.deadlines, {"r9": 5}), "deadlines: r9 is in deadlines"),
    ("a record's deadline moved", record("deadline_ms", 5), "next_release: SKU a has next_release_ms later"),
    ("next release too late", sku("a", "next_release_ms", 4_000_000_000_000), "next_release: SKU a"),
    ("next release gone", lambda s, _: s.redis.hdel(s.keys.sku("a"), "next_release_ms"), "next_release: SKU a"),
    ("a buyer forgotten", lambda s, _: s.redis.delete(s.keys.buyers("b")), "limits: user ann holds and bought"),
    ("a buyer counted too low", lambda s, _: s.redis.hset(s.keys.buyers("b"), "ann", 1), "but fewer are counted"),
    (
        "a buyer counted in words",
        lambda s, _: s.redis.hset(s.keys.buyers("b"), "ann", "many"),
        "range: user ann has many",
    ),
    ("an event gone", drop_events(5), "dense_log: events 5 to 5 are missing in Redis"),
    ("events gone", drop_events(5, 6, 7), "dense_log: events 5 to 7 are missing in Redis"),
    ("the last event gone", drop_last_event, "are missing in Redis"),
    (
        "the ledger gone",
        lambda s, _: s.redis.delete(s.keys.ledger),
        "dense_log: the stream is gone in Redis, but seq is",
    ),
    ("seq behind", meta("seq", 3), "dense_log: seq is 3, but the last event is"),
    ("seq ahead", meta("seq", 999), "dense_log: ledger_gap: Postgres has no event 1-999"),
    ("another epoch", meta("epoch", 2), "dense_log: ledger_gap: Postgres has no event 2-"),
    ("another epoch, seen by itself", meta("epoch", 2), "fencing: the epoch is 2, but the last event is 1-"),
    ("meta gone", lambda s, _: s.redis.delete(s.keys.meta), "dense_log: there is no meta"),
    (
        "a limit changed",
        sku("b", "limit_per_customer", 21),
        "fold: SKU b has limit_per_customer 21, the ledger says 20",
    ),
    ("a limit gone", lambda s, _: s.redis.hdel(s.keys.sku("b"), "limit_per_customer"), "the ledger says 20"),
    ("a global stop", meta("selling_paused", 1), "fold: levers: selling_paused is 1, the ledger says not set"),
    ("another reason", meta("selling_reason", "eve"), "fold: levers: selling_reason is eve, the ledger says out"),
    (
        "another default hold",
        meta("default_hold_ms", 1_000),
        "fold: levers: default_hold_ms is 1000, the ledger says 60000",
    ),
    (
        "a default hold gone",
        lambda s, _: s.redis.hdel(s.keys.meta, "default_hold_ms"),
        "fold: levers: default_hold_ms is not set, the ledger says 60000",
    ),
    ("a field too many", sku("a", "paused", 1), "fold: SKU a has paused 1, the ledger says None"),
    ("a SKU too many", sku("c", "available", 0), "fold: SKU c has available 0, the ledger says None"),
    (
        "counters moved in step",
        lambda s, _: (
            s.redis.hincrby(s.keys.sku("a"), "available", 5),
            s.redis.hincrby(s.keys.sku("a"), "on_hand", 5),
        ),
        "fold: SKU a has on_hand 58, the ledger says 53",
    ),
    ("another user", record("user", "eve"), "has user eve, the ledger says ann"),
    ("an earlier start", record("created_ms", 1), "has created_ms 1, the ledger says"),
    ("paid for, says the record alone", record("payment_id", "p9"), "has payment_id p9, the ledger says None"),
    ("a buyer counted too high", lambda s, _: s.redis.hset(s.keys.buyers("b"), "ann", 19), "has 19 of SKU b counted"),
    ("a buyer too many", lambda s, _: s.redis.hset(s.keys.buyers("b"), "eve", 1), "user eve has 1 of SKU b counted"),
    (
        "a hold that nobody made",
        lambda s, live: s.redis.hset(
            s.keys.reservation("made-up"), mapping=s.redis.hgetall(s.keys.reservation(live)) | {"state": "released"}
        ),
        "fold: reservation made-up is only in Redis",
    ),
    ("the last event changed", change_last_event, "dense_log: ledger_conflict: Event 1-"),
]


@pytest.mark.parametrize(("tamper", "says"), [pytest.param(*row[1:], id=row[0]) for row in TAMPERED])
def test_what_was_tampered_with_is_named(engine: Engine, live: str, tamper: Tamper, says: str) -> None:
    tamper(engine.store, live)
    report = proof(engine)
    assert [problem for problem in report.problems if says in problem], report.problems


LEDGER = "UPDATE ledger SET {} WHERE seq = 5"
TAMPERED_IN_POSTGRES: dict[str, tuple[str, str]] = {
    "an actor": (LEDGER.format("actor = 'eve'"), "dense_log: ledger_changed: Event 1-5 in Postgres"),
    "a time": (LEDGER.format("at_ms = at_ms + 1"), "dense_log: ledger_changed: Event 1-5"),
    "an epoch": (LEDGER.format("epoch = 2"), "dense_log: ledger_gap: Postgres has no event between 1-4 and 1-6"),
    "units": (LEDGER.format("lines = 'a=3 b=1'"), "dense_log: ledger_changed: Event 1-5"),
    "what was counted": (LEDGER.format("counted = NULL"), "dense_log: ledger_changed: Event 1-5"),
    "the hash of an event": (LEDGER.format("payload_hash = ''"), "dense_log: ledger_changed: Event 1-5"),
    "the hash of the chain": (LEDGER.format("chain_hash = payload_hash"), "dense_log: ledger_changed: Event 1-5"),
    "an event and its hash": (
        "UPDATE ledger SET (actor, user_name, lines, op, at_ms, payload_hash) = "
        "(SELECT actor, user_name, lines, op, at_ms, payload_hash FROM ledger WHERE seq = 4) WHERE seq = 5",
        "dense_log: ledger_changed: Event 1-5",
    ),
    "an event gone": (
        "DELETE FROM ledger WHERE seq = 5",
        "dense_log: ledger_gap: Postgres has no event between 1-4 and 1-6",
    ),
    "the first event gone": (
        "DELETE FROM ledger WHERE seq = 1",
        "dense_log: ledger_gap: Postgres has no event between 0-0 and 1-2",
    ),
    "the last event gone": (
        "DELETE FROM ledger WHERE seq = (SELECT max(seq) FROM ledger)",
        "dense_log: ledger_gap: Postgres has no event 1-",
    ),
    "everything gone": ("DELETE FROM ledger", "dense_log: ledger_gap: Postgres has no event 1-"),
    "how far it goes": ("UPDATE ledger_position SET seq = seq - 1", "dense_log: ledger_conflict: Event 1-"),
    "the SKUs by which an event is found": (LEDGER.format("skus = '{}'"), "dense_log: ledger_changed: Event 1-5"),
    "a counter in the projections": (
        """UPDATE skus SET record = json_build_object('available', '9') WHERE sku = 'a'""",
        "fold: projection: SKU a has available 9, the ledger says",
    ),
    "a hold gone from the projections": (
        "DELETE FROM reservations WHERE state = 'reserved'",
        "is only in the ledger: reserved",
    ),
    "a limit's count in the projections": (
        "UPDATE buyers SET units = 1",
        "fold: projection: user ann has 1 of SKU b counted, the ledger says",
    ),
    "a counter in a snapshot": (
        """UPDATE snapshot_entries SET record = json_build_object('available', '9') WHERE (kind, name) = ('sku', 'a')""",
        ": SKU a has available 9, the ledger says",
    ),
    "a SKU gone from a snapshot": (
        "DELETE FROM snapshot_entries WHERE (kind, name) = ('sku', 'b')",
        ": SKU b has available None, the ledger says",
    ),
    "a hold gone from a snapshot": (
        "DELETE FROM snapshot_entries WHERE kind = 'reservation'",
        "is only in the ledger: reserved",
    ),
    "a hold too many in a snapshot": (
        "INSERT INTO snapshot_entries SELECT partition, epoch, seq, kind, 'made-up', record FROM snapshot_entries "
        "WHERE kind = 'reservation' LIMIT 1",
        ": reservation made-up is only in Redis",
    ),
    "a limit in a snapshot": (
        """UPDATE snapshot_entries SET record = json_build_object('ann', '1') WHERE kind = 'buyers'""",
        ": user ann has 1 of SKU b counted, the ledger says",
    ),
}


@one_kind
@pytest.mark.parametrize(("query", "says"), TAMPERED_IN_POSTGRES.values(), ids=TAMPERED_IN_POSTGRES.keys())
def test_what_was_tampered_with_in_postgres_is_named(
    engine: Engine, snapshots: Snapshots, live: str, query: str, says: str
) -> None:
    assert snapshots.take().problems == ()
    with psycopg.connect(engine.settings.database_url, autocommit=True) as connection:
        assert connection.execute(query.encode()).rowcount > 0
    report = proof(engine)
    assert [problem for problem in report.problems if says in problem], report.problems
    if "snapshot" in query:
        assert all(problem.startswith("fold: snapshot 1-") for problem in report.problems)


@pytest.mark.parametrize("left", [3, 1])
def test_events_that_redis_has_let_go_since_postgres_has_them_are_not_missed(
    engine: Engine, live: str, left: int
) -> None:
    engine.store.redis.xtrim(engine.store.keys.ledger, maxlen=left, approximate=False)
    assert proof(engine).problems == ()
    engine.reservations.release(live, ANN)
    assert proof(engine).problems == ()


@pytest.mark.parametrize("left", [1, 0])
def test_events_that_redis_has_let_go_before_postgres_had_them_are_missed(engine: Engine, live: str, left: int) -> None:
    for _ in range(3):
        engine.stock.adjust("a", 1, OPS, "more", NO_KEY)
    engine.store.redis.xtrim(engine.store.keys.ledger, maxlen=left, approximate=False)
    problems = proof(engine).problems
    assert [problem for problem in problems if problem.startswith("dense_log: ledger_gap: ")]
    assert bool([problem for problem in problems if problem.startswith("trim: ")]) == bool(left)


def test_a_busy_store_is_clean_without_a_pause(engine: Engine, writer: Writer, live: str) -> None:
    stop = threading.Event()

    def trade(number: int) -> None:
        pick = random.Random(number)
        while not stop.is_set():
            try:
                held = engine.reservations.reserve(ANN, lines("a=1 b=1"), 900).id
                if pick.random() < 0.5:
                    engine.reservations.release(held, ANN)
                else:
                    engine.reservations.extend(held, ANN, 60, NO_KEY)
                    engine.reservations.commit(held, SHOP, f"p of {held}", NO_KEY)
                    engine.orders.cancel(held, OPS, "", [], NO_KEY)
                engine.stock.configure("b", None, {"limit_per_customer": str(pick.randint(15, 30))}, OPS, NO_KEY)
            except EngineError:
                continue

    def keep() -> None:
        while not stop.is_set():
            engine.scripts.trim(writer.drain(), OVERLAP, 1_000_000)

    threads = [threading.Thread(target=trade, args=(number,)) for number in range(4)]
    threads.append(threading.Thread(target=keep))
    for thread in threads:
        thread.start()
    begun = _seq(engine)
    reports, taken = [], []
    try:
        wait_until(lambda: _seq(engine) > begun)
        while _seq(engine) < begun + 2_000 or len(reports) < 3:
            reports.append(proof(engine))
            if len(taken) < 3:
                taken.append(_snapshot_beside(engine))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert [report.problems for report in reports if report.problems] == []
    assert [problems for problems in taken if problems] == []
    # It did change while it was looked at.
    assert len({report.events for report in reports}) > 2
    assert proof(engine).problems == ()
    assert books.walked(engine.store) == []


def _snapshot_beside(engine: Engine) -> tuple[str, ...]:
    """What a snapshot finds that somebody takes with connections of their own."""
    writer, following = Writer(engine.database, engine.store), Projection(engine.database, Keys().partition)
    try:
        return Snapshots(engine.database, engine.store, writer, following, engine.settings.retain_ms).take().problems
    finally:
        writer.close()
        following.close()


def _seq(engine: Engine) -> int:
    return int(engine.store.meta()["seq"])
