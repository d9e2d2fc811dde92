"""The connection to Postgres: every wait for it is bounded, every failure of it is the engine's own error."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from prometheus_client import Counter
from psycopg_pool import ConnectionPool, PoolTimeout

from engine import switch
from engine.config import Settings
from engine.errors import ConfigurationError, StoreUnavailable
from engine.meter import REGISTRY, Meter

SCHEMA = "0003"
"""The revision in engine/migrations that this program knows."""

TABLES = (
    *("ledger", "ledger_position", "projection_position", "reservations", "skus", "buyers", "checkouts", "answers"),
    *("payments", "snapshots", "snapshot_entries", "acknowledged"),
)

UNWRITABLE = """
    SELECT ARRAY(SELECT name FROM unnest(%s::text[]) AS name WHERE to_regclass(name) IS NULL),
        pg_is_in_recovery() OR current_setting('transaction_read_only')::bool,
        coalesce(has_table_privilege(to_regclass('ledger')::oid, 'INSERT')
            AND has_any_column_privilege(to_regclass('ledger_position')::oid, 'UPDATE'), false)
"""

READERS = 4
"""Connections that a process keeps for reading, at most."""

MIGRATION_LOCK = 0x53746F636B616465
"""Key of the advisory lock under which the schema is changed: "Stockade" in ASCII."""

WRITES_REFUSED = Counter(
    "stockade_postgres_disk_full_total", "Writes that Postgres refused because its disk is full.", registry=REGISTRY
)

SILENCES = 60
"""So many times as long as for an answer a connection waits for the end of one statement: some look at all that there is."""

T = TypeVar("T")


class Connection(psycopg.Connection[Any]):
    """One that waits for nothing for ever: a Postgres that was stopped keeps its connections, and says nothing."""

    longest_wait_s: float | None = None

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        try:
            return super().wait(gen, interval, self.longest_wait_s if timeout is None else timeout)
        except psycopg.errors._WaitTimeout as error:
            # What it is in the midst of nobody knows, so there is no way back, and nothing more is waited for.
            self.pgconn.finish()
            raise psycopg.OperationalError("Postgres doesn't answer in time") from error


class DiskFull:
    """What this process was told of a full disk of Postgres's."""

    REMEMBERED_SECONDS = 30.0

    def __init__(self) -> None:
        self._told_s: float | None = None

    def note(self) -> None:
        self._told_s = time.monotonic()
        WRITES_REFUSED.inc()

    def forget(self) -> None:
        """Something was written."""
        self._told_s = None

    @property
    def lately(self) -> bool:
        return self._told_s is not None and time.monotonic() - self._told_s < self.REMEMBERED_SECONDS


DISK_FULL = DiskFull()


class Database:
    """Safe to share between threads. Connects on first use, so that a forked worker has connections of its own."""

    def __init__(self, settings: Settings, meter: Meter | None = None) -> None:
        self._meter = meter
        self._url = settings.database_url
        self._timeout_s = settings.database_timeout_ms / 1000
        self._lock = threading.Lock()
        self._pool: ConnectionPool[Connection] | None = None

    @property
    def timeout_s(self) -> float:
        return self._timeout_s

    def connect(self, *, longest_s: float = 0) -> Connection:
        """A connection of the caller's own, in autocommit mode. A lock is waited for as long as an answer may take.

        `longest_s`: no statement takes longer; 0 for no limit. A session that stops in the middle of a transaction, because its process was stopped, loses its locks soon.
        """
        self._check_url()
        with answering():
            connection = Connection.connect(self._url, autocommit=True, **self._options(longest_s))
        self._limit(connection)
        return connection

    def run(self, work: Callable[[Connection], T]) -> T:
        """Do `work` on a pooled connection, and wait for it `timeout_s` at most, even if Postgres hangs.

        Raises:
            StoreUnavailable: no answer in time.
        """
        self._check_url()
        answer: Future[T] = Future()
        # Nobody waits for this thread, not even at exit: a Postgres that hangs can't be timed out on its socket.
        threading.Thread(target=self._work, args=(work, answer), name="postgres", daemon=True).start()
        try:
            return switch.result(answer, self._timeout_s)
        except FutureTimeout as error:
            raise StoreUnavailable("Postgres doesn't answer in time") from error

    def unwritable(self) -> str:
        """What would keep a commit from being written; '' if nothing would.

        Raises:
            StoreUnavailable: no answer in time.
        """
        row = self.run(lambda connection: connection.execute(UNWRITABLE, [list(TABLES)]).fetchone())
        missing, is_read_only, may_append = row or ([], False, True)
        if missing:
            return f"the table {missing[0]} is missing"
        if is_read_only:
            return "read-only"
        return "" if may_append else "this role may not append to the ledger"

    def _work(self, work: Callable[[Connection], T], answer: Future[T]) -> None:
        began_s = time.perf_counter()
        try:
            with answering(), self._opened().connection(self._timeout_s * 0.9) as connection:
                if self._meter:
                    self._meter.waited("postgres", time.perf_counter() - began_s)
                found = work(connection)
        except Exception as error:
            answer.set_exception(error)
        else:
            answer.set_result(found)

    def _opened(self) -> ConnectionPool[Connection]:
        with self._lock:
            if self._pool is None:
                self._pool = ConnectionPool(
                    self._url,
                    connection_class=Connection,
                    configure=self._limit,
                    kwargs={"autocommit": True, **self._options(self._timeout_s)},
                    min_size=0,
                    max_size=READERS,
                    check=ConnectionPool.check_connection,
                    open=True,
                )
            return self._pool

    def _limit(self, connection: Connection) -> None:
        connection.longest_wait_s = SILENCES * self._timeout_s

    def _check_url(self) -> None:
        """Without one, Postgres's library would look for a database of its own accord."""
        if not self._url:
            raise ConfigurationError("STOCKADE_DATABASE_URL must be set")

    def _options(self, longest_s: float) -> dict[str, Any]:
        wait_ms = int(self._timeout_s * 1000)
        # A server that is set up to answer before its disk has the commit would make every promise void.
        session = {
            "synchronous_commit": "on",
            "lock_timeout": wait_ms,
            "idle_in_transaction_session_timeout": max(wait_ms, 5_000),
            "statement_timeout": int(longest_s * 1000),
        }
        return {
            "connect_timeout": max(2, round(self._timeout_s)),
            "tcp_user_timeout": wait_ms,
            # A host that is gone says nothing: without these, who waits for its answer would wait for hours.
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "application_name": "stockade",
            "options": " ".join(f"-c {name}={value}" for name, value in session.items()),
        }


