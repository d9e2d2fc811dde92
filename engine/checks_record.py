"""Checks of the service itself: is the gate open, does a keeper work, does Postgres follow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from engine import ledger
from engine.checks import Check, fine, to_do
from engine.database import Connection, answering
from engine.engine import Engine
from engine.store import answering as redis_answering

MOST_LAG_S = 5.0
PAGE = 10_000


@dataclass(frozen=True)
class ServiceSeen:
    """How Redis stands. `keeper` is the name of the one that leads, '' if none does."""

    gate: str
    keeper: str


@dataclass(frozen=True)
class RecordSeen:
    """How the record stands. `waiting` events aren't in Postgres yet, the oldest since `waited_s`.

    `snapshot_age_s` is that of the newest one; where there is none, that of the first event, and None if there is no event.
    """

    waiting: int
    waited_s: float
    snapshot: str
    snapshot_age_s: float | None
    snapshot_problems: int
    snapshot_seconds: int


def look(engine: Engine) -> ServiceSeen:
    """Raises: StoreUnavailable: Redis can't say."""
    with redis_answering():
        keeper = engine.watch.redis.get(engine.watch.keys.keeper)
    return ServiceSeen(engine.gate(), str(keeper or ""))


def look_at_record(engine: Engine, connection: Connection) -> RecordSeen:
    """Raises: StoreUnavailable: Redis or Postgres can't say."""
    partition, store = engine.watch.keys.partition, engine.watch
    with answering():
        reached = ledger.position(connection, partition)
        newest = connection.execute(
            "SELECT epoch, seq, taken_ms, cardinality(problems) FROM snapshots WHERE partition = %s "
            "ORDER BY epoch DESC, seq DESC LIMIT 1",
            [partition],
        ).fetchone()
        first = connection.execute(
            "SELECT at_ms FROM ledger WHERE partition = %s ORDER BY epoch, seq LIMIT 1", [partition]
        ).fetchone()
    waiting = store.entries(f"({reached.entry_id}" if reached.seq else "-", PAGE)
    now_ms = store.now_ms()
    oldest = (waiting[0].fields[1] or "") if waiting else ""
    since_ms = newest[2] if newest else first[0] if first else None
    return RecordSeen(
        waiting=len(waiting),
        waited_s=(now_ms - int(oldest)) / 1000 if oldest.isdigit() else 0.0,
        snapshot=f"{newest[0]}-{newest[1]}" if newest else "",
        snapshot_age_s=None if since_ms is None else max(0.0, (now_ms - since_ms) / 1000),
        snapshot_problems=newest[3] if newest else 0,
        snapshot_seconds=engine.settings.snapshot_seconds,
    )


def checks(seen: ServiceSeen) -> Iterator[Check]:
    if seen.gate == "open":
        yield fine("gate", "open")
    else:
        yield to_do("gate", f"{seen.gate}: if no keeper opens it in a minute, see stockade restore --dry-run")
    if seen.keeper:
        yield fine("keeper", f"{seen.keeper} leads")
    else:
        yield to_do("keeper", "none leads: start stockade keeper")


def checks_of_record(seen: RecordSeen) -> Iterator[Check]:
    many = f"{seen.waiting}{'+' if seen.waiting == PAGE else ''} events wait"
    if seen.waited_s > MOST_LAG_S:
        yield to_do("ledger", f"{many} for Postgres, the oldest for {seen.waited_s:.0f} s: see the log of the keeper")
    else:
        yield fine("ledger", f"{many} for Postgres")
    yield _snapshot(seen)


def _snapshot(seen: RecordSeen) -> Check:
    if seen.snapshot_age_s is None:
        return fine("snapshot", "none yet, as nothing has happened")
    age = f"{seen.snapshot_age_s:.0f} s old"
    if seen.snapshot_problems:
        return to_do("snapshot", f"{seen.snapshot} has {seen.snapshot_problems} problems: run stockade verify")
    if seen.snapshot_age_s > 2 * seen.snapshot_seconds + 60:
        newest = f"the newest is {age}" if seen.snapshot else "there is none"
        return to_do("snapshot", f"{newest}, one is due every {seen.snapshot_seconds} s: see the log of the keeper")
    return fine("snapshot", f"{seen.snapshot}, {age}" if seen.snapshot else "none yet")
