"""What a restore would find and change, for a person who has to decide. Shops may sell on meanwhile: both sides are brought to one event."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from engine import gaps, ledger, picture, projection
from engine.database import Connection, answering
from engine.engine import Engine
from engine.errors import LedgerBroken
from engine.fold import LEVERS, Fold
from engine.invariants import Invariant, live
from engine.ledger import PAGE
from engine.picture import Picture
from engine.recovery import NOTHING_IN_LEDGER, Finding, Need, Recovery
from engine.store import Store
from engine.values import Event

MAX_SHOWN = 1_000
CARRIED_OVER = (Need.CERTIFY, Need.UPGRADE)
"""Here Redis continues the ledger: what only Redis has is written before anything else is done."""

ALL = "all of this would change"
INDEXES_ONLY = (
    "no counter, reservation, limit or lever would change; deadlines, leases and the stream would be made anew"
)


def found(engine: Engine, recovery: Recovery) -> Finding:
    """Compare as a restore does, and go over the events that the ledger lacks: one that can't follow is a fork, too."""
    while True:
        finding = recovery.compare()
        if finding.need not in CARRIED_OVER:
            return finding
        try:
            recovery.writer.rehearse(finding.ledger, finding.redis.seq)
            return finding
        except LedgerBroken as broken:
            with engine.database.connect() as connection, answering():
                if ledger.position(connection, engine.store.keys.partition) == finding.ledger:
                    return replace(finding, need=Need.DECISION, why=str(broken), broken=broken.name)
            # The events were written meanwhile, and the stream may have been trimmed.


def changes(engine: Engine, recovery: Recovery, finding: Finding) -> list[str]:
    """Each thing that Redis has otherwise than it would have made anew from the ledger; before them, how many events would be given up.

    Where Redis continues the ledger, what only Redis has counts as carried over.

    Raises:
        LedgerBroken: the ledger can't be folded.
        StoreUnavailable: Redis or Postgres can't be reached, or Redis was restored meanwhile.
    """
    with engine.database.connect() as connection, answering():
        if finding.need in CARRIED_OVER:
            return _differing(engine.store, connection, recovery)
        seen = _seen(engine.store, picture.from_stream(engine.store))
        _follow(recovery)
        books = _books(connection, engine.store.keys.partition, seen)
        given_up = _only_in_redis(connection, engine.store)
        lines = [f"{given_up} events that only Redis has would be given up"] if given_up else []
        return lines + _said(engine.store, seen, books)


def outcome(engine: Engine, finding: Finding, changes: list[str], *, force: bool, is_open: bool) -> str:
    """What a restore would do with what was found. `is_open`: this server is certified."""
    made_anew = ALL if changes else INDEXES_ONLY
    if force:
        return made_anew if finding.ledger.seq else f"refused: {NOTHING_IN_LEDGER}"
    if finding.need is Need.DECISION:
        by_force = (
            f"with --force {made_anew}" if finding.ledger.seq else "--force would be refused: the ledger is empty"
        )
        return f"the gate {'would be shut' if is_open else 'stays shut'}; {by_force}"
    if finding.need is not Need.CERTIFY:
        return made_anew
    opens = "" if is_open else ", but the gate would open"
    if not changes:
        return f"nothing would change{opens}"
    if is_open or engine.store.replicated(engine.store.meta().get("run_id", "")):
        return f"nothing would change without --force{opens}; with it {ALL}"
    return ALL


def shown(changes: list[str]) -> list[str]:
    """The first of them, and how many more there are."""
    more = len(changes) - MAX_SHOWN
    return [*changes[:MAX_SHOWN], *([f"and {more} more"] if more > 0 else [])]


def summed_up(changes: list[str]) -> str:
    """The first of them and how many more there are, in one line."""
    return changes[0] + (f", and {len(changes) - 1} more" if len(changes) > 1 else "")


def _differing(store: Store, connection: Connection, recovery: Recovery) -> list[str]:
    """The differences where Redis continues the ledger: whichever was read as of an earlier event is brought on to the other."""
    partition = store.keys.partition
    seen = _seen(store, lambda epoch, after, upto: _between(store, connection, epoch, after, upto))
    _follow(recovery)
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        # It locks nothing, and a million holds take their time to compare.
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        epoch, seq = projection.reached(connection, partition)
        picture.advance(seen, _between(store, connection, seen.epoch, seen.seq, seq))
        books = _books(connection, partition, seen)
        books.lookup = lambda name: ledger.record(connection, partition, name)
        for event in _between(store, connection, epoch, seq, seen.seq):
            try:
                books.apply(event)
            except (KeyError, ValueError) as error:
                name = f"{event.epoch}-{event.seq}"
                raise _refused("ledger_unfoldable", f"Event {name} can't follow the ones before it: {error}") from None
    return _said(store, seen, books)


def _seen(store: Store, events: picture.Events) -> Picture:
    seen = picture.take(store, events)
    seen.fold.selling = {name: seen.meta[name] for name in LEVERS if name in seen.meta}
    return seen


def _between(store: Store, connection: Connection, epoch: int, after: int, upto: int) -> Iterator[Event]:
    """The events after one up to another: out of the ledger as far as it goes, the rest out of the stream, which is trimmed behind it."""
    partition = store.keys.partition
    written = ledger.position(connection, partition)
    if after < min(written.seq, upto):
        for page in ledger.events(connection, partition, ledger.at(connection, partition, epoch, after), written):
            for event in page:
                if event.seq > upto:
                    return
                yield event
        epoch, after = written.epoch, written.seq
    yield from picture.from_stream(store)(epoch, after, upto)


def _books(connection: Connection, partition: str, seen: Picture) -> Fold:
    """What the projections have of all that Redis must hold, and of what it holds."""
    books = projection.live(connection, partition, list(seen.fold.records), orders=True)
    _, books.selling = projection.selling(connection, partition)
    books.gaps = gaps.read(connection, partition)
    return books


def _follow(recovery: Recovery) -> None:
    """Let the projections have the whole ledger, as a restore does first."""
    try:
        recovery.projection.advance()
    except LedgerBroken as broken:
        raise _refused(broken.name, str(broken).removeprefix(f"{broken.name}: ")) from None


def _refused(name: str, detail: str) -> LedgerBroken:
    return LedgerBroken(name, f"{detail}; a restore is refused, with --force too")


def _said(store: Store, seen: Picture, books: Fold) -> list[str]:
    indexed = store.all_skus()
    return [
        *seen.misfits,
        *(f"reservation {name} can't be read in Redis" for name in seen.torn),
        *map(str, picture.differences(seen.fold, books)),
        *picture.lever_differences(seen.fold.selling, books.selling),
        *picture.deadline_differences(seen, books),
        *(f"SKU {sku} is not in the index" for sku in sorted(seen.fold.skus.keys() - indexed)),
        *(str(each) for each in live.held(seen) if each.invariant is Invariant.NEXT_RELEASE),
    ]


def _only_in_redis(connection: Connection, store: Store) -> int:
    """How many events of the stream Postgres doesn't have."""
    first, count = "-", 0
    while entries := store.entries(first, PAGE):
        known = ledger.hashes(connection, store.keys.partition, entries)
        count += sum(known.get(entry.seq) != (entry.epoch, entry.payload_hash) for entry in entries)
        first = f"({entries[-1].epoch}-{entries[-1].seq}"
    return count
