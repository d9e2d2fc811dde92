"""Whether Redis holds what the ledger says while it sells: some SKUs and live holds a second, in turn, to the letter.

Exact without a pause: the projections are read as of one event, Redis as of a later one, and the events in between out of the
stream. What none of them is about must be equal to the letter; of a SKU that they are about, the counters must be those that
they lead to.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from engine import projection
from engine.database import Connection
from engine.fold import COUNTERS, MOVES, Hash
from engine.ledger import Entry, event_of
from engine.states import State
from engine.store import Store
from engine.values import number

PAGE = 500
"""SKUs, and live holds, that are looked at in a second."""

EVENTS = 5_000
"""Where more has happened between the two, nothing is compared."""

SKUS_AFTER = "SELECT sku FROM skus WHERE partition = %s AND sku > %s ORDER BY sku LIMIT %s"
HOLDS_AFTER = """
    SELECT id FROM reservations WHERE partition = %s AND state = 'reserved' AND ended_ms IS NULL AND id > %s
    ORDER BY id LIMIT %s
"""
BOOKS = "SELECT sku, record FROM skus WHERE partition = %s AND sku = ANY(%s)"
RECORDS = "SELECT id, record, ended_ms FROM reservations WHERE partition = %s AND id = ANY(%s)"


class Drift:
    """Not for several threads at once. What was found to differ is looked at each time until it doesn't any more."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._skus_after = self._indexed_after = self._holds_after = ""
        self._holds_from_ms = 0
        self._different: dict[str, str] = {}
        self._broken_holds: dict[str, str] = {}

    def look(self, connection: Connection) -> list[str]:
        """Compare the next ones. In a transaction of one moment.

        Returns: every difference that stands, those found earlier too.

        Raises:
            StoreUnavailable: Redis can't be reached.
        """
        epoch, keys = self._open_epoch(), self._store.keys
        if not epoch:
            # Being compared with the ledger or made anew from it.
            self._different, self._broken_holds = {}, {}
            return []
        at_epoch, at = projection.reached(connection, keys.partition)
        skus, holds = self._next_skus(connection), self._next_holds(connection)
        books = dict(connection.execute(BOOKS, [keys.partition, skus]).fetchall())
        rows = connection.execute(RECORDS, [keys.partition, holds]).fetchall()
        records = {name: (record, ended_ms) for name, record, ended_ms in rows}
        seq, found, deadlines = self._store.hashes_as_of([*map(keys.sku, skus), *map(keys.reservation, holds)], holds)
        since = self._store.entries(f"({at_epoch}-{at}" if at else "-", EVENTS)
        whole = since[0].seq == at + 1 if since else seq <= at
        if not whole or len(since) == EVENTS or self._open_epoch() != epoch:
            return self._told()
        moves, touched = _moves(since, seq)
        for sku, fields in zip(skus, found, strict=False):
            book, now = books.get(sku, {}), fields
            if sku in moves and now is not None:
                book, now = _counters(book, moves[sku]), _counters(now)
            _note(self._different, sku, _difference(f"SKU {sku}", now, book) or _oversold(sku, fields))
        for name, fields, deadline_ms in zip(holds, found[len(skus) :], deadlines, strict=True):
            if name not in touched:
                record, ended_ms = records.get(name, ({}, None))
                _note(self._broken_holds, name, _of_hold(name, fields, record, ended_ms, deadline_ms))
        return self._told()

    def _open_epoch(self) -> str:
        """The epoch in which Redis sells; '' while the gate is shut."""
        meta = self._store.meta()
        return meta.get("epoch", "") if meta.get("gate") == "open" else ""

    def _next_skus(self, connection: Connection) -> list[str]:
        """Those that differed, and a page of each, what the ledger knows and what Redis's index has."""
        rows = connection.execute(SKUS_AFTER, [self._store.keys.partition, self._skus_after, PAGE]).fetchall()
        known = [name for (name,) in rows]
        self._skus_after = known[-1] if len(known) == PAGE else ""
        indexed = self._store.sku_names(self._indexed_after, PAGE)
        self._indexed_after = indexed[-1] if len(indexed) == PAGE else ""
        return list(dict.fromkeys([*islice(self._different, PAGE), *known, *indexed]))

    def _next_holds(self, connection: Connection) -> list[str]:
        """Those that differed, a page of those with a deadline in Redis, and once in a round a page of those that the ledger knows."""
        page, known = self._store.live_names(self._holds_from_ms, PAGE), list[str]()
        if len(page) < PAGE:
            self._holds_from_ms = 0
            rows = connection.execute(HOLDS_AFTER, [self._store.keys.partition, self._holds_after, PAGE]).fetchall()
            known = [name for (name,) in rows]
            self._holds_after = known[-1] if len(known) == PAGE else ""
        else:
            # Others may have the last one's deadline; if all have it, the next ones must come to their turn.
            self._holds_from_ms = page[-1][1] + (page[0][1] == page[-1][1])
        return list(dict.fromkeys([*islice(self._broken_holds, PAGE), *(name for name, _ in page), *known]))

    def _told(self) -> list[str]:
        return [*self._different.values(), *self._broken_holds.values()]


