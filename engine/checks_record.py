"""Checks of the service itself: is the gate open, does a keeper work, does Postgres follow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from engine import ledger
from engine.checks import Check, fine, to_do
from engine.database import Connection, answering
from engine.engine import Engine
from engine.overview import gate
from engine.readiness import record

MAX_LAG_S = 5.0
PAGE = 10_000


@dataclass(frozen=True)
class ServiceSeen:
    """How Redis stands. `keeper` is the name of the one that leads, '' if none does; `record` is `ok`, or what is wrong."""

    gate: str
    keeper: str
    record: str


@dataclass(frozen=True)
class RecordSeen:
    """How the record stands. `waiting` events aren't in Postgres yet, the oldest since `waited_s`.

    `unsnapped_s` is the age of the oldest event that is not in a snapshot; None if there is none.
    """

    waiting: int
    waited_s: float
    snapshot: str
    unsnapped_s: float | None
    snapshot_problems: int
    snapshot_seconds: int


def look(engine: Engine) -> ServiceSeen:
    """Raises: StoreUnavailable: Redis can't say."""
    glance = engine.watch.glance()
    return ServiceSeen(gate(glance.meta, glance.run_id), glance.keeper, record(glance))


def look_at_record(engine: Engine, connection: Connection) -> RecordSeen:
    """Raises: StoreUnavailable: Redis or Postgres can't say."""
    partition, store = engine.watch.keys.partition, engine.watch
    with answering():
        reached = ledger.position(connection, partition)
        newest = connection.execute(
            "SELECT epoch, seq, cardinality(problems) FROM snapshots WHERE partition = %s "
            "ORDER BY epoch DESC, seq DESC LIMIT 1",
            [partition],
        ).fetchone()
        first = connection.execute(
            "SELECT at_ms FROM ledger WHERE partition = %s AND (epoch, seq) > (%s, %s) ORDER BY epoch, seq LIMIT 1",
            [partition, *(newest[:2] if newest else (0, 0))],
        ).fetchone()
    waiting = store.entries(f"({reached.entry_id}" if reached.seq else "-", PAGE)
    now_ms = store.now_ms()
    oldest = (waiting[0].fields[1] or "") if waiting else ""
    return RecordSeen(
        waiting=len(waiting),
        waited_s=(now_ms - int(oldest)) / 1000 if oldest.isdigit() else 0.0,
        snapshot=f"{newest[0]}-{newest[1]}" if newest else "",
        unsnapped_s=max(0.0, (now_ms - first[0]) / 1000) if first else None,
        snapshot_problems=newest[2] if newest else 0,
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
    if seen.record == "ok":
        yield fine("record", "whole, as far as the keeper has checked it")
    else:
        yield to_do("record", f"{seen.record}: see The record is damaged in docs/RUNBOOK.md")


def checks_of_record(seen: RecordSeen) -> Iterator[Check]:
    many = f"{seen.waiting}{'+' if seen.waiting == PAGE else ''} events wait"
    if seen.waited_s > MAX_LAG_S:
        yield to_do("ledger", f"{many} for Postgres, the oldest for {seen.waited_s:.0f} s: see the log of the keeper")
    else:
        yield fine("ledger", f"{many} for Postgres")
    yield _snapshot(seen)


def _snapshot(seen: RecordSeen) -> Check:
    newest = f"the newest is {seen.snapshot}" if seen.snapshot else "there is none"
    if seen.snapshot_problems:
        return to_do("snapshot", f"{seen.snapshot} has {seen.snapshot_problems} problems: run stockade verify")
    if seen.unsnapped_s is None:
        return fine(
            "snapshot", f"{seen.snapshot} has every event" if seen.snapshot else "none yet, as nothing has happened"
        )
    if seen.unsnapped_s > 2 * seen.snapshot_seconds + 60:
        late = f"events have waited for {seen.unsnapped_s:.0f} s, one is due every {seen.snapshot_seconds} s"
        return to_do("snapshot", f"{newest}; {late}: see the log of the keeper")
    return fine("snapshot", seen.snapshot or "none yet")
