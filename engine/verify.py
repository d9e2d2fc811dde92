"""The proof that the books are right: Redis against itself, and against the fold of the ledger in Postgres."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from engine import ledger, picture, projection, snapshots
from engine.database import Connection, Database, answering
from engine.errors import LedgerBroken
from engine.fold import Fold
from engine.ledger import Position
from engine.picture import Picture
from engine.projection import Projection
from engine.snapshots import from_ledger
from engine.states import State
from engine.store import Store
from engine.values import number, unpacked
from engine.writer import Writer

CHUNK = 1_000


@dataclass(frozen=True)
class Report:
    """What was looked at, and what is off, by name. `snapshot` is the newest one that was compared, '' if there is none."""

    skus: int
    live: int
    orders: int
    events: int
    snapshot: str
    problems: tuple[str, ...]


def verify(store: Store, database: Database, retain_ms: int) -> Report:
    """Walk Redis while it works, fold the ledger from its first event, and compare; also with the newest snapshot.

    Raises:
        StoreUnavailable: Redis or Postgres can't be reached.
    """
    writer = Writer(database, store)
    partition = store.keys.partition
    with database.connect() as connection, answering():
        try:
            seen = picture.take(store, from_ledger(connection, partition, writer))
        except LedgerBroken as broken:
            seen = picture.take(store, lambda epoch, after, upto: ())
            return _report(seen, "", [str(broken), *walk(store, seen)])
        finally:
            writer.close()
        picture.refuse_half(seen)
        newest = snapshots.latest(connection, partition)
        follower = Projection(database, partition)
        try:
            follower.advance()
            problems = [*walk(store, seen), *_folded(connection, store, seen, newest, retain_ms)]
        except LedgerBroken as broken:
            problems = [str(broken), *walk(store, seen)]
        finally:
            follower.close()
    return _report(seen, f"{newest[0]}-{newest[1]}" if newest else "", problems)


def walk(store: Store, seen: Picture) -> Iterator[str]:
    """What is off with what Redis holds, looked at by itself."""
    yield from (f"record: reservation {name} is torn" for name in seen.torn)
    yield from (f"fold: {misfit}" for misfit in seen.misfits)
    yield from _conservation(seen)
    yield from _holds(seen)
    yield from _deadlines(seen)
    yield from _limits(seen)
    yield from _stream(store, seen)


def _report(seen: Picture, snapshot: str, problems: list[str]) -> Report:
    states = Counter(record.get("state") for record in seen.fold.records.values())
    return Report(
        skus=len(seen.fold.skus),
        live=states[State.RESERVED],
        orders=states[State.COMMITTED],
        events=seen.seq,
        snapshot=snapshot,
        problems=tuple(problems),
    )


def _folded(
    connection: Connection, store: Store, seen: Picture, newest: tuple[int, int, int] | None, retain_ms: int
) -> Iterator[str]:
    """The fold of the whole ledger, its hash chain checked, compared with the newest snapshot and with Redis."""
    partition = store.keys.partition
    fold = Fold(lookup=lambda name: ledger.record(connection, partition, name))
    begin, end = Position(), ledger.at(connection, partition, seen.epoch, seen.seq)
    if newest and newest[1] <= end.seq:
        begin = ledger.at(connection, partition, newest[0], newest[1])
        yield from _fold(connection, partition, fold, Position(), begin, retain_ms)
        held = snapshots.content(connection, partition, newest[0], newest[1])
        for difference in picture.differences(held, fold, live_only=True):
            yield f"snapshot {newest[0]}-{newest[1]}: {difference}"
    yield from _fold(connection, partition, fold, begin, end, retain_ms)
    yield from _compared(connection, store)
    for name in seen.fold.records.keys() - fold.records.keys():
        # Redis may keep the record of one that ended long ago, when somebody came back to it.
        fold.records |= {name: record} if (record := ledger.record(connection, partition, name)) else {}
    yield from picture.differences(seen.fold, fold)
    yield from picture.lever_differences(seen.meta, fold.selling)
    yield from _projected(connection, partition, fold, end)


def _projected(connection: Connection, partition: str, fold: Fold, at: Position) -> Iterator[str]:
    """What the projections, out of which Redis would be made anew, have otherwise than the fold."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        epoch, seq = projection.reached(connection, partition)
        for page in ledger.events(connection, partition, at, ledger.at(connection, partition, epoch, seq)):
            fold.apply_all(page)
        books = projection.live(connection, partition, [])
        _, selling = projection.selling(connection, partition)
    for difference in picture.differences(books, fold, live_only=True):
        yield f"projection: {difference.replace('fold: ', '', 1)}"
    for difference in picture.lever_differences(selling, fold.selling):
        yield f"projection: {difference.replace('levers: ', '', 1)}"


def _compared(connection: Connection, store: Store) -> Iterator[str]:
    """Every event that is still in the stream is the one that Postgres has."""
    first = "-"
    while entries := store.entries(first, CHUNK):
        try:
            ledger.compare(connection, store.keys.partition, entries)
        except LedgerBroken as broken:
            yield str(broken)
        first = f"({entries[-1].epoch}-{entries[-1].seq}"


