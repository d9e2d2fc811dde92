"""Measure the record: how fast Postgres takes the ledger in, and how fast Redis comes back from it.

ingest    events a second from the stream into the ledger, into the projections, and folded by verify
restore   seconds from an empty Redis to an open gate, with many live reservations
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager

from engine import database, verify
from engine.config import from_environment
from engine.engine import Engine, build
from engine.ids import random_id
from engine.recovery import Recovered, Recovery
from engine.replies import Claim
from engine.store import client
from engine.values import Line, Operation, Origin
from loadtests import servers

SKUS = 1_000
HOLDS = 200_000
BATCH = 500
OPS = Origin("bench")
SECRETS = {"STOCKADE_JWT_SECRET": "the secret of a bench, long enough"}


def ingest(engine: Engine, recovery: Recovery) -> None:
    began_s = time.perf_counter()
    reached = recovery.writer.drain()
    _say("ingest", "into the ledger", reached.seq, time.perf_counter() - began_s)
    began_s = time.perf_counter()
    recovery.projection.advance()
    _say("ingest", "into the projections", reached.seq, time.perf_counter() - began_s)
    began_s = time.perf_counter()
    report = verify.verify(engine.store, engine.database, engine.settings.retain_ms)
    _say("ingest", f"folded by verify, {len(report.problems)} problems", reached.seq, time.perf_counter() - began_s)


def restore(engine: Engine, recovery: Recovery) -> None:
    recovery.writer.drain()
    recovery.projection.advance()
    engine.store.redis.flushall()
    began_s = time.perf_counter()
    outcome = recovery.recover()
    took_s = time.perf_counter() - began_s
    assert isinstance(outcome, Recovered)
    assert outcome.reservations == HOLDS
    print(f"restore  {outcome.reservations:,} live reservations, {outcome.skus:,} SKUs: gate open after {took_s:.1f} s")
    report = verify.verify(engine.store, engine.database, engine.settings.retain_ms)
    print(f"restore  verify finds {len(report.problems)} problems")


def _say(what: str, where: str, events: int, took_s: float) -> None:
    print(f"{what:8} {events:,} events {where}: {took_s:.1f} s, {events / took_s:,.0f}/s")


@contextmanager
def _sold(server: str) -> Iterator[tuple[Engine, Recovery]]:
    """A Redis with many live reservations, all of them only in its stream, and a Postgres that is as careful as `up`'s."""
    with servers.running(server) as url, servers.running_postgres(careful=True) as database_url:
        settings = from_environment(SECRETS | {"STOCKADE_REDIS_URL": url, "STOCKADE_DATABASE_URL": database_url})
        engine = build(settings, client(settings))
        database.migrate(engine.database)
        recovery = Recovery(engine.database, engine.store, engine.scripts, settings.retain_ms)
        recovery.recover()
        for number in range(SKUS):
            engine.stock.configure(f"sku-{number:05}", HOLDS, {}, OPS, Operation())
        for at in range(0, HOLDS, BATCH):
            engine.scripts.reserve_all([_claim(number) for number in range(at, at + BATCH)])
        yield engine, recovery


def _claim(number: int) -> Claim:
    user = f"user-{number:06}"
    return Claim(random_id(), Origin(user, random_id(), user), (Line(f"sku-{number % SKUS:05}", 1),), 900_000)


MEASUREMENTS = {"ingest": ingest, "restore": restore}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="loadtests.bench_record", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=list(MEASUREMENTS), help="only this one")
    parser.add_argument("--server", choices=servers.KINDS, default="redis" if servers.binary("redis") else "valkey")
    options = parser.parse_args()
    for name in [options.what] if options.what else MEASUREMENTS:
        with _sold(options.server) as (engine, recovery):
            MEASUREMENTS[name](engine, recovery)


if __name__ == "__main__":
    main()
