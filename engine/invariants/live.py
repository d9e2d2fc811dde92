"""What Redis must be by itself: the hashes in a picture of it, and its stream."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from engine.fold import Hash
from engine.invariants import Invariant, Violation
from engine.ledger import Entry
from engine.picture import Picture
from engine.states import State
from engine.store import Store
from engine.values import number, unpacked

CHUNK = 1_000
COUNTED = (State.RESERVED, State.COMMITTED, State.FULFILLED)
"""States of reservations whose units count for their buyer's limit."""


def check(store: Store, seen: Picture, reached: Callable[[], int] | None) -> Iterator[Violation]:
    """Everything. `reached` gives the seq of the last event in Postgres; None where there is no Postgres that one could ask."""
    yield from held(seen)
    yield from stream(_entries(store), seen.meta, store.meta, reached)


def held(seen: Picture) -> Iterator[Violation]:
    """What is off with the hashes and the deadlines."""
    for name in seen.torn:
        yield Violation(Invariant.HOLDS, f"the record of reservation {name} is torn")
    for misfit in seen.misfits:
        yield Violation(Invariant.FOLD, misfit)
    yield from _counters(seen)
    yield from _holds(seen)
    yield from _deadlines(seen)
    yield from _limits(seen)


def stream(
    entries: Iterable[Entry], meta: Hash, meta_now: Callable[[], Hash], reached: Callable[[], int] | None
) -> Iterator[Violation]:
    """The end of the ledger that Redis still has: dense, but where a restore has gone on from Postgres, and up to seq.

    `meta` was read before the entries; `meta_now` and `reached` are asked after them, when both can only be further.
    """
    if not meta:
        yield Violation(Invariant.DENSE_LOG, "there is no meta in Redis")
        return
    seq, epoch = number(meta.get("seq")), number(meta.get("epoch"))
    first = last = None
    for entry in entries:
        if last is None:
            first = entry
        else:
            yield from _joined(last, entry)
        last = entry
    if first is None or last is None:
        if seq:
            yield Violation(Invariant.DENSE_LOG, f"the stream is gone in Redis, but seq is {seq}")
        return
    if last.seq < seq:
        yield Violation(Invariant.DENSE_LOG, f"events {last.seq + 1} to {seq} are missing in Redis")
    now = meta_now()
    if last.seq > max(seq, number(now.get("seq"))):
        yield Violation(Invariant.DENSE_LOG, f"seq is {seq}, but the last event is {last.seq}")
    if not epoch <= last.epoch <= max(epoch, number(now.get("epoch"))):
        yield Violation(Invariant.FENCING, f"the epoch is {epoch}, but the last event is {last.epoch}-{last.seq}")
    if reached is not None:
        yield from _trimmed(first, reached())


def _entries(store: Store) -> Iterator[Entry]:
    first = "-"
    while entries := store.entries(first, CHUNK):
        yield from entries
        first = f"({entries[-1].epoch}-{entries[-1].seq}"


def _joined(last: Entry, entry: Entry) -> Iterator[Violation]:
    if entry.seq <= last.seq:
        yield Violation(
            Invariant.DENSE_LOG, f"event {entry.epoch}-{entry.seq} follows {last.epoch}-{last.seq} in Redis"
        )
    elif entry.seq != last.seq + 1 and entry.op != "open":
        text = f"events {last.seq + 1} to {entry.seq - 1} are missing in Redis"
        yield Violation(Invariant.DENSE_LOG, text, past=True)
    if entry.epoch != last.epoch and entry.op != "open":
        yield Violation(Invariant.FENCING, f"event {entry.epoch}-{entry.seq} begins an epoch in Redis, and is no open")


def _trimmed(first: Entry, reached: int) -> Iterator[Violation]:
    """The last event that Postgres has is there, so that the next can be joined to it; a Redis made anew begins with an open."""
    begun_anew = first.op == "open" and reached > 0
    if first.seq > max(reached, 1) + begun_anew:
        yield Violation(
            Invariant.TRIM,
            f"the stream in Redis begins with event {first.epoch}-{first.seq}, but Postgres has them only up to {reached}",
        )


