"""The record: how fast Postgres takes the ledger in, and how fast Redis comes back from it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from engine import database, verify
from engine.engine import Engine
from engine.recovery import Recovered, Recovery
from engine.values import Operation
from loadtests import servers
from loadtests.bench import shop
from loadtests.bench.report import Run

SKUS = 1_000
HOLDS = 200_000


def ingest(run: Run) -> None:
    """Events a second from the stream into the ledger, into the projections, and folded by verify."""
    with _sold(run) as (engine, recovery):
        began_s = time.perf_counter()
        reached = recovery.writer.drain()
        _say(run, "into the ledger", reached.seq, time.perf_counter() - began_s)
        began_s = time.perf_counter()
        recovery.projection.advance()
        _say(run, "into the projections", reached.seq, time.perf_counter() - began_s)
        began_s = time.perf_counter()
        report = verify.verify(engine.store, engine.database, engine.settings.retain_ms)
        folded = f"folded by verify, {len(report.problems)} problems"
        _say(run, folded, reached.seq, time.perf_counter() - began_s)


def restore(run: Run) -> None:
    """Seconds until the gate is open, with many live reservations: from a Redis that started with all of it, and from an empty one."""
    with _sold(run) as (engine, recovery):
        recovery.writer.drain()
        recovery.projection.advance()
        began_s = time.perf_counter()
        compared = recovery.recover()
        took_s = run.note("restore", "read as a whole, all as it must be", "s", [time.perf_counter() - began_s])
        assert isinstance(compared, Recovered)
        print(f"\nrestore  {compared.finding.need}, {compared.finding.why}: gate open after {took_s:.1f} s", flush=True)
        engine.store.redis.flushall()
        began_s = time.perf_counter()
        outcome = recovery.recover()
        took_s = run.note("restore", "until the gate was open", "s", [time.perf_counter() - began_s])
        assert isinstance(outcome, Recovered)
        assert outcome.reservations == run.sized(HOLDS)
        put_back = f"{outcome.reservations:,} live reservations, {outcome.skus:,} SKUs"
        print(f"restore  {put_back}: gate open after {took_s:.1f} s")
        report = verify.verify(engine.store, engine.database, engine.settings.retain_ms)
        print(f"restore  verify finds {len(report.problems)} problems", flush=True)


def _say(run: Run, where: str, events: int, took_s: float) -> None:
    rate = run.note("ingest", where, "/s", [events / took_s])
    print(f"ingest   {events:,} events {where}: {took_s:.1f} s, {rate:,.0f}/s", flush=True)


@contextmanager
def _sold(run: Run) -> Iterator[tuple[Engine, Recovery]]:
    """A Redis with many live reservations, all of them only in its stream, and a Postgres that is as careful as `up`'s."""
    with servers.running(run.kind) as url, servers.running_postgres(careful=True) as database_url:
        engine = shop.engine_of(url, database_url)
        database.migrate(engine.database)
        recovery = Recovery(engine.database, engine.store, engine.scripts, engine.settings.retain_ms)
        recovery.recover()
        for number in range(SKUS):
            engine.stock.configure(f"sku-{number:05}", HOLDS, {}, shop.OPS, Operation())
        for at in range(0, run.sized(HOLDS), shop.BATCH):
            engine.scripts.reserve_all([shop.claim(number, skus=SKUS) for number in range(at, at + shop.BATCH)])
        yield engine, recovery
