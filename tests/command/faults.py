"""The faults of docs/faults.md: what is done to a running service, and where it is seen."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from engine.embedded_postgres import processes
from tests.command.service import part, standing_still, wait_until_gone, workers
from tests.command.watched import Cramped, Outside, Watched
from tests.integration.guarded import FORMER_FIRST_LINE
from tests.waiting import wait_until

BLOCK_BYTES, SHORTEST_LINE_BYTES = 4_096, 128


@dataclass(frozen=True)
class Seen:
    """Where a fault is seen. `readyz` and `console` are `part: text`, `metric` is a name, `>` or `<` or nothing, and a number, `log` a kind of line."""

    readyz: str
    metric: str
    alert: str
    console: str
    log: str
    doctor: str
    entry: str


@dataclass(frozen=True)
class Fault:
    """`to` is the kind of service that it is done to. `said_later`: the line in the log comes when it is over."""

    to: type[Watched]
    do: Callable[[Any], AbstractContextManager[None]]
    seen: Seen
    said_later: bool = False


def changed(there: str, back: str) -> Callable[[Watched], AbstractContextManager[None]]:
    """Something is done to Postgres past Stockade, and then made good."""

    @contextmanager
    def do(watched: Watched) -> Iterator[None]:
        with watched.postgres() as connection:
            connection.execute(there)
            try:
                yield
            finally:
                connection.execute(back)

    return do


@contextmanager
def row_lost(watched: Watched) -> Iterator[None]:
    """A row of the ledger that Redis's stream doesn't have any more, either."""
    with watched.postgres() as connection, watched.redis as client:
        [entry] = client.xrange("stk:{p0}:ledger", "-", "+", 2)[1:]
        client.xdel("stk:{p0}:ledger", entry[0])
        connection.execute("CREATE TABLE kept AS SELECT * FROM ledger WHERE seq = 2")
        connection.execute("DELETE FROM ledger WHERE seq = 2")
        try:
            yield
        finally:
            connection.execute("INSERT INTO ledger SELECT * FROM kept")
            connection.execute("DROP TABLE kept")


@contextmanager
def counter_raised(watched: Watched) -> Iterator[None]:
    with watched.redis as client:
        client.hincrby("stk:{p0}:sku:tee", "available", 3)
        try:
            yield
        finally:
            client.hincrby("stk:{p0}:sku:tee", "available", -3)


@contextmanager
def memory_full(watched: Watched) -> Iterator[None]:
    with watched.redis as client:
        client.config_set("maxmemory", "1mb")
        try:
            yield
        finally:
            client.config_set("maxmemory", "0")


def hangs(*names: str) -> Callable[[Watched], AbstractContextManager[None]]:
    """The parts of these names are sent SIGSTOP, all of their processes."""
    return lambda watched: standing_still([pid for name in names for pid in _pids(watched, name)])


def gone(name: str) -> Callable[[Watched], AbstractContextManager[None]]:
    """A part has ended, and `up`, which would start another one, stands still."""

    @contextmanager
    def do(watched: Watched) -> Iterator[None]:
        with standing_still([watched.service.process.pid]):
            _end(_pids(watched, name))
            yield

    return do


@contextmanager
def not_compared(watched: Watched) -> Iterator[None]:
    """Redis has been started again, and no keeper works that would compare it with the ledger."""
    before = part(watched.service.process, "valkey")
    with standing_still(_pids(watched, "keeper")):
        os.kill(before.pid, signal.SIGKILL)
        wait_until_gone([before])
        wait_until(lambda: part(watched.service.process, "valkey"))
        yield


def _pids(watched: Watched, name: str) -> list[int]:
    up = watched.service.process
    if name == "postgres":
        return processes((watched.service.data_dir / "postgres").resolve())
    if name == "api":
        return [part(up, "gunicorn").pid, *(worker.pid for worker in workers(up))]
    return [part(up, name).pid]


def _end(pids: Iterable[int]) -> None:
    """The parent may stand still and reap nothing; a zombie has ended."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


@contextmanager
def former_acl(outside: Outside) -> Iterator[None]:
    """The server runs with the first line that docs/deploy/redis.acl once had."""
    with outside.redis as admin:
        admin.execute_command("ACL", "SETUSER", *FORMER_FIRST_LINE.split()[1:])
        try:
            yield
        finally:
            admin.execute_command("ACL", "LOAD")


@contextmanager
def no_snapshots(outside: Outside) -> Iterator[None]:
    """None can be written, while Redis's clock goes on by an hour and something happens."""
    refuse = (
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not today'; END $$;"
        "CREATE TRIGGER refuse BEFORE INSERT ON snapshots EXECUTE FUNCTION refuse()"
    )
    with ExitStack() as stack:
        stack.enter_context(changed(refuse, "DROP FUNCTION refuse CASCADE")(outside))
        outside.sell()
        stack.enter_context(outside.clock_at(3_600))
        yield


@contextmanager
def clock_set_back(outside: Outside) -> Iterator[None]:
    """It was an hour ahead, something happened, and somebody has put it right."""
    with outside.clock_at(7_200):
        wait_until(lambda: str(outside.readyz()["clock"]).startswith("Redis's is +"))
        outside.sell()
    yield


def data_full(cramped: Cramped) -> AbstractContextManager[None]:
    return cramped.full(cramped.data)