def _counters(seen: Picture) -> Iterator[Violation]:
    for sku, fields in sorted(seen.fold.skus.items()):
        try:
            available, reserved, allocated, on_hand = (
                int(fields[name]) for name in ("available", "reserved", "allocated", "on_hand")
            )
        except (KeyError, ValueError):
            yield Violation(Invariant.RANGE, f"SKU {sku} lacks a counter or has one that is no number")
            continue
        if min(available, reserved, allocated, on_hand) < 0:
            yield Violation(Invariant.RANGE, f"SKU {sku} has a counter below 0")
        if on_hand != available + reserved + allocated:
            yield Violation(
                Invariant.CONSERVATION,
                f"SKU {sku} has on_hand {on_hand}, "
                f"but available {available} + reserved {reserved} + allocated {allocated}",
            )


def _holds(seen: Picture) -> Iterator[Violation]:
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
            for moved in ("cancelled", "fulfilled"):
                allocated.subtract({line.sku: line.quantity for line in unpacked(record.get(moved, ""))})
    for sku in sorted({*seen.fold.skus, *reserved, *allocated}):
        fields = seen.fold.skus.get(sku, {})
        if fields.get("reserved", "0") != str(reserved[sku]):
            text = f"SKU {sku} has reserved {fields.get('reserved')}, but live reservations hold {reserved[sku]}"
            yield Violation(Invariant.HOLDS, text)
        if fields.get("allocated", "0") != str(allocated[sku]):
            text = f"SKU {sku} has allocated {fields.get('allocated')}, but open orders have {allocated[sku]}"
            yield Violation(Invariant.ORDERS, text)
        bound = seen.next_release_ms.get(sku)
        if sku in earliest and bound is not None and not 0 < number(bound) <= earliest[sku]:
            text = f"SKU {sku} has next_release_ms later than a live reservation's deadline"
            yield Violation(Invariant.NEXT_RELEASE, text)


def _deadlines(seen: Picture) -> Iterator[Violation]:
    live = {name: record for name, record in seen.fold.records.items() if record.get("state") == State.RESERVED}
    for name in sorted(live.keys() - seen.deadlines.keys()):
        yield Violation(Invariant.DEADLINES, f"reservation {name} is live, but not in deadlines")
    for name in sorted(seen.deadlines.keys() - live.keys()):
        yield Violation(Invariant.DEADLINES, f"{name} is in deadlines, but no live reservation")
    for name in sorted(live.keys() & seen.deadlines.keys()):
        here, there = live[name].get("deadline_ms"), seen.deadlines[name]
        if here != str(there):
            yield Violation(Invariant.DEADLINES, f"reservation {name} has deadline_ms {here}, deadlines has {there}")


def _limits(seen: Picture) -> Iterator[Violation]:
    counted: Counter[tuple[str, str]] = Counter()
    for record in seen.fold.records.values():
        if record.get("state") not in COUNTED or "user" not in record:
            continue
        cancelled = {line.sku: line.quantity for line in unpacked(record.get("cancelled", ""))}
        for line in unpacked(record["lines"]):
            counted[line.sku, record["user"]] += line.quantity - cancelled.get(line.sku, 0)
    for sku, users in sorted(seen.fold.buyers.items()):
        for user, units in sorted(users.items()):
            if number(units) < 1:
                yield Violation(Invariant.RANGE, f"user {user} has {units} of SKU {sku} counted")
    for (sku, user), held_units in sorted(counted.items()):
        if number(seen.fold.buyers.get(sku, {}).get(user)) < held_units:
            text = f"user {user} holds and bought {held_units} of SKU {sku}, but fewer are counted"
            yield Violation(Invariant.LIMITS, text)
