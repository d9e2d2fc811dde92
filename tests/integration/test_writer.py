"""Every event lands in Postgres exactly once, in order, whoever writes and whoever dies over it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from msgspec import structs

from engine import ledger, writer
from engine.errors import LedgerBroken, StoreUnavailable, ValidationFailed
from engine.ledger import Position
from engine.values import Line
from tests.integration.shops import History, Shop, assert_written, buyer, one_kind, open_shop, selling
from tests.waiting import wait_until


def drain_often(redis_url: str, database_url: str, times: int) -> None:
    shop = open_shop(redis_url, database_url)
    for _ in range(times):
        shop.writer.drain()
    shop.close()


@pytest.fixture
def stocked(shop: Shop) -> Shop:
    for sku in ("a", "b"):
        shop.stock(sku)
    return shop


def broken(shop: Shop) -> LedgerBroken:
    """What the writer says of a stream that can't be carried over. It writes nothing, and says so again."""
    before = shop.rows()
    for _ in range(2):
        with pytest.raises(LedgerBroken) as refusal:
            shop.writer.drain()
    assert shop.rows() == before
    return refusal.value


def test_every_event_is_there_once_in_order_with_the_hash_of_what_redis_has(shop: Shop) -> None:
    History(shop, 1).begin().go_on(300)
    reached = shop.writer.drain()
    assert reached == shop.position()
    assert reached.seq == int(shop.redis.hget(shop.engine.store.keys.meta, "seq"))
    assert_written(shop)
    assert shop.writer.drain() == reached
    assert_written(shop)


@pytest.mark.parametrize("batch", [1, 7])
def test_more_events_than_a_batch_has_are_written_in_many(
    shop: Shop, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "BATCH", batch)
    History(shop, 2).begin().go_on(7 * 8)
    assert shop.writer.drain().seq == int(shop.redis.hget(shop.engine.store.keys.meta, "seq")) > batch
    assert_written(shop)


def test_many_writers_at_once_leave_no_gap_and_write_nothing_twice(
    opening: Callable[..., Shop], stocked: Shop, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "BATCH", 20)
    shops = [opening() for _ in range(4)]
    processes = ProcessPoolExecutor(2, multiprocessing.get_context("spawn"))
    with processes, ThreadPoolExecutor(4) as threads, selling(stocked):
        others = [processes.submit(drain_often, server, stocked.url, 30) for _ in range(2)]
        assert len(list(threads.map(lambda shop: [shop.writer.drain() for _ in range(30)], shops))) == 4
        for done in others:
            done.result(60)
    stocked.writer.drain()
    assert_written(stocked)
    assert stocked.problems() == ()


def test_another_event_in_the_place_of_one_that_is_written_is_a_conflict(stocked: Shop) -> None:
    reached = stocked.writer.drain()
    stocked.redis.delete(stocked.engine.store.keys.ledger)
    stocked.add(reached.seq, reason="another")
    stocked.add(reached.seq + 1)
    assert broken(stocked).name == "ledger_conflict"


@pytest.mark.parametrize(("missing", "by"), [(1, "the next event"), (2, "one later")])
def test_an_event_that_is_missing_is_a_gap(stocked: Shop, missing: int, by: str) -> None:
    seq = stocked.writer.drain().seq
    for number in range(1, 4):
        if number != missing:
            stocked.add(seq + number)
    assert broken(stocked).name == "ledger_gap"


def test_a_stream_without_the_last_event_that_is_written_is_a_gap(stocked: Shop) -> None:
    stocked.writer.drain()
    stocked.redis.delete(stocked.engine.store.keys.ledger)
    assert broken(stocked).name == "ledger_gap"


STRANGE: dict[str, dict[str, Any]] = {
    "a NUL": {"reason": "a\x00b"},
    "no UTF-8": {"reason": b"\xff\xfe", "user": b"\xc3"},
    "half a surrogate": {"reason": b"\xed\xa0\x80"},
    "a field more": {"colour": "red"},
    "an old one without counted and operation": {"counted": None, "operation": None},
    "an empty operation": {"operation": ""},
}


@one_kind
@pytest.mark.parametrize("fields", STRANGE.values(), ids=STRANGE)
def test_a_strange_event_is_kept_as_far_as_postgres_can(stocked: Shop, fields: dict[str, Any]) -> None:
    seq = stocked.writer.drain().seq
    stocked.add(seq + 1, **fields)
    stocked.add(seq + 2)
    assert stocked.writer.drain().seq == seq + 2
    assert_written(stocked)
    assert stocked.recovery.projection.advance().seq == seq + 2


