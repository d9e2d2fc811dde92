"""`make bench`: measurements, each on a private server, printed with what they were made on.

python -m loadtests.bench memory    bytes that a live one-line reservation takes, all its keys but the ledger
python -m loadtests.bench storm     100,000 reservations that fall due in the same second
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from engine.config import from_environment
from engine.engine import Engine, build
from engine.errors import LinesUnavailable
from engine.ids import fingerprint, random_id
from engine.ledger import Position
from engine.replies import Claim
from engine.store import client
from engine.values import Line, Operation, Origin
from engine.verify import verify
from loadtests import servers

HOLDS = 100_000
SKUS = 100
SLOW_FROM_MICROSECONDS = 200
OPS = Origin("bench")
SECRETS = {"STOCKADE_JWT_SECRET": "of this measurement only, and long enough"}


def memory(kind: str) -> None:
    """Make `HOLDS` live one-line reservations, each with an idempotency key, and divide what they take."""
    _memory(kind, "user-{:06}", "users as user-000001")
    _memory(kind, "00000000-0000-4000-8000-{:012}", "users as UUIDs")


def _memory(kind: str, name: str, shown: str) -> None:
    with servers.running(kind) as url:
        engine = _engine(url)
        _open_without_a_ledger(engine)
        _stock(engine, HOLDS)
        redis = engine.store.redis
        before_bytes = redis.info("memory")["used_memory"]
        for number in range(HOLDS):
            user = name.format(number)
            line = Line(f"sku-{number % SKUS:05}", 1)
            print_of_it = fingerprint(user.encode())
            engine.reservations.reserve(Origin(user, random_id(), user), [line], 900, f"key-{number}", print_of_it)
        grown_bytes = redis.info("memory")["used_memory"] - before_bytes
        ledger_bytes = redis.memory_usage(engine.store.keys.ledger, samples=0)
        print(f"{_about(redis)}, {HOLDS:,} live reservations of one line, an idempotency key each, {shown}:")
        print(f"  {(grown_bytes - ledger_bytes) / HOLDS:6.0f} bytes each, all keys but the ledger")
        print(f"  {ledger_bytes / HOLDS:6.0f} bytes each in the ledger")


@dataclass
class Shopper:
    """Reserves without a pause while the storm is on."""

    engine: Engine
    stop: threading.Event = field(default_factory=threading.Event)
    waits_ms: list[float] = field(default_factory=list)
    refused: int = 0

    def shop(self) -> None:
        number = 0
        while not self.stop.is_set():
            number += 1
            began_s = time.perf_counter()
            try:
                self.engine.reservations.reserve(
                    Origin("shopper", "", "shopper"), [Line(f"sku-{number % SKUS:05}", 1)], 900
                )
            except LinesUnavailable:
                self.refused += 1
            self.waits_ms.append((time.perf_counter() - began_s) * 1000)


def storm(kind: str) -> None:
    """Sell everything out to holds that fall due in the same second, and watch the units come back."""
    slowlog = ("--slowlog-log-slower-than", str(SLOW_FROM_MICROSECONDS), "--slowlog-max-len", "100000")
    with (
        servers.running(kind, *slowlog) as url,
        servers.running_postgres() as database,
        _keeper(url, database),
    ):
        engine = _engine(url, database)
        while engine.gate() != "open":
            time.sleep(0.01)
        _stock(engine, HOLDS)
        redis = engine.store.redis
        due_ms = engine.store.now_ms() + 60_000
        for number in range(HOLDS):
            user, line = Origin(f"user-{number:06}", "", f"user-{number:06}"), Line(f"sku-{number % SKUS:05}", 1)
            hold_ms = due_ms - engine.store.now_ms() + number % 1000
            engine.scripts.reserve(Claim(random_id(), user, (line,), hold_ms))
        assert redis.zcount(engine.store.keys.deadlines, due_ms - 1000, due_ms + 2000) == HOLDS
        redis.slowlog_reset()
        # From here on every SKU has a hold that is due, so no refusal is right.
        _sleep_until(engine, due_ms + SKUS)
        shopper = Shopper(_engine(url, database))
        thread = threading.Thread(target=shopper.shop)
        thread.start()
        last_due_ms = due_ms + 1000
        while redis.zcount(engine.store.keys.deadlines, "-inf", last_due_ms):
            time.sleep(0.01)
        returned_ms = engine.store.now_ms()
        shopper.stop.set()
        thread.join()
        slowest = max(
            (entry["duration"] for entry in redis.slowlog_get(100_000) if b"EVALSHA" in entry["command"]), default=0
        )
        report = verify(engine.store, engine.database, engine.settings.retain_ms)
        waits = sorted(shopper.waits_ms)
        served = len(waits) - shopper.refused
        print(f"{_about(redis)}, {HOLDS:,} reservations falling due within one second:")
        print(
            f"  {returned_ms - due_ms:6} ms from the first deadline until every unit was back (the last was due after 1000)"
        )
        print(f"  {served:6} reserves served meanwhile to one caller, {shopper.refused} refused (must be 0)")
        print(
            f"  {statistics.median(waits):6.2f} ms to wait for one, p50; {waits[int(len(waits) * 0.99)]:.2f} p99; {waits[-1]:.2f} at most"
        )
        print(f"  {_milliseconds(slowest)} ms took the slowest script call")
        print(f"  {len(report.problems):6} problems found by verify")


def _milliseconds(microseconds: int) -> str:
    if not microseconds:
        return f"  less than {SLOW_FROM_MICROSECONDS / 1000}"
    return f"{microseconds / 1000:6.2f}"


def _engine(url: str, database: str = "") -> Engine:
    settings = from_environment(SECRETS | {"STOCKADE_REDIS_URL": url, "STOCKADE_DATABASE_URL": database})
    return build(settings, client(settings))


def _open_without_a_ledger(engine: Engine) -> None:
    """Open a new store that nobody writes down, so that its stream stays whole and can be weighed."""
    engine.scripts.close("bench", "new")
    engine.scripts.open("bench", engine.store.run_id(), 1, Position(), 0, "new", {})


def _stock(engine: Engine, units: int) -> None:
    for number in range(SKUS):
        engine.stock.configure(f"sku-{number:05}", units // SKUS, {}, OPS, Operation())


def _sleep_until(engine: Engine, when_ms: int) -> None:
    time.sleep(max(0, when_ms - engine.store.now_ms()) / 1000)


def _about(redis: Any) -> str:
    server = redis.info("server")
    name = f"Valkey {server['valkey_version']}" if "valkey_version" in server else f"Redis {server['redis_version']}"
    return f"{name}, {os.cpu_count()} cores"


class _keeper:
    """A keeper in a process of its own, as in production."""

    def __init__(self, url: str, database: str) -> None:
        self._environment = os.environ | SECRETS | {"STOCKADE_REDIS_URL": url, "STOCKADE_DATABASE_URL": database}

    def __enter__(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-m", "engine.cli", "keeper"], env=self._environment)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


MEASUREMENTS = {"memory": memory, "storm": storm}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="loadtests.bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=list(MEASUREMENTS), help="only this one")
    parser.add_argument("--server", choices=servers.KINDS, default="redis" if servers.binary("redis") else "valkey")
    options = parser.parse_args()
    for name in [options.what] if options.what else MEASUREMENTS:
        MEASUREMENTS[name](options.server)


if __name__ == "__main__":
    main()
