"""What a restore would change, for a person who has to decide."""

from __future__ import annotations

from engine import ledger, picture, projection
from engine.database import Connection, answering
from engine.engine import Engine
from engine.ledger import PAGE
from engine.recovery import Finding, Need, Recovery

MOST_SHOWN = 1_000


def changes(engine: Engine, recovery: Recovery, finding: Finding) -> list[str]:
    """Each counter, reservation, limit and lever that would become another one; before them, how many events would be given up."""
    if finding.need is Need.CERTIFY:
        return []
    recovery.projection.advance()
    seen = picture.take(engine.store, lambda epoch, after, upto: ())
    with engine.database.connect() as connection, answering():
        books = projection.live(connection, engine.store.keys.partition, list(seen.fold.records))
        _, selling = projection.selling(connection, engine.store.keys.partition)
        given_up = _only_in_redis(connection, engine)
    found = [change.removeprefix("fold: ") for change in picture.differences(seen.fold, books)]
    found += picture.lever_differences(seen.meta, selling)
    shown = found[:MOST_SHOWN]
    if len(found) > MOST_SHOWN:
        shown.append(f"and {len(found) - MOST_SHOWN} more")
    return [f"{given_up} events that only Redis has would be given up", *shown] if given_up else shown


def _only_in_redis(connection: Connection, engine: Engine) -> int:
    """How many events of the stream Postgres doesn't have."""
    first, count = "-", 0
    while entries := engine.store.entries(first, PAGE):
        known = ledger.hashes(connection, engine.store.keys.partition, entries)
        count += sum(known.get(entry.seq) != (entry.epoch, entry.payload_hash) for entry in entries)
        first = f"({entries[-1].epoch}-{entries[-1].seq}"
    return count
