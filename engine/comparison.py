"""Whether a Redis that came back holds what the ledger says, hash by hash. Looked at with the gate shut, before it sells.

Events that agree don't say that all is well: a file of appended commands has no checksums, so a byte that its disk has
changed is loaded as if it were right. A replica that takes over came by its data through a snapshot that has one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from redis.exceptions import ResponseError

from engine import ledger, picture, projection
from engine.database import Connection
from engine.errors import LedgerBroken
from engine.invariants import Invariant, live
from engine.store import Store

PAGE = 1_000

OVERLAP = 1_000
"""Latest events of the stream that are compared with Postgres, at most; the writer keeps at least as many."""
MOST_SHOWN = 3

OF_TIME = (Invariant.DEADLINES, Invariant.NEXT_RELEASE)
"""What the ledger doesn't say, and Redis by itself must have right."""


def differences(store: Store, connection: Connection, still_here: Callable[[], object]) -> list[str]:
    """The first few things that Redis has otherwise than the projections. Nobody may write either meanwhile.

    `still_here` is called now and then: it may take long.

    Raises:
        StoreUnavailable: Redis can't be reached.
    """
    try:
        return list(islice(_differences(store, connection, still_here), MOST_SHOWN))
    except LedgerBroken as broken:
        return [str(broken)]
    except (ResponseError, ValueError, KeyError) as error:
        return [f"it can't be read: {error}"]


def _differences(store: Store, connection: Connection, still_here: Callable[[], object]) -> Iterator[str]:
    partition = store.keys.partition
    ledger.compare(connection, partition, store.latest_entries("+", OVERLAP))
    seen = picture.take(store, lambda epoch, after, upto: (), live_only=True)
    yield from (f"record: reservation {name} is torn" for name in seen.torn)
    books = projection.live(connection, partition, list(seen.fold.records))
    yield from picture.differences(seen.fold, books, live_only=True)
    names = [key.removeprefix(store.keys.prefix.encode()).decode() for key in sorted(store.names())]
    skus = {name for kind, _, name in (name.partition(":") for name in names) if kind in ("sku", "buyers")}
    skus |= {name for kind, name in seen.fold.as_of if kind == "sku"}
    yield from (f"fold: SKU {name} is only half there" for name in sorted(skus - seen.fold.skus.keys()))
    yield from (str(violation) for violation in live.held(seen) if violation.invariant in OF_TIME)
    reservations = [name.removeprefix("rsv:") for name in names if name.startswith("rsv:")]
    yield from _records(store, connection, reservations, still_here)


def _records(store: Store, connection: Connection, names: list[str], still_here: Callable[[], object]) -> Iterator[str]:
    """Also orders and what has ended, as far as Redis has it. Page by page: a day's may be more than fit into memory twice."""
    for at in range(0, len(names), PAGE):
        page = names[at : at + PAGE]
        books = projection.records(connection, store.keys.partition, page)
        for record in store.records(page):
            if record.fields != books.get(record.id):
                yield f"fold: reservation {record.id} is not what the ledger says"
        still_here()
