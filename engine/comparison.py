"""Whether a Redis that came back holds what the ledger says, hash by hash. Looked at with the gate shut, before it sells.

Events that agree don't say that all is well: a file of appended commands has no checksums, so a byte that its disk has
changed is loaded as if it were right. A replica that takes over came by its data through a snapshot that has one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from redis.exceptions import ResponseError

from engine import ledger, projection
from engine.database import Connection
from engine.errors import LedgerBroken
from engine.invariants import Invariant
from engine.sku_names import shown
from engine.states import State
from engine.store import Store
from engine.values import number

PAGE = 1_000
BUYERS_PAGE = 20
"""Hashes of customers' counts may be large."""

OVERLAP = 1_000
"""Latest events of the stream that are compared with Postgres, at most; the writer keeps at least as many."""
MAX_SHOWN = 3


def differences(store: Store, connection: Connection, still_here: Callable[[], object]) -> list[str]:
    """The first few things that Redis has otherwise than the projections. Nobody may write either meanwhile.

    `still_here` is called now and then: it may take long.

    Raises:
        StoreUnavailable: Redis can't be reached.
    """
    try:
        return list(islice(_differences(store, connection, still_here), MAX_SHOWN))
    except LedgerBroken as broken:
        return [str(broken)]
    except (ResponseError, ValueError, KeyError) as error:
        return [f"it can't be read: {error}"]


def _differences(store: Store, connection: Connection, still_here: Callable[[], object]) -> Iterator[str]:
    ledger.compare(connection, store.keys.partition, store.latest_entries("+", OVERLAP))
    names: dict[str, list[str]] = {"sku": [], "buyers": [], "rsv": []}
    for key in sorted(store.names()):
        kind, _, name = key.removeprefix(store.keys.prefix.encode()).decode().partition(":")
        if kind in names:
            names[kind].append(name if kind == "rsv" else shown(name))
    next_release_ms: dict[str, str] = {}
    yield from _skus(store, connection, names, next_release_ms, still_here)
    yield from _reservations(store, connection, names["rsv"], next_release_ms, still_here)


def _skus(
    store: Store,
    connection: Connection,
    names: dict[str, list[str]],
    next_release_ms: dict[str, str],
    still_here: Callable[[], object],
) -> Iterator[str]:
    """Counters, attributes, limits' counts and the index. Fills `next_release_ms`, which the ledger doesn't have."""
    books = projection.skus(connection, store.keys.partition)
    for name in store.all_skus() ^ books.keys():
        yield f"fold: SKU {name} is only in the {'ledger' if name in books else 'index'}"
    for page in _pages(names["sku"], still_here, PAGE):
        for name, fields in zip(page, store.hashes(map(store.keys.sku, page)), strict=True):
            next_release_ms[name] = fields.pop("next_release_ms", "")
            if fields != books.pop(name, {}):
                yield f"fold: SKU {name} is not what the ledger says"
    yield from (f"fold: SKU {name} is only in the ledger" for name in books)
    counts = projection.buyers(connection, store.keys.partition)
    for page in _pages(names["buyers"], still_here, BUYERS_PAGE):
        for name, fields in zip(page, store.hashes(map(store.keys.buyers, page)), strict=True):
            if fields != counts.pop(name, {}):
                yield f"fold: the customers' counts of SKU {name} are not what the ledger says"
    yield from (f"fold: the customers' counts of SKU {name} are only in the ledger" for name in counts)


def _reservations(
    store: Store,
    connection: Connection,
    names: list[str],
    next_release_ms: dict[str, str],
    still_here: Callable[[], object],
) -> Iterator[str]:
    """Holds, and what has been paid or has ended, as far as Redis has it; deadlines. A day's reservations may be many."""
    deadlines, earliest_ms = store.deadlines(), dict[str, int]()
    for page in _pages(names, still_here, PAGE):
        books = projection.records(connection, store.keys.partition, page)
        for record in store.records(page):
            if record.fields != books.get(record.id):
                yield f"fold: reservation {record.id} is not what the ledger says"
            elif record.fields["state"] == State.RESERVED:
                deadline_ms = int(record.fields["deadline_ms"])
                if deadlines.pop(record.id, None) != deadline_ms:
                    yield f"{Invariant.DEADLINES}: the one of reservation {record.id} is not {deadline_ms}"
                for sku in record.skus:
                    earliest_ms[sku] = min(deadline_ms, earliest_ms.get(sku, deadline_ms))
    yield from (f"{Invariant.DEADLINES}: {name} is no live reservation" for name in deadlines)
    for name in projection.live_names(connection, store.keys.partition) - set(names):
        yield f"fold: reservation {name} is only in the ledger"
    for sku, first_ms in earliest_ms.items():
        if not 0 < number(next_release_ms.get(sku)) <= first_ms:
            yield f"{Invariant.NEXT_RELEASE}: SKU {sku} has next_release_ms later than a live reservation's deadline"


def _pages(names: list[str], still_here: Callable[[], object], size: int) -> Iterator[list[str]]:
    for at in range(0, len(names), size):
        still_here()
        yield names[at : at + size]
