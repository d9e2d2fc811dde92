"""Has everything in Postgres that Redis is compared with: writes it, or waits for a keeper where the role may only read."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from engine import ledger, projection
from engine.database import Connection, Database
from engine.errors import LedgerBroken, StoreUnavailable
from engine.projection import Projection
from engine.store import Store
from engine.writer import Writer

LONGEST_WAIT_S = 5.0
"""A keeper writes several times a second, and one that died is followed in that time."""

LOOKS_EVERY_S = 0.02


class CatchingUp(Protocol):
    """Both raise StoreUnavailable where Postgres can't have it, LedgerBroken where Redis and Postgres contradict each other."""

    def ledger(self, epoch: int, seq: int) -> None:
        """Return when the ledger has the event, and every one before it."""

    def projections(self, epoch: int, seq: int) -> None:
        """Return when the projections have followed the ledger that far."""

    def close(self) -> None: ...


def catching_up(connection: Connection, database: Database, store: Store) -> CatchingUp:
    """Safe with every role; `connection` is the caller's, and only read with."""
    row = connection.execute("SELECT has_table_privilege('ledger', 'INSERT')").fetchone()
    return Writing(database, store) if row and row[0] else Waiting(connection, database, store)


class Writing:
    def __init__(self, database: Database, store: Store) -> None:
        self._writer = Writer(database, store)
        self._projection = Projection(database, store.keys.partition)

    def ledger(self, epoch: int, seq: int) -> None:
        self._writer.drain()

    def projections(self, epoch: int, seq: int) -> None:
        self._projection.advance()

    def close(self) -> None:
        self._writer.close()
        self._projection.close()


class Waiting:
    def __init__(self, connection: Connection, database: Database, store: Store) -> None:
        self._connection = connection
        self._partition = store.keys.partition
        self._writer = Writer(database, store)

    def ledger(self, epoch: int, seq: int) -> None:
        if not _comes(lambda: ledger.position(self._connection, self._partition).seq >= seq):
            # Reads only, and says by name why no keeper can go on.
            self._writer.following(ledger.position(self._connection, self._partition))
            raise StoreUnavailable(
                f"Events up to {epoch}-{seq} wait for Postgres, and this role of Postgres may only read: let a keeper run, "
                "or log in as stockade_service"
            )

    def projections(self, epoch: int, seq: int) -> None:
        # The epoch of an empty ledger is noted before its first event.
        if seq and not _comes(lambda: projection.reached(self._connection, self._partition) >= (epoch, seq)):
            at = "-".join(map(str, projection.reached(self._connection, self._partition)))
            raise LedgerBroken(
                "ledger_unfoldable",
                f"The projections stay at {at}, the ledger goes to {epoch}-{seq}: no keeper follows it",
            )

    def close(self) -> None:
        return


def _comes(reached: Callable[[], bool]) -> bool:
    give_up_s = time.monotonic() + LONGEST_WAIT_S
    while not (done := reached()) and time.monotonic() < give_up_s:
        time.sleep(LOOKS_EVERY_S)
    return done