def _fold(
    connection: Connection, partition: str, fold: Fold, begin: Position, end: Position, retain_ms: int
) -> Iterator[str]:
    for page in ledger.events(connection, partition, begin, end):
        for event in page:
            try:
                fold.apply(event)
            except (KeyError, ValueError) as error:
                yield f"fold: event {event.epoch}-{event.seq} ({event.op}) can't follow the ones before it: {error}"
        fold.forget(fold.clock_ms - retain_ms)


def _conservation(seen: Picture) -> Iterator[str]:
    for sku, fields in sorted(seen.fold.skus.items()):
        try:
            available, reserved, allocated, on_hand = (
                int(fields[name]) for name in ("available", "reserved", "allocated", "on_hand")
            )
        except (KeyError, ValueError):
            yield f"counters: SKU {sku} lacks a counter or has one that is no number"
            continue
        if min(available, reserved, allocated, on_hand) < 0:
            yield f"range: SKU {sku} has a counter below 0"
        if on_hand != available + reserved + allocated:
            yield (
                f"conservation: SKU {sku} has on_hand {on_hand}, "
                f"but available {available} + reserved {reserved} + allocated {allocated}"
            )


def _holds(seen: Picture) -> Iterator[str]:
    reserved: Counter[str] = Counter()
    allocated: Counter[str] = Counter()
    earliest: dict[str, int] = {}
    for record in seen.fold.records.values():
        lines = unpacked(record.get("lines", ""))
        if record.get("state") == State.RESERVED:
            for line in lines:
                reserved[line.sku] += line.quantity
                earliest[line.sku] = min(earliest.get(line.sku, 2**63), int(record["deadline_ms"]))
        if record.get("state") == State.COMMITTED:
            allocated.update({line.sku: line.quantity for line in lines})
            allocated.subtract({line.sku: line.quantity for line in unpacked(record.get("cancelled", ""))})
    for sku in sorted({*seen.fold.skus, *reserved, *allocated}):
        fields = seen.fold.skus.get(sku, {})
        if fields.get("reserved", "0") != str(reserved[sku]):
            yield f"holds: SKU {sku} has reserved {fields.get('reserved')}, but live reservations hold {reserved[sku]}"
        if fields.get("allocated", "0") != str(allocated[sku]):
            yield f"orders: SKU {sku} has allocated {fields.get('allocated')}, but open orders have {allocated[sku]}"
        bound = seen.next_release_ms.get(sku)
        if sku in earliest and bound is not None and not 0 < number(bound) <= earliest[sku]:
            yield f"next_release: SKU {sku} has next_release_ms later than a live reservation's deadline"


def _deadlines(seen: Picture) -> Iterator[str]:
    live = {name: record for name, record in seen.fold.records.items() if record.get("state") == State.RESERVED}
    for name in sorted(live.keys() - seen.deadlines.keys()):
        yield f"deadlines: reservation {name} is live, but not in deadlines"
    for name in sorted(seen.deadlines.keys() - live.keys()):
        yield f"deadlines: {name} is in deadlines, but no live reservation"
    for name in sorted(live.keys() & seen.deadlines.keys()):
        if live[name].get("deadline_ms") != str(seen.deadlines[name]):
            yield f"deadlines: reservation {name} has deadline_ms {live[name].get('deadline_ms')}, deadlines has {seen.deadlines[name]}"


def _limits(seen: Picture) -> Iterator[str]:
    counted: Counter[tuple[str, str]] = Counter()
    for record in seen.fold.records.values():
        if record.get("state") not in (State.RESERVED, State.COMMITTED):
            continue
        cancelled = {line.sku: line.quantity for line in unpacked(record.get("cancelled", ""))}
        skus = record.get("counted", "").split()
        for line in unpacked(record["lines"]):
            if line.sku in skus:
                counted[line.sku, record["user"]] += line.quantity - cancelled.get(line.sku, 0)
    for (sku, user), units in sorted(counted.items()):
        if number(seen.fold.buyers.get(sku, {}).get(user)) < units:
            yield f"limits: user {user} holds and bought {units} of SKU {sku}, but fewer are counted"


def _stream(store: Store, seen: Picture) -> Iterator[str]:
    """The end of the ledger that Redis still has: dense, but where a restore has gone on from Postgres, and up to seq."""
    if not seen.meta:
        yield "meta: there is none"
        return
    seq = number(seen.meta.get("seq"))
    expected, first = 0, "-"
    while entries := store.entries(first, CHUNK):
        for entry in entries:
            if expected and entry.seq != expected and entry.op != "open":
                yield f"ledger: events {expected} to {entry.seq - 1} are missing in Redis"
            expected = entry.seq + 1
        first = f"({entries[-1].epoch}-{entries[-1].seq}"
    if expected and expected <= seq:
        yield f"ledger: events {expected} to {seq} are missing in Redis"
    if not expected and seq:
        yield f"ledger: it is gone in Redis, but seq is {seq}"
    # The stream may have grown since the picture was taken, seq in meta may not be behind it.
    if expected - 1 > seq and expected - 1 > number(store.meta().get("seq")):
        yield f"ledger: seq is {seq}, but the last event is {expected - 1}"
