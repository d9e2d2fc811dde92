"""What a restore would change, for a person who has to decide."""

from __future__ import annotations

from engine import ledger, picture, projection
from engine.database import Connection, answering
from engine.engine import Engine
from engine.errors import LedgerBroken
from engine.fold import Fold, Hash
from engine.ledger import PAGE, event_of
from engine.picture import Picture
from engine.recovery import Finding, Need, Recovery

MOST_SHOWN = 1_000


def changes(engine: Engine, recovery: Recovery, finding: Finding, *, force: bool) -> list[str]:
    """Each counter, reservation, limit and lever that would become another one; before them, how many events would be given up.

    Where Redis and the ledger agree, `force` would carry over what only Redis has: it counts as carried over.

    Raises:
        LedgerBroken: the ledger can't be folded; a restore would be refused, too.
    """
    if finding.need is not Need.CERTIFY:
        recovery.projection.advance()
        given_up, found = _contradicted(engine)
    elif force:
        recovery.projection.advance()
        given_up, found = 0, _differing(engine)
    else:
        return []
    shown = found[:MOST_SHOWN]
    if len(found) > MOST_SHOWN:
        shown.append(f"and {len(found) - MOST_SHOWN} more")
    return [f"{given_up} events that only Redis has would be given up", *shown] if given_up else shown


def _contradicted(engine: Engine) -> tuple[int, list[str]]:
    """How many events only Redis has, and what would change, where the gate is shut."""
    partition = engine.store.keys.partition
    seen = picture.take(engine.store, lambda epoch, after, upto: ())
    with engine.database.connect() as connection, answering():
        books = projection.live(connection, partition, list(seen.fold.records))
        _, selling = projection.selling(connection, partition)
        given_up = _only_in_redis(connection, engine)
    return given_up, _said(seen, books, selling)


def _differing(engine: Engine) -> list[str]:
    """What would change, where the shop may sell on meanwhile: the ledger as it will be when it has all that Redis shows."""
    partition = engine.store.keys.partition
    with engine.database.connect() as connection, answering():
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            epoch, seq = projection.reached(connection, partition)
            books = projection.live(connection, partition, [])
            _, books.selling = projection.selling(connection, partition)
        books.lookup = lambda name: ledger.record(connection, partition, name)
        seen = picture.take(engine.store, lambda epoch, after, upto: ())
        for entry in engine.store.entries(f"({epoch}-{seq}", seen.seq - seq) if seen.seq > seq else []:
            try:
                books.apply(event_of(entry.row()))
            except (KeyError, ValueError) as error:
                name = f"{entry.epoch}-{entry.seq}"
                raise LedgerBroken(
                    "ledger_unfoldable", f"Event {name} can't follow the ones before it: {error}"
                ) from error
        for name in seen.fold.records.keys() - books.records.keys():
            # Paid for, or over.
            books.records |= {name: record} if (record := ledger.record(connection, partition, name)) else {}
        return _said(seen, books, books.selling)


def _said(seen: Picture, books: Fold, selling: Hash) -> list[str]:
    return [*map(str, picture.differences(seen.fold, books)), *picture.lever_differences(seen.meta, selling)]


def _only_in_redis(connection: Connection, engine: Engine) -> int:
    """How many events of the stream Postgres doesn't have."""
    first, count = "-", 0
    while entries := engine.store.entries(first, PAGE):
        known = ledger.hashes(connection, engine.store.keys.partition, entries)
        count += sum(known.get(entry.seq) != (entry.epoch, entry.payload_hash) for entry in entries)
        first = f"({entries[-1].epoch}-{entries[-1].seq}"
    return count