def _note(known: dict[str, str], name: str, difference: str) -> None:
    known.pop(name, None)
    if difference:
        known[name] = difference


def _of_hold(name: str, found: Hash | None, book: Hash, ended_ms: int | None, deadline_ms: int) -> str:
    """What differs. Neither users nor carts are told: the text goes to everybody who looks whether the service is ready."""
    if found == {} and ended_ms is not None:
        # Redis lets go of what has ended.
        return ""
    if found and book and found != book:
        wrong = sorted(field for field in found.keys() | book.keys() if found.get(field) != book.get(field))
        return f"Reservation {name} has another {wrong[0].partition(':')[0]} in Redis than by the ledger"
    if found and found["state"] == State.RESERVED and str(deadline_ms) != found["deadline_ms"]:
        return f"Reservation {name} is live, and its deadline is not in the set of deadlines"
    return _difference(f"Reservation {name}", found, book)


def _difference(what: str, found: Hash | None, book: Hash) -> str:
    if found is None:
        return f"{what} can't be read in Redis"
    found = {name: text for name, text in found.items() if name != "next_release_ms"}
    if found == book:
        return ""
    if not found or not book:
        return f"{what} is only in {'the ledger' if book else 'Redis'}"
    fields = (*COUNTERS, *sorted(found.keys() | book.keys()))
    name = next(field for field in fields if found.get(field) != book.get(field))
    return f"{what} has {name}={found.get(name, '')} in Redis, and {name}={book.get(name, '')} by the ledger"


def _oversold(sku: str, found: Hash | None) -> str:
    """Redis and the ledger may agree, because somebody raised a counter once, and more is claimed than there is."""
    low = [name for name in COUNTERS if (found or {}).get(name, "").startswith("-")]
    return f"SKU {sku} has {low[0]}={(found or {})[low[0]]}: more is promised than there is" if low else ""


def _moves(entries: Sequence[Entry], seq: int) -> tuple[dict[str, list[int]], set[str]]:
    """What the events up to `seq` do to the counters of the SKUs that they name; and the reservations that any event is about."""
    moves: dict[str, list[int]] = {}
    for entry in entries:
        if entry.seq > seq:
            break
        try:
            event = event_of(entry.row())
        except ValueError:
            # None of ours: the ledger's writer tells of it.
            continue
        effect = "commit late" if event.op == "commit" and event.detail == "late" else event.op
        for line in event.lines:
            sums = moves.setdefault(line.sku, [0] * len(COUNTERS))
            for at, step in enumerate(MOVES.get(effect, ())):
                sums[at] += step * line.quantity
    return moves, {entry.fields[4] or "" for entry in entries}


def _counters(fields: Hash, moves: Sequence[int] = ()) -> Hash:
    """The counters alone, moved by that much. A SKU that isn't there yet has 0 of each."""
    moves = moves or [0] * len(COUNTERS)
    return {name: str(number(fields.get(name)) + move) for name, move in zip(COUNTERS, moves, strict=True)}
