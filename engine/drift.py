"""Whether Redis holds what the ledger says while it sells: some SKUs and live holds a second, in turn, to the letter.

Exact without a pause: the projections are read as of one event, Redis as of a later one, and the events in between out of the
stream. What none of them is about must be equal to the letter; of a SKU that they are about, the counters must be those that
they lead to.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine import projection
from engine.database import Connection
from engine.fold import COUNTERS, MOVES, Hash
from engine.ledger import Entry, event_of
from engine.store import Store
from engine.values import number

PAGE = 500
"""SKUs, and live holds, that are looked at in a second."""

EVENTS = 5_000
"""Where more has happened between the two, nothing is compared."""

SKUS_AFTER = "SELECT sku FROM skus WHERE partition = %s AND sku > %s ORDER BY sku LIMIT %s"


class Drift:
    """Not for several threads at once. What was found to differ is looked at each time until it doesn't any more."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._skus_after = self._indexed_after = ""
        self._holds_from_ms = 0
        self._different: dict[str, str] = {}
        self._broken_holds: dict[str, str] = {}

    def look(self, connection: Connection) -> list[str]:
        """Compare the next ones. In a transaction of one moment.

        Returns: every difference that stands, those found earlier too.

        Raises:
            StoreUnavailable: Redis can't be reached.
        """
        epoch = self._open_epoch()
        if not epoch:
            # Being compared with the ledger or made anew from it.
            self._different, self._broken_holds = {}, {}
            return []
        partition = self._store.keys.partition
        at = projection.reached(connection, partition)
        rows = connection.execute(SKUS_AFTER, [partition, self._skus_after, PAGE]).fetchall()
        skus = [name for (name,) in rows]
        self._skus_after = skus[-1] if len(skus) == PAGE else ""
        indexed = self._store.sku_names(self._indexed_after, PAGE)
        self._indexed_after = indexed[-1] if len(indexed) == PAGE else ""
        skus = list(dict.fromkeys([*self._different, *skus, *indexed]))
        holds = list(dict.fromkeys([*self._broken_holds, *self._next_holds()]))
        books = dict(
            connection.execute(
                "SELECT sku, record FROM skus WHERE partition = %s AND sku = ANY(%s)", [partition, skus]
            ).fetchall()
        )
        records = projection.records(connection, partition, holds)
        keys = self._store.keys
        seq, hashes = self._store.hashes_as_of([*map(keys.sku, skus), *map(keys.reservation, holds)])
        found, held = dict(zip(skus, hashes, strict=False)), dict(zip(holds, hashes[len(skus) :], strict=True))
        since = self._store.entries(f"({at[0]}-{at[1]}" if at[1] else "-", EVENTS)
        if len(since) == EVENTS or self._open_epoch() != epoch:
            return self._told()
        moves, touched = _moves(since, seq)
        for sku in skus:
            book, now = books.get(sku, {}), found[sku]
            if sku in moves:
                book, now = _counters(book, moves[sku]), _counters(now)
            _note(self._different, sku, _difference(f"SKU {sku}", now, book))
        for name in holds:
            if name not in touched:
                _note(self._broken_holds, name, _difference(f"Reservation {name}", held[name], records.get(name, {})))
        return self._told()

    def _open_epoch(self) -> str:
        """The epoch in which Redis sells; '' while the gate is shut."""
        meta = self._store.meta()
        return meta.get("epoch", "") if meta.get("gate") == "open" else ""

    def _next_holds(self) -> list[str]:
        page = self._store.live_names(self._holds_from_ms, PAGE)
        if len(page) < PAGE:
            self._holds_from_ms = 0
        else:
            # Others may have the last one's deadline; if all have it, the next ones must come to their turn.
            self._holds_from_ms = page[-1][1] + (page[0][1] == page[-1][1])
        return [name for name, _ in page]

    def _told(self) -> list[str]:
        return [*self._different.values(), *self._broken_holds.values()]


def _note(known: dict[str, str], name: str, difference: str) -> None:
    known.pop(name, None)
    if difference:
        known[name] = difference


def _difference(what: str, found: Hash, book: Hash) -> str:
    found = {name: text for name, text in found.items() if name != "next_release_ms"}
    if found == book:
        return ""
    if not found or not book:
        return f"{what} is only in {'the ledger' if book else 'Redis'}"
    names: Sequence[str] = [
        name for name in (*COUNTERS, *sorted(found.keys() | book.keys())) if found.get(name) != book.get(name)
    ]
    name = names[0]
    return f"{what} has {name}={found.get(name, '')} in Redis, and {name}={book.get(name, '')} by the ledger"


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