@contextmanager
def log_full(cramped: Cramped) -> Iterator[None]:
    """Also what was left of the last block."""
    with cramped.full(cramped.disk_of_log):
        for _ in range(BLOCK_BYTES // SHORTEST_LINE_BYTES):
            cramped.console()
        yield


def seen(text: str, entry: str) -> Seen:
    """The cells of a row, but for the last, as the page has them."""
    return Seen(*re.split(r" +\| +", text), entry)


_RECORD = seen(
    "record: damaged | stockade_record_problems 1 | StockadeRecordDamaged | record: damaged | record_damaged | record",
    "The record is damaged",
)
_POSTGRES = "stockade_postgres_up 0 | StockadePostgresDown | postgres: unavailable"
_REDIS = "redis: unavailable | stockade_redis_up 0 | StockadeRedisDown | no answer: store_unavailable"
_KEEPER = "keeper: missing | stockade_keeper_leads 0 | StockadeNoKeeper | keeper: None"
_API = "no answer | up 0 | StockadeTargetDown | no answer"
_API_ENTRY = "The API answers 503, or not at all"
_WRITES = "StockadeWritesRefused"

FAULTS: dict[str, Fault] = {
    "a row of the ledger is changed": Fault(
        Watched,
        changed("UPDATE ledger SET actor = 'eve' WHERE seq = 2", "UPDATE ledger SET actor = 'olga' WHERE seq = 2"),
        _RECORD,
    ),
    "a row of the ledger is gone, in Redis too": Fault(Watched, row_lost, _RECORD),
    "the projections stand still": Fault(
        Watched,
        changed("UPDATE projection_position SET seq = seq + 9", "UPDATE projection_position SET seq = seq - 9"),
        _RECORD,
    ),
    "a counter in Redis is raised by hand": Fault(Watched, counter_raised, _RECORD),
    "a table is gone": Fault(
        Watched,
        changed("ALTER TABLE ledger RENAME TO away", "ALTER TABLE away RENAME TO ledger"),
        seen(
            f"postgres: the table ledger is missing | {_POSTGRES} | record_unchecked | postgres",
            "Postgres is down",
        ),
    ),
    "Postgres hangs": Fault(
        Watched,
        hangs("postgres"),
        seen(f"postgres: unavailable | {_POSTGRES} | not_ready | postgres", "Postgres is down"),
    ),
    "Postgres is gone": Fault(
        Watched,
        gone("postgres"),
        seen(f"postgres: unavailable | {_POSTGRES} | postgres died | postgres", "Postgres is down"),
        said_later=True,
    ),
    "Redis hangs": Fault(Watched, hangs("valkey"), seen(f"{_REDIS} | sweep_failed | redis", "Redis is down")),
    "Redis is gone": Fault(
        Watched, gone("valkey"), seen(f"{_REDIS} | redis died | redis", "Redis is down"), said_later=True
    ),
    "Redis's memory is full": Fault(
        Watched,
        memory_full,
        seen(
            "redis: full | stockade_redis_max_memory_bytes 1048576 | StockadeRedisMemoryHigh | redis: full | not_ready | redis maxmemory",
            "Redis memory is high",
        ),
    ),
    "Redis was started again, and nobody has compared it": Fault(
        Watched,
        not_compared,
        seen(
            "gate: closed | stockade_gate_open 0 | StockadeGateShut | gate: closed | not_ready | gate",
            "The gate is shut",
        ),
    ),
    "the keeper hangs": Fault(Watched, hangs("keeper"), seen(f"{_KEEPER} | not_ready | keeper", "No keeper leads")),
    "the keeper is gone": Fault(
        Watched, gone("keeper"), seen(f"{_KEEPER} | keeper died | keeper", "No keeper leads"), said_later=True
    ),
    "the API hangs": Fault(Watched, hangs("worker"), seen(f"{_API} | WORKER TIMEOUT | processes", _API_ENTRY)),
    "the API is gone": Fault(Watched, gone("api"), seen(f"{_API} | api died | processes", _API_ENTRY), said_later=True),
    "the disk under Redis's data is full": Fault(
        Cramped,
        data_full,
        seen(
            f"redis: disk full | stockade_redis_writes 0 | {_WRITES} | redis: disk full | not_ready | redis AOF",
            "A disk is full",
        ),
    ),
    "the disk under Postgres's data is full": Fault(
        Cramped,
        data_full,
        seen(
            "postgres: disk full | stockade_disk_free_bytes < 1073741824 | StockadeDiskFull | postgres: disk full | not_ready | disk",
            "A disk is full",
        ),
    ),
    "the disk under the log is full": Fault(
        Cramped,
        log_full,
        seen(
            "log: disk full | stockade_log_taken 0 | StockadeLogLost | log: disk full | log_lines_lost | log",
            "A disk is full",
        ),
        said_later=True,
    ),
    "Redis runs with the former ACL, and would forget its AOF": Fault(
        Outside,
        former_acl,
        seen(
            "aof: a restart forgets | stockade_redis_aof_loads 0 | StockadeAofNotLoadable | aof: a restart forgets | aof_not_loadable | redis AOF replay",
            "The AOF can't be loaded",
        ),
    ),
    "the snapshots are too old": Fault(
        Outside,
        no_snapshots,
        seen(
            "snapshot: old | stockade_snapshot_lag_seconds > 1800 | StockadeSnapshotOld | snapshot: old | snapshot_failed | snapshot",
            "Snapshots are old, or differ",
        ),
    ),
    "Redis's clock is ahead": Fault(
        Outside,
        lambda outside: outside.clock_at(3_600),
        seen(
            "clock: Redis's is +3600 s off | stockade_redis_clock_offset_seconds > 2 | StockadeClockOff | clock: Redis's is +3600 s off | clock_off | redis clock",
            "A clock is wrong",
        ),
    ),
    "Redis's clock was set back": Fault(
        Outside,
        clock_set_back,
        seen(
            "clock: stands still | stockade_clock_ahead_seconds > 2 | StockadeClockStandsStill | clock: stands still | clock_stands_still | redis clock",
            "A clock is wrong",
        ),
    ),
}
