"""Snapshots: what Redis held at one (epoch, seq), checked against the fold of the ledger, kept in Postgres."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import orjson

from engine import ledger, picture, projection
from engine.database import Connection, Database, answering
from engine.fold import Fold, Hash
from engine.invariants import Invariant, Violation
from engine.picture import Picture
from engine.projection import Projection
from engine.store import Store
from engine.values import Event
from engine.writer import Writer

KEEP_ALL_MS = 2 * 3_600_000
"""Younger snapshots all stay; after that one an hour, then one a day, then none."""

HOURLY_MS = 3_600_000
KEEP_HOURLY_MS = 48 * 3_600_000
DAILY_MS = 86_400_000
KEEP_DAILY_MS = 30 * 86_400_000

MAX_PROBLEMS = 100
COPY = "COPY snapshot_entries (partition, epoch, seq, kind, name, record) FROM STDIN"


@dataclass(frozen=True)
class Snapshot:
    """What a snapshot has, and what was off: nothing, if Redis and the ledger agree."""

    epoch: int
    seq: int
    skus: int
    reservations: int
    problems: tuple[str, ...]


class Snapshots:
    """Not for several threads at once."""

    def __init__(self, database: Database, store: Store, writer: Writer, follower: Projection, retain_ms: int) -> None:
        self._database = database
        self._store = store
        self._writer = writer
        self._projection = follower
        self._retain_ms = retain_ms
        self._partition = store.keys.partition

    def take(self) -> Snapshot:
        """Read SKUs, limits and live reservations while Redis works, compare with the ledger's fold, keep them in Postgres.

        Raises:
            StoreUnavailable: Redis or Postgres can't be reached, or Redis was restored meanwhile.
        """
        with self._database.connect() as connection, answering():
            seen = picture.take(self._store, from_ledger(connection, self._partition, self._drained), live_only=True)
            picture.refuse_half(seen)
            self._projection.advance()
            with connection.transaction():
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                # It locks nothing, and a million holds take their time to compare.
                connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                # The projections may be further by now: the picture follows.
                epoch, seq = projection.reached(connection, self._partition)
                behind = ledger.at(connection, self._partition, seen.epoch, seen.seq)
                ahead = ledger.at(connection, self._partition, epoch, seq)
                for page in ledger.events(connection, self._partition, behind, ahead):
                    picture.advance(seen, page)
                books = projection.live(connection, self._partition, list(seen.fold.records))
                different = [*seen.misfits, *map(str, picture.differences(seen.fold, books, live_only=True))][
                    :MAX_PROBLEMS
                ]
                problems = [str(Violation(Invariant.FOLD, each)) for each in different]
                if seq:
                    self._keep(connection, epoch, seq, seen, problems)
            now_ms = time.time_ns() // 1_000_000
            thin_out(connection, self._partition, now_ms)
            projection.forget(connection, self._partition, self._store.now_ms() - self._retain_ms)
        return Snapshot(epoch, seq, len(seen.fold.skus), len(seen.live), tuple(problems))

    def _keep(self, connection: Connection, epoch: int, seq: int, seen: Picture, problems: list[str]) -> None:
        key = [self._partition, epoch, seq]
        if problems:
            # Nothing was sold since the last one, but something has changed.
            connection.execute("DELETE FROM snapshots WHERE (partition, epoch, seq) = (%s, %s, %s)", key)
        made = connection.execute(
            "INSERT INTO snapshots VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            [*key, time.time_ns() // 1_000_000, problems],
        )
        if made.rowcount == 0:
            return
        with connection.cursor().copy(COPY) as copy:
            for kind, hashes in (("sku", seen.fold.skus), ("buyers", seen.fold.buyers), ("reservation", seen.live)):
                for name, fields in hashes.items():
                    copy.write_row([*key, kind, name, orjson.dumps(fields).decode()])

    def _drained(self, epoch: int, upto: int) -> None:
        self._writer.drain()


def from_ledger(connection: Connection, partition: str, catch_up: Callable[[int, int], object]) -> picture.Events:
    """Events out of Postgres, after `catch_up` has seen to it that those up to an epoch and a seq are there."""

    def events(epoch: int, after: int, upto: int) -> Iterator[Event]:
        catch_up(epoch, upto)
        first = ledger.at(connection, partition, epoch, after)
        for page in ledger.events(connection, partition, first, ledger.at(connection, partition, epoch, upto)):
            yield from page

    return events


def latest(connection: Connection, partition: str) -> tuple[int, int, int] | None:
    """Epoch, seq and time (ms) of the newest snapshot."""
    query = "SELECT epoch, seq, taken_ms FROM snapshots WHERE partition = %s ORDER BY epoch DESC, seq DESC LIMIT 1"
    return connection.execute(query, [partition]).fetchone()


def content(connection: Connection, partition: str, epoch: int, seq: int) -> Fold:
    """What a snapshot holds."""
    found = Fold()
    into: dict[str, dict[str, Hash]] = {"sku": found.skus, "buyers": found.buyers, "reservation": found.records}
    rows = connection.execute(
        "SELECT kind, name, record FROM snapshot_entries WHERE (partition, epoch, seq) = (%s, %s, %s)",
        [partition, epoch, seq],
    )
    for kind, name, record in rows:
        into[kind][name] = record
    return found


def thin_out(connection: Connection, partition: str, now_ms: int) -> None:
    """Let old snapshots go: the first of each hour or day stays as long as it's due, the newest for as long as it is that.

    One with problems stays for good. Without the newest a shop where nothing happens would seem to lack one.
    """
    connection.execute(
        """
        DELETE FROM snapshots WHERE partition = %(partition)s AND problems = '{}' AND (epoch, seq) NOT IN (
            SELECT DISTINCT ON (taken_ms / %(hour)s) epoch, seq FROM snapshots
            WHERE partition = %(partition)s AND taken_ms > %(hourly)s ORDER BY taken_ms / %(hour)s, taken_ms
        ) AND (epoch, seq) NOT IN (
            SELECT DISTINCT ON (taken_ms / %(day)s) epoch, seq FROM snapshots
            WHERE partition = %(partition)s AND taken_ms > %(daily)s ORDER BY taken_ms / %(day)s, taken_ms
        ) AND (epoch, seq) NOT IN (
            SELECT epoch, seq FROM snapshots WHERE partition = %(partition)s ORDER BY epoch DESC, seq DESC LIMIT 1
        ) AND taken_ms < %(all)s
        """,
        {
            "partition": partition,
            "hour": HOURLY_MS,
            "day": DAILY_MS,
            "all": now_ms - KEEP_ALL_MS,
            "hourly": now_ms - KEEP_HOURLY_MS,
            "daily": now_ms - KEEP_DAILY_MS,
        },
    )