@contextmanager
def answering() -> Iterator[None]:
    """Turn the ways in which Postgres fails to answer into the engine's own error."""
    try:
        yield
    except (psycopg.Error, PoolTimeout) as error:
        said = "Postgres can't answer now"
        if isinstance(error, psycopg.errors.DiskFull):
            said = "Postgres's disk is full"
            DISK_FULL.note()
        if isinstance(error, psycopg.errors.UndefinedTable):
            said = "Postgres has no schema yet: run stockade migrate, or start a keeper as its owner"
        if isinstance(error, psycopg.errors.InsufficientPrivilege):
            said = "This role of Postgres may not do that; see docs/deploy"
        raise StoreUnavailable(said) from error


def migrate(database: Database) -> str:
    """Bring the schema up to date. Processes that start at once wait for each other.

    Returns: the revision that was there before, '' if none.

    Raises:
        ConfigurationError: a newer version of this program has written the schema, or this role may not change it.
        StoreUnavailable: Postgres can't be reached.
    """
    with database.connect() as guard, answering():
        guard.execute("SET lock_timeout = 0")
        guard.execute("SELECT pg_advisory_lock(%s)", [MIGRATION_LOCK])
        found = schema(guard)
        if found == SCHEMA:
            return found
        if found > SCHEMA:
            raise ConfigurationError(_newer(found))
        if not _owned(guard):
            raise ConfigurationError(
                f"Postgres {_older(found)}, which this role may not change: run stockade migrate as the owner of the tables"
            )
        # Imported here: it takes longer than all the rest of a start, and is needed once in a version.
        from alembic import command
        from alembic.config import Config
        from sqlalchemy import create_engine

        config = Config()
        config.set_main_option("script_location", "engine:migrations")
        engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(database._url))
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, SCHEMA)
        engine.dispose()
        return found


def check(database: Database) -> None:
    """Refuse a schema that this program doesn't know.

    Raises:
        ConfigurationError: it is older or newer.
        StoreUnavailable: Postgres can't be reached.
    """
    with database.connect() as connection, answering():
        found = schema(connection)
    if found > SCHEMA:
        raise ConfigurationError(_newer(found))
    if found < SCHEMA:
        raise ConfigurationError(
            f"Postgres {_older(found)}: run stockade migrate, or start a keeper as the owner of the tables"
        )


def missing(connection: Connection) -> list[str]:
    """Tables of the schema that aren't there, though its revision says so."""
    query = "SELECT name FROM unnest(%s::text[]) AS name WHERE to_regclass(name) IS NULL"
    return [name for (name,) in connection.execute(query, [list(TABLES)])]


def schema(connection: Connection) -> str:
    """The revision that the database has, '' if none.

    Raises:
        ConfigurationError: this role may not see it.
    """
    there = connection.execute("SELECT to_regclass('alembic_version') IS NOT NULL").fetchone()
    if not there or not there[0]:
        return ""
    try:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigurationError(
            "This role may not read Stockade's tables in Postgres: see docs/deploy/postgres-roles.sql"
        ) from error
    return str(row[0]) if row else ""


def _owned(connection: Connection) -> bool:
    """Whether this role may make tables, and change those that are there."""
    row = connection.execute(
        """
        SELECT has_schema_privilege(current_schema(), 'CREATE')
           AND coalesce((SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass('ledger')), true)
        """
    ).fetchone()
    return bool(row and row[0])


def _older(found: str) -> str:
    has = f"has schema {found}" if found else "has no schema yet"
    return f"{has}, and this version needs {SCHEMA}"


def _newer(found: str) -> str:
    return f"Postgres has schema {found}, which a newer version has written; this one knows {SCHEMA}"
