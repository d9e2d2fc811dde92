"""The ledger writer: carries events from the stream in Redis into the ledger in Postgres, each exactly once.

Any process may write: whoever appends holds the lock on the ledger's position, reads the stream from there on, and moves
the position in the same transaction. So there is one writer at a time, no event twice, none left out.
"""

from __future__ import annotations

from typing import Any

from engine import gaps, ledger
from engine.database import DISK_FULL, Connection, Database, answering
from engine.errors import LedgerBroken, StoreUnavailable
from engine.ledger import COLUMNS, Entry, Position, chained
from engine.store import Store

BATCH = 5_000
"""Events in one transaction, at most."""

MAX_LINES = 50_000
"""Lines in one transaction, some more at most: others wait for its end."""

LONGEST_S = 10.0
"""A process that stops in the middle of a batch keeps others out no longer."""

HOW_MANY = "SELECT count(*) FROM ledger WHERE partition = %s AND (epoch, seq) >= (%s, %s) AND (epoch, seq) <= (%s, %s) AND seq <= %s"
COPY = f"COPY ledger (partition, {COLUMNS}, skus, payload_hash, chain_hash) FROM STDIN"
MOVE = """
    INSERT INTO ledger_position (partition, epoch, seq, payload_hash, chain_hash) VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (partition) DO UPDATE SET (epoch, seq, payload_hash, chain_hash) =
        (excluded.epoch, excluded.seq, excluded.payload_hash, excluded.chain_hash)
"""


class Writer:
    """Not for several threads at once: it has one connection of its own."""

    def __init__(self, database: Database, store: Store) -> None:
        self._database = database
        self._store = store
        self._connection: Connection | None = None
        self._was_cut = False
        self._wrote = False

    def drain(self) -> Position:
        """Write every event that the stream has when this begins.

        Returns: how far the ledger goes then.

        Raises:
            LedgerBroken: the stream doesn't go on where the ledger ends; nothing is written then.
            StoreUnavailable: Redis or Postgres can't be reached.
        """
        left_from_before = self._connection is not None
        try:
            return self._drained()
        except StoreUnavailable:
            # A Postgres that was started again has cut the connection that was left from before.
            if not (left_from_before and self._was_cut):
                raise
            return self._drained()

    def _drained(self) -> Position:
        try:
            with answering():
                while True:
                    connection = self._connected()
                    with connection.transaction():
                        reached, more = self.append(connection)
                    if self._wrote:
                        DISK_FULL.forget()
                    if not more:
                        return reached
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._connection is not None:
            self._was_cut = self._connection.broken
            self._connection.close()
            self._connection = None

    def _connected(self) -> Connection:
        if self._connection is None:
            connection = self._database.connect(longest_s=LONGEST_S)
            connection.execute(
                "INSERT INTO ledger_position VALUES (%s, 0, 0, '', '') ON CONFLICT DO NOTHING",
                [self._store.keys.partition],
            )
            self._connection = connection
        return self._connection

    def has_all(self, reached: Position, behind: int) -> bool:
        """Whether Postgres has a row for every event of the stream that is more than `behind` events older than `reached`.

        Where a gap was accepted nobody waits for its rows.
        """
        first, upto = self._store.entries("-", 1), reached.seq - behind
        if not first or first[0].seq > upto:
            return True
        with answering():
            connection, partition = self._connected(), self._store.keys.partition
            values = [partition, first[0].epoch, first[0].seq, reached.epoch, upto, upto]
            row = connection.execute(HOW_MANY, values).fetchone()
            accepted = gaps.read(connection, partition)
        lacking = upto - first[0].seq + 1 - (row[0] if row else 0)
        return lacking <= 0 or any(gap.after_seq < upto and gap.seq >= first[0].seq for gap in accepted)

    def append(self, connection: Connection) -> tuple[Position, bool]:
        """Write one batch in the caller's transaction.

        Returns: how far the ledger goes then, and whether the stream may have more.

        Raises:
            LedgerBroken: as `drain`.
        """
        partition = self._store.keys.partition
        position = ledger.position(connection, partition, lock=True)
        rows: list[list[Any]] = []
        lines = 0
        for entry in self.following(position):
            if lines > MAX_LINES:
                break
            position = follow(position, entry)
            lines += len(entry.skus)
            rows.append(values_of(partition, entry, position))
        self._wrote = bool(rows)
        if rows:
            with connection.cursor().copy(COPY) as copy:
                for row in rows:
                    copy.write_row(row)
            values = [partition, position.epoch, position.seq, position.payload_hash, position.chain_hash]
            connection.execute(MOVE, values)
        return position, len(rows) == BATCH or lines > MAX_LINES

    def rehearse(self, position: Position, upto: int) -> None:
        """Go over what `drain` would write after the position, at least up to a seq, and write nothing.

        Raises:
            LedgerBroken: as `drain`.
        """
        while position.seq < upto and (entries := self.following(position)):
            for entry in entries:
                position = follow(position, entry)
                values_of(self._store.keys.partition, entry, position)

    def following(self, position: Position) -> list[Entry]:
        """The stream's events after the position, at most a batch.

        The one at the position must be there, and be the same that Postgres has; or the next one must be an `open` that
        names it.

        Raises:
            LedgerBroken: it isn't so.
        """
        entries = self._store.entries(position.entry_id if position.seq else "-", BATCH + 1)
        if position.seq == 0:
            return entries[:BATCH]
        if entries and (entries[0].epoch, entries[0].seq) == (position.epoch, position.seq):
            if entries[0].payload_hash != position.payload_hash:
                raise LedgerBroken("ledger_conflict", f"Event {position.entry_id} in Redis isn't the one in Postgres")
            return entries[1:]
        if entries and entries[0].op == "open" and entries[0].detail == position.chain:
            return entries[:BATCH]
        if not (entries or position.payload_hash):
            # It was accepted that this event is lost; an `open` will go on from it.
            return []
        raise LedgerBroken(
            "ledger_gap", f"The stream in Redis doesn't have event {position.entry_id}, the last in Postgres"
        )


def follow(position: Position, entry: Entry) -> Position:
    """The position after one more event.

    Raises:
        LedgerBroken: it isn't the next one.
    """
    if entry.seq != position.seq + 1:
        raise LedgerBroken("ledger_gap", f"The stream in Redis has {entry.epoch}-{entry.seq} after {position.entry_id}")
    new_epoch = position.seq and entry.epoch != position.epoch
    if new_epoch and (entry.op, entry.detail) != ("open", position.chain):
        raise LedgerBroken("ledger_conflict", f"Event {entry.epoch}-{entry.seq} doesn't go on from {position.entry_id}")
    payload_hash = entry.payload_hash
    return Position(entry.epoch, entry.seq, payload_hash, chained(position.chain_hash, payload_hash))


def values_of(partition: str, entry: Entry, position: Position) -> list[object]:
    """The values that `COPY` takes for an event at a position. Raises: LedgerBroken: it isn't one of ours."""
    try:
        return [partition, *entry.row(), entry.skus, position.payload_hash, position.chain_hash]
    except ValueError as error:
        raise LedgerBroken("ledger_conflict", f"Event {entry.epoch}-{entry.seq} in Redis isn't one of ours") from error
