"""A payment's answer is given once the ledger says so in Postgres; until then it is `store_unavailable`, in bounded time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engine.errors import EngineError, RefundRequired, StoreUnavailable
from engine.ledger import Filter, Position
from engine.payments import Outcome, PaymentEvent
from engine.recovery import Recovered
from engine.store import client
from engine.values import Operation
from engine.writer import Writer
from tests.conftest import settings
from tests.integration.conftest import PrivatePostgres
from tests.integration.shops import NO_KEY, OPS, SHOP, Shop, assert_written, one_kind, open_shop
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
TIMEOUT_MS, CALLERS = 600, 20


def ops(shop: Shop) -> list[str]:
    return [op for (op,) in shop.query("SELECT op FROM ledger ORDER BY seq")]


def test_a_commit_is_in_postgres_when_it_is_answered(shop: Shop) -> None:
    shop.stock()
    held = shop.hold()
    assert ops(shop) == []
    shop.pay(held)
    assert ops(shop) == ["recount", "reserve", "commit"]
    shop.engine.stock.adjust("a", 1, OPS, "", NO_KEY)
    # The repeat of an answer waits for what has happened before it, as it can't know which event it was.
    shop.pay(held)
    assert ops(shop) == ["recount", "reserve", "commit", "restock"]


def test_refund_required_is_in_postgres_when_it_is_answered(shop: Shop) -> None:
    shop.stock("a", 1)
    held = shop.hold()
    shop.engine.reservations.release(held, OPS, "", anybody=True)
    shop.engine.stock.adjust("a", -1, OPS, "", NO_KEY)
    for _ in range(2):
        with pytest.raises(RefundRequired):
            shop.pay(held)
        assert ops(shop)[-1] == "refund_required"
    shop.engine.stock.adjust("a", 1, OPS, "", NO_KEY)
    shop.pay(held, "p2")
    assert shop.engine.payments.take(PaymentEvent.SUCCEEDED, "e1", held, "p3", SHOP) is Outcome.REFUND_REQUIRED
    assert ops(shop)[-1] == "refund_required"
    assert ops(shop).count("refund_required") == 2


def test_the_audit_has_whatever_happened_before_it(shop: Shop) -> None:
    shop.stock()
    held = shop.hold()
    assert [event.op for event in shop.engine.audit.page(Filter(reservation_id=held), "", 9)[0]] == ["reserve"]


def test_those_who_wait_share_transactions(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.stock()
    holds = [shop.hold(f"u{number}") for number in range(64)]
    batches, real = [], Writer.append

    def batch(self: Writer, connection: Any) -> tuple[Position, bool]:
        before = shop.position().seq
        # As long as a slow disk takes; those who come meanwhile wait for the next.
        connection.execute("SELECT pg_sleep(0.02)")
        reached, more = real(self, connection)
        batches.append(reached.seq - before)
        return reached, more

    monkeypatch.setattr(Writer, "append", batch)
    with ThreadPoolExecutor(64) as pool:
        assert len({order.id for order in pool.map(shop.pay, holds)}) == 64
    assert 1 <= len([written for written in batches if written]) <= 16
    assert ops(shop).count("commit") == 64
    assert_written(shop)


@pytest.fixture
def slow(server: str, own_postgres: PrivatePostgres) -> Iterator[Shop]:
    """A shop on a Postgres that may be stopped and killed, with holds to pay for."""
    client(settings(server)).flushall()
    shop = open_shop(server, own_postgres.url, STOCKADE_DATABASE_TIMEOUT_MS=str(TIMEOUT_MS))
    shop.recovery.recover()
    shop.stock()
    shop.pay(shop.hold())
    yield shop
    own_postgres.go_on()
    shop.close()


def outcome(call: Callable[[], object]) -> tuple[str, float]:
    began_s = time.monotonic()
    try:
        call()
        return "answered", time.monotonic() - began_s
    except EngineError as error:
        return error.code, time.monotonic() - began_s


def all_at_once(shop: Shop, holds: list[str]) -> list[tuple[str, float]]:
    barrier = threading.Barrier(len(holds))

    def pay(held: str) -> tuple[str, float]:
        barrier.wait()
        return outcome(lambda: shop.pay(held, "", Operation(f"key-{held}", "7")))

    with ThreadPoolExecutor(len(holds)) as pool:
        return list(pool.map(pay, holds))


@one_kind
@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_postgres_that_is_gone_is_waited_for_in_bounded_time_and_nothing_else_needs_it(
    slow: Shop, own_postgres: PrivatePostgres, how: str
) -> None:
    holds = [slow.hold(f"u{number}") for number in range(CALLERS)]
    end, begin = (
        (own_postgres.stand_still, own_postgres.go_on) if how == "stopped" else (own_postgres.kill, own_postgres.start)
    )
    end()
    try:
        for _ in range(2):
            outcomes = all_at_once(slow, holds)
            assert {code for code, _ in outcomes} == {"store_unavailable"}
            assert max(seconds for _, seconds in outcomes) < TIMEOUT_MS / 1000 + 1
        # Nobody else waits for Postgres, and the payment has been taken nevertheless.
        reserved = [outcome(slow.hold) for _ in range(5)]
        assert {code for code, _ in reserved} == {"answered"}
        assert max(seconds for _, seconds in reserved) < TIMEOUT_MS / 1000
        assert slow.engine.reservations.get(holds[0], None).state == "committed"
    finally:
        begin()

    def repeated() -> bool:
        return {code for code, _ in all_at_once(slow, holds)} == {"answered"}

    wait_until(repeated)
    first = slow.pay(holds[0], "", Operation(f"key-{holds[0]}", "7"))
    assert first == slow.pay(holds[0], "", Operation(f"key-{holds[0]}", "7"))
    assert ops(slow).count("commit") == CALLERS + 1
    assert_written(slow)
    assert slow.problems() == ()


@one_kind
def test_a_postgres_that_was_started_again_refuses_nobody_who_comes_after(
    slow: Shop, own_postgres: PrivatePostgres
) -> None:
    held = slow.hold()
    own_postgres.kill()
    own_postgres.start()
    slow.pay(held)
    assert_written(slow)


@pytest.fixture
def held_back(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], Any]:
    """Pays for a hold, and has something else happen between the script and the write of the ledger."""
    real = Writer.drain

    def pay_and_meanwhile(meanwhile: Callable[[], None]) -> Any:
        shop.stock()
        held = shop.hold()

        def drain(self: Writer) -> Position:
            monkeypatch.setattr(Writer, "drain", real)
            assert shop.engine.store.record(held).fields["state"] == "committed"  # type: ignore[union-attr]
            meanwhile()
            return real(self)

        monkeypatch.setattr(Writer, "drain", drain)
        return outcome(lambda: shop.pay(held))[0]

    return pay_and_meanwhile


@pytest.mark.parametrize("written", [True, False])
def test_a_redis_that_lost_everything_before_the_write_gives_no_answer(
    shop: Shop, held_back: Callable[[Callable[[], None]], str], written: bool
) -> None:
    if written:
        shop.stock("b")
        shop.writer.drain()
    assert held_back(shop.redis.flushall) == "store_unavailable"
    assert "commit" not in ops(shop)


@pytest.mark.parametrize(("written", "answer"), [(True, "answered"), (False, "store_unavailable")])
def test_a_redis_that_was_restored_meanwhile_has_an_answer_only_if_postgres_had_the_event(
    shop: Shop, held_back: Callable[[Callable[[], None]], str], written: bool, answer: str
) -> None:
    shop.stock("b")
    shop.writer.drain()

    def lose_and_restore() -> None:
        if written:
            shop.writer.drain()
        shop.redis.flushall()
        assert isinstance(shop.recovery.recover(), Recovered)
        for _ in range(5):
            shop.hold("eve", "b")

    assert held_back(lose_and_restore) == answer
    assert ops(shop).count("commit") == int(written)
    assert shop.problems() == ()


def test_a_new_redis_is_never_taken_for_the_one_before_even_if_the_ledger_was_empty(
    shop: Shop, held_back: Callable[[Callable[[], None]], str]
) -> None:
    def lose_and_begin_anew() -> None:
        shop.redis.flushall()
        assert isinstance(shop.recovery.recover(), Recovered)
        shop.stock("b")
        for _ in range(5):
            shop.hold("eve", "b")

    assert held_back(lose_and_begin_anew) == "store_unavailable"
    assert "commit" not in ops(shop)


@one_kind
def test_a_defect_of_the_writer_is_an_error_for_all_who_wait_and_not_the_end(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.stock()
    held, real = shop.hold(), Writer.drain
    monkeypatch.setattr(Writer, "drain", lambda self: 1 / 0)
    with pytest.raises(StoreUnavailable, match="ZeroDivisionError"):
        shop.pay(held)
    monkeypatch.setattr(Writer, "drain", real)
    assert shop.pay(held).id == held


@one_kind
def test_a_command_that_waits_for_postgres_ends_in_bounded_time(
    slow: Shop, own_postgres: PrivatePostgres, tmp_path: Path
) -> None:
    given = slow.engine.settings
    environment = {name: text for name, text in os.environ.items() if not name.startswith("STOCKADE_")} | {
        "STOCKADE_REDIS_URL": given.redis_url,
        "STOCKADE_DATABASE_URL": given.database_url,
        "STOCKADE_DATABASE_TIMEOUT_MS": str(TIMEOUT_MS),
    }
    command = [sys.executable, "-m", "engine.cli", "explain", "a", "--data-dir", str(tmp_path)]
    run = partial(subprocess.run, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=15, check=False)
    assert run(command).returncode == 0
    own_postgres.stand_still()
    refused = run(command)
    assert refused.returncode == 1
    assert re.match("stockade: Postgres (doesn't answer in time|can't answer now)", refused.stderr.splitlines()[-1])