NOT_OURS: dict[str, dict[str, Any]] = {
    "no op": {"op": None},
    "no at_ms": {"at_ms": None},
    "an at_ms that is no number": {"at_ms": "soon"},
    "an at_ms that Postgres would write otherwise": {"at_ms": "007"},
    "an at_ms beyond Postgres": {"at_ms": "99999999999999999999"},
    "a deadline_ms that is no number": {"deadline_ms": "1_000"},
    "a deadline_ms beyond Postgres": {"deadline_ms": "99999999999999999999"},
    "lines without a number": {"lines": "a=1 b"},
    "lines with half a unit": {"lines": "a=1.5"},
}


@one_kind
@pytest.mark.parametrize("fields", NOT_OURS.values(), ids=NOT_OURS)
def test_an_event_that_is_not_ours_is_a_conflict_by_name(stocked: Shop, fields: dict[str, Any]) -> None:
    stocked.add(stocked.writer.drain().seq + 1, **fields)
    assert broken(stocked).name == "ledger_conflict"


@one_kind
@pytest.mark.parametrize("how", ["killed", "stopped for good"])
def test_a_writer_that_dies_between_copy_and_commit_has_written_nothing(
    opening: Callable[..., Shop], stocked: Shop, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seq = stocked.writer.drain().seq
    for _ in range(5):
        stocked.hold()
    move = writer.MOVE
    # The backend waits between COPY and COMMIT until it is ended.
    monkeypatch.setattr(writer, "MOVE", f"{move} RETURNING pg_sleep(60)")
    dying = opening()
    with ThreadPoolExecutor(1) as pool:
        drained = pool.submit(dying.writer.drain)
        sleeping = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
        [(pid,)] = wait_until(lambda: stocked.query(sleeping))
        end = "pg_terminate_backend" if how == "killed" else "pg_cancel_backend"
        stocked.query(f"SELECT {end}(%s)", pid)
        with pytest.raises(StoreUnavailable):
            drained.result(10)
    assert len(stocked.rows()) == seq
    monkeypatch.setattr(writer, "MOVE", move)
    assert dying.writer.drain().seq == seq + 5
    assert stocked.writer.drain().seq == seq + 5
    assert_written(stocked)


@one_kind
@pytest.mark.parametrize(
    ("op", "detail", "taken"),
    [
        ("open", "", False),
        ("open", "1-1 00", False),
        ("pause", "{chain}", False),
        ("open", "{chain}", True),
    ],
)
@pytest.mark.parametrize("joined", [True, False])
def test_another_epoch_goes_on_only_with_an_open_that_names_the_chain(
    stocked: Shop, op: str, detail: str, taken: bool, joined: bool
) -> None:
    """Also where the stream has lost what came before (not `joined`)."""
    reached = stocked.writer.drain()
    if not joined:
        stocked.redis.delete(stocked.engine.store.keys.ledger)
    stocked.add(reached.seq + 1, 2, op=op, detail=detail.format(chain=reached.chain))
    stocked.add(reached.seq + 2, 2)
    if taken:
        assert stocked.writer.drain().seq == reached.seq + 2
        assert stocked.rows()[-2:] == [(2, reached.seq + 1), (2, reached.seq + 2)]
    else:
        assert broken(stocked).name == ("ledger_conflict" if joined else "ledger_gap")


def test_trimming_keeps_as_many_events_when_an_epoch_has_just_begun(stocked: Shop) -> None:
    for number in range(300):
        stocked.hold(f"u{number}")
    stocked.engine.scripts.close("t", "to begin an epoch")
    stocked.recovery.recover()
    reached = stocked.writer.drain()
    stocked.engine.scripts.trim(reached, 200, 1_000)
    assert stocked.redis.xlen(stocked.engine.store.keys.ledger) > 200
    stocked.engine.scripts.trim(reached, 0, 1_000)
    assert stocked.engine.store.entries(reached.entry_id, 1)


def test_trimming_leaves_the_entry_at_the_position_and_all_that_is_not_written(stocked: Shop) -> None:
    scripts, keys, redis = stocked.engine.scripts, stocked.engine.store.keys, stocked.redis
    redis.config_set("stream-node-max-entries", 1)
    try:
        for _ in range(20):
            stocked.hold()
        reached = stocked.writer.drain()
        for _ in range(3):
            stocked.hold()
        scripts.trim(reached, 5, 1_000)
        seqs = [int(entry_id.split("-")[1]) for entry_id, _ in redis.xrange(keys.ledger)]
        assert seqs == list(range(reached.seq - 5, reached.seq + 4))
        scripts.trim(reached, 0, 1_000)
        seqs = [int(entry_id.split("-")[1]) for entry_id, _ in redis.xrange(keys.ledger)]
        assert seqs == list(range(reached.seq, reached.seq + 4))
        assert redis.hget(keys.meta, "full_seq") == str(reached.seq + 1_000)
        # An answer that comes late, from another epoch or through a closed gate, changes nothing.
        scripts.trim(Position(2, reached.seq + 3), 0, 1_000)
        scripts.close("a test", "closed")
        scripts.trim(Position(1, reached.seq + 3), 0, 1_000)
        assert redis.xlen(keys.ledger) == 4
    finally:
        redis.config_set("stream-node-max-entries", 100)
    assert stocked.writer.drain().seq == reached.seq + 3
    rows = stocked.rows()
    assert [seq for _, seq in rows] == list(range(1, len(rows) + 1))


def hold_the_position(redis_url: str, database_url: str, locked: Any, timeout_ms: int) -> None:
    """Take the lock on the position, in a process that will be stopped while it has it."""
    shop = open_shop(redis_url, database_url, STOCKADE_DATABASE_TIMEOUT_MS=str(timeout_ms))
    connection = shop.engine.database.connect()
    with connection.transaction():
        ledger.position(connection, "p0", lock=True)
        locked.set()
        time.sleep(60)


@one_kind
def test_a_process_that_is_stopped_with_the_lock_does_not_hold_it_for_long(stocked: Shop, server: str) -> None:
    """Slow: it is 5 s until Postgres ends a transaction in which nobody says anything."""
    stocked.writer.drain()
    stocked.hold()
    context = multiprocessing.get_context("spawn")
    locked = context.Event()
    process = context.Process(target=hold_the_position, args=(server, stocked.url, locked, 100), daemon=True)
    process.start()
    assert locked.wait(20)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    stopped_s = time.monotonic()
    try:
        with pytest.raises(StoreUnavailable):
            stocked.writer.drain()

        def drained() -> bool:
            try:
                return bool(stocked.writer.drain() == stocked.position())
            except StoreUnavailable:
                return False

        wait_until(drained)
        assert time.monotonic() - stopped_s < 8
    finally:
        process.kill()
        process.join()
    assert_written(stocked)


def test_a_hold_of_half_a_millisecond_is_refused_so_that_its_event_can_be_written(stocked: Shop) -> None:
    claim = stocked.engine.reservations.claim(buyer("ann"), [Line("a", 1)], 900, "", "")
    with pytest.raises(ValidationFailed):
        stocked.engine.scripts.reserve(structs.replace(claim, hold_ms=1.5))  # type: ignore[arg-type]
    stocked.writer.drain()
    assert_written(stocked)


def test_events_are_kept_whose_rows_are_missing_until_they_are_back_or_given_up(shop: Shop) -> None:
    for number in range(20):
        shop.stock("a", 100 + number)
    reached = shop.writer.drain()
    assert shop.writer.has_all(reached, 10)
    with psycopg.connect(shop.url, autocommit=True) as connection:
        connection.execute("CREATE TEMP TABLE kept AS SELECT * FROM ledger WHERE seq IN (5, 15)")
        connection.execute("DELETE FROM ledger WHERE seq = 15")
        assert shop.writer.has_all(reached, 10), "that one isn't let go yet"
        connection.execute("DELETE FROM ledger WHERE seq = 5")
        assert not shop.writer.has_all(reached, 10)
        connection.execute("INSERT INTO ledger SELECT * FROM kept WHERE seq = 5")
        assert shop.writer.has_all(reached, 10)
        connection.execute("DELETE FROM ledger WHERE seq = 5")
        connection.execute(
            "INSERT INTO acknowledged (partition, kind, at_ms, actor, reason, what, after_epoch, after_seq, epoch, seq) "
            "VALUES ('p0', 'gap', 1, 'ann', 'lost', '', 1, 4, 1, 5)"
        )
        assert shop.writer.has_all(reached, 10)
