"""The proof that the books are right: Redis and the ledger by themselves, and Redis against the fold of the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace

from engine import acknowledged, gaps, ledger, picture, projection, snapshots
from engine.acknowledged import Acknowledgement
from engine.catching_up import catching_up
from engine.database import Connection, Database, answering
from engine.errors import LedgerBroken
from engine.fold import Fold
from engine.invariants import Invariant, Violation, live
from engine.invariants.record import Record
from engine.ledger import Position
from engine.picture import Picture
from engine.snapshots import from_ledger
from engine.states import State
from engine.store import Store
from engine.values import Event


@dataclass(frozen=True)
class Report:
    """What was looked at, and what is off, each with the name of its invariant before it.

    `snapshot` is the newest one that was compared, '' if there is none. `acknowledged` are problems of the past that a person has
    acknowledged; they are not among the problems.
    """

    skus: int
    live: int
    orders: int
    events: int
    snapshot: str
    problems: tuple[str, ...]
    acknowledged: tuple[str, ...] = ()


def verify(store: Store, database: Database, retain_ms: int, by: Acknowledgement | None = None) -> Report:
    """Walk Redis while it works, judge and fold the ledger from its first event, and compare; also with the newest snapshot.

    With a role of Postgres that may only read it needs a keeper that writes what has happened last. `by` acknowledges what is wrong
    with the past, which nobody can change; what is wrong now stays a problem.

    Raises:
        StoreUnavailable: Redis or Postgres can't be reached, or no keeper writes.
    """
    partition = store.keys.partition
    with database.connect() as connection, answering(), closing(catching_up(connection, database, store)) as behind:

        def reached() -> int:
            return ledger.position(connection, partition).seq

        try:
            seen = picture.take(store, from_ledger(connection, partition, behind.ledger))
        except LedgerBroken as broken:
            seen = picture.take(store, lambda epoch, after, upto: ())
            return _report(seen, "", [_broken(broken), *live.check(store, seen, reached)], set())
        picture.refuse_half(seen)
        newest = snapshots.latest(connection, partition)
        found = [*live.check(store, seen, reached)]
        try:
            behind.projections(seen.epoch, seen.seq)
            # One by one: what was found before the ledger turns out to be broken is told, too.
            for violation in _recorded(connection, store, seen, newest, retain_ms):
                found.append(violation)
        except LedgerBroken as broken:
            found.append(_broken(broken))
        known = acknowledged.problems(connection, partition)
        past = {str(violation) for violation in found if violation.past}
        if by:
            for text in sorted(past - known):
                acknowledged.note(connection, partition, acknowledged.Kind.PROBLEM, text, by)
            known |= past
    return _report(seen, f"{newest[0]}-{newest[1]}" if newest else "", found, known)


def _report(seen: Picture, snapshot: str, found: list[Violation], known: set[str]) -> Report:
    states = Counter(record.get("state") for record in seen.fold.records.values())
    return Report(
        skus=len(seen.fold.skus),
        live=states[State.RESERVED],
        orders=states[State.COMMITTED],
        events=seen.seq,
        snapshot=snapshot,
        problems=tuple(str(violation) for violation in found if not (violation.past and str(violation) in known)),
        acknowledged=tuple(str(violation) for violation in found if violation.past and str(violation) in known),
    )


def _broken(broken: LedgerBroken) -> Violation:
    return Violation(Invariant.FOLD if broken.name == "ledger_unfoldable" else Invariant.DENSE_LOG, str(broken))


def _recorded(
    connection: Connection, store: Store, seen: Picture, newest: tuple[int, int, int] | None, retain_ms: int
) -> Iterator[Violation]:
    """The whole ledger, its hash chain checked, judged by itself and folded; the fold compared with the newest snapshot and Redis."""
    partition = store.keys.partition
    accepted = gaps.read(connection, partition)
    fold = Fold(lookup=lambda name: ledger.record(connection, partition, name), gaps=accepted)
    record = Record(retain_ms)
    begin, end = Position(), ledger.at(connection, partition, seen.epoch, seen.seq)
    for gap in gaps.unsettled(accepted):
        text = f"the gap after {gap.after_epoch}-{gap.after_seq} is not settled: run stockade repair"
        yield Violation(Invariant.DENSE_LOG, text)
    # Behind a gap nobody knows what was so until it is settled.
    if newest and newest[1] <= end.seq and not gaps.reach(accepted, newest[1]):
        begin = ledger.at(connection, partition, newest[0], newest[1])
        yield from _folded(ledger.events(connection, partition, Position(), begin), record, fold, retain_ms)
        held = snapshots.content(connection, partition, newest[0], newest[1])
        for difference in picture.differences(held, fold, live_only=True):
            yield Violation(Invariant.FOLD, f"snapshot {newest[0]}-{newest[1]}: {difference}")
    yield from _folded(ledger.events(connection, partition, begin, end), record, fold, retain_ms)
    yield from _compared(connection, store)
    for name in seen.fold.records.keys() - fold.records.keys():
        # Redis may keep the record of one that ended long ago, when somebody came back to it.
        fold.records |= {name: found} if (found := ledger.record(connection, partition, name)) else {}
    for difference in picture.differences(seen.fold, fold):
        yield Violation(Invariant.FOLD, str(difference))
    for text in picture.lever_differences(seen.meta, fold.selling):
        yield Violation(Invariant.FOLD, text)
    yield from _projected(connection, partition, fold, end)


def _folded(pages: Iterator[list[Event]], record: Record, fold: Fold, retain_ms: int) -> Iterator[Violation]:
    unjudged: Event | None = None
    for page in pages:
        for event in page:
            if event.op == "adopt" or gaps.reach(fold.gaps, event.seq):
                unjudged = event
            else:
                if unjudged:
                    record.go_on_from(fold, unjudged)
                    unjudged = None
                for violation in record.take(event):
                    yield replace(violation, past=True)
            try:
                fold.apply(event)
            except (KeyError, ValueError) as error:
                text = f"event {event.epoch}-{event.seq} ({event.op}) can't follow the ones before it: {error}"
                yield Violation(Invariant.FOLD, text, past=True)
        fold.forget(fold.clock_ms - retain_ms)


def _compared(connection: Connection, store: Store) -> Iterator[Violation]:
    """Every event that is still in the stream is the one that Postgres has."""
    first = "-"
    while entries := store.entries(first, live.CHUNK):
        try:
            ledger.compare(connection, store.keys.partition, entries)
        except LedgerBroken as broken:
            yield _broken(broken)
        first = f"({entries[-1].epoch}-{entries[-1].seq}"


def _projected(connection: Connection, partition: str, fold: Fold, at: Position) -> Iterator[Violation]:
    """What the projections, out of which Redis would be made anew, have otherwise than the fold."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        epoch, seq = projection.reached(connection, partition)
        for page in ledger.events(connection, partition, at, ledger.at(connection, partition, epoch, seq)):
            fold.apply_all(page)
        books = projection.live(connection, partition, [])
        _, selling = projection.selling(connection, partition)
    for difference in (
        *picture.differences(books, fold, live_only=True),
        *picture.lever_differences(selling, fold.selling),
    ):
        yield Violation(Invariant.FOLD, f"projection: {difference}")
