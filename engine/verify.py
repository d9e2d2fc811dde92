"""The proof that the books are right: every counter compared with every reservation, and the ledger's seq without a gap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from engine.keys import Keys
from engine.states import State
from engine.store import Store, answering
from engine.values import unpacked

CHUNK = 500
ATTEMPTS = 5
LONGEST_PAUSE_MS = 10_000


@dataclass(frozen=True)
class Report:
    """What was looked at, and what is off, by name. `still`: nothing changed during the walk, so the answer holds."""

    skus: int
    live: int
    orders: int
    events: int
    still: bool
    problems: tuple[str, ...]


@dataclass
class Picture:
    """Everything that was read, between two looks at `seq`."""

    meta: dict[str, str]
    skus: dict[str, dict[str, str]] = field(default_factory=dict)
    buyers: dict[str, dict[str, str]] = field(default_factory=dict)
    records: dict[str, dict[str, str]] = field(default_factory=dict)
    deadlines: dict[str, int] = field(default_factory=dict)
    ledger: dict[str, Any] = field(default_factory=dict)
    still: bool = False


def verify(store: Store, pause: bool = False) -> Report:
    """Walk the store. With `pause`, writes wait during the walk (at most 10 s), so that a busy store holds still.

    Without it a walk during which stock changed is repeated a few times.
    """
    picture = _paused(store) if pause else _patient(store)
    torn = sorted(name for name, record in picture.records.items() if not _readable(record))
    for name in torn:
        del picture.records[name]
    problems = [
        *(f"record: reservation {name} is torn" for name in torn),
        *_conservation(picture),
        *_holds(picture),
        *_deadlines(picture),
        *_limits(picture),
        *_ledger(store, picture),
    ]
    states = Counter(record.get("state") for record in picture.records.values())
    return Report(
        skus=len(picture.skus),
        live=states[State.RESERVED],
        orders=states[State.COMMITTED],
        events=int(picture.ledger.get("length", 0)),
        still=picture.still,
        problems=tuple(problems),
    )


def _patient(store: Store) -> Picture:
    for _ in range(ATTEMPTS):
        picture = _picture(store)
        if picture.still:
            break
    return picture


def _paused(store: Store) -> Picture:
    with answering():
        store.redis.client_pause(LONGEST_PAUSE_MS, all=False)
        try:
            return _picture(store)
        finally:
            store.redis.client_unpause()


def _picture(store: Store) -> Picture:
    redis, keys = store.redis, store.keys
    picture = Picture(store.meta())
    with answering():
        found: dict[str, list[str]] = {"sku": [], "rsv": [], "buyers": []}
        for key in set(redis.scan_iter(match=f"{_escaped(keys)}*", count=1_000)):
            kind, _, name = key.removeprefix(keys.prefix).partition(":")
            if kind in found:
                found[kind].append(name)
        picture.skus = _hashes(store, found["sku"], keys.sku)
        picture.buyers = _hashes(store, found["buyers"], keys.buyers)
        picture.records = _hashes(store, found["rsv"], keys.reservation)
        scores = redis.zrange(keys.deadlines, 0, -1, withscores=True)
        picture.deadlines = {name: int(deadline_ms) for name, deadline_ms in scores}
        if redis.exists(keys.ledger):
            picture.ledger = redis.xinfo_stream(keys.ledger)
    picture.still = store.meta().get("seq") == picture.meta.get("seq")
    return picture


def _escaped(keys: Keys) -> str:
    return keys.prefix.replace("[", "\\[")


def _hashes(store: Store, names: list[str], key: Callable[[str], str]) -> dict[str, dict[str, str]]:
    hashes: dict[str, dict[str, str]] = {}
    for at in range(0, len(names), CHUNK):
        chunk = names[at : at + CHUNK]
        pipe = store.redis.pipeline(transaction=False)
        for name in chunk:
            pipe.hgetall(key(name))
        hashes.update((name, fields) for name, fields in zip(chunk, pipe.execute(), strict=True) if fields)
    return hashes


def _readable(record: dict[str, str]) -> bool:
    try:
        unpacked(record["lines"])
        unpacked(record.get("cancelled", ""))
        return int(record["deadline_ms"]) > 0 and bool(State(record["state"])) and "user" in record
    except (KeyError, ValueError):
        return False


def _conservation(picture: Picture) -> Iterator[str]:
    for sku, fields in sorted(picture.skus.items()):
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


def _holds(picture: Picture) -> Iterator[str]:
    reserved: Counter[str] = Counter()
    allocated: Counter[str] = Counter()
    earliest: dict[str, int] = {}
    for record in picture.records.values():
        lines = unpacked(record.get("lines", ""))
        if record.get("state") == State.RESERVED:
            for line in lines:
                reserved[line.sku] += line.quantity
                earliest[line.sku] = min(earliest.get(line.sku, 2**63), int(record["deadline_ms"]))
        if record.get("state") == State.COMMITTED:
            allocated.update({line.sku: line.quantity for line in lines})
            allocated.subtract({line.sku: line.quantity for line in unpacked(record.get("cancelled", ""))})
    for sku in sorted({*picture.skus, *reserved, *allocated}):
        fields = picture.skus.get(sku, {})
        if fields.get("reserved", "0") != str(reserved[sku]):
            yield f"holds: SKU {sku} has reserved {fields.get('reserved')}, but live reservations hold {reserved[sku]}"
        if fields.get("allocated", "0") != str(allocated[sku]):
            yield f"orders: SKU {sku} has allocated {fields.get('allocated')}, but open orders have {allocated[sku]}"
        if sku in earliest and not 0 < _number(fields.get("next_release_ms")) <= earliest[sku]:
            yield f"next_release: SKU {sku} has next_release_ms later than a live reservation's deadline"


def _deadlines(picture: Picture) -> Iterator[str]:
    live = {name: record for name, record in picture.records.items() if record.get("state") == State.RESERVED}
    for name in sorted(live.keys() - picture.deadlines.keys()):
        yield f"deadlines: reservation {name} is live, but not in deadlines"
    for name in sorted(picture.deadlines.keys() - live.keys()):
        yield f"deadlines: {name} is in deadlines, but no live reservation"
    for name in sorted(live.keys() & picture.deadlines.keys()):
        if live[name].get("deadline_ms") != str(picture.deadlines[name]):
            yield f"deadlines: reservation {name} has deadline_ms {live[name].get('deadline_ms')}, deadlines has {picture.deadlines[name]}"


def _limits(picture: Picture) -> Iterator[str]:
    counted: Counter[tuple[str, str]] = Counter()
    for record in picture.records.values():
        if record.get("state") not in (State.RESERVED, State.COMMITTED):
            continue
        cancelled = {line.sku: line.quantity for line in unpacked(record.get("cancelled", ""))}
        skus = record.get("counted", "").split()
        for line in unpacked(record["lines"]):
            if line.sku in skus:
                counted[line.sku, record["user"]] += line.quantity - cancelled.get(line.sku, 0)
    for (sku, user), units in sorted(counted.items()):
        if _number(picture.buyers.get(sku, {}).get(user)) < units:
            yield f"limits: user {user} holds and bought {units} of SKU {sku}, but fewer are counted"


def _ledger(store: Store, picture: Picture) -> Iterator[str]:
    seq = _number(picture.meta.get("seq"))
    if not picture.meta:
        yield "meta: there is none"
    if not picture.ledger:
        if seq:
            yield f"ledger: it is gone, but seq is {seq}"
        return
    last = _seq(picture.ledger["last-generated-id"])
    if picture.still and last != seq:
        yield f"ledger: seq is {seq}, but the last event is {last}"
    if picture.ledger["length"] != last:
        yield from _gaps(store, last)


def _gaps(store: Store, last: int) -> Iterator[str]:
    """Every event is there from the first one on: nothing takes any out of the stream yet."""
    expected, position = 1, "-"
    while events := store.events(position, 1_000):
        for event in events:
            if event.seq != expected:
                yield f"ledger: events {expected} to {event.seq - 1} are missing"
            expected, position = event.seq + 1, f"{event.epoch}-{event.seq}"
    if expected <= last:
        yield f"ledger: events {expected} to {last} are missing"


def _number(text: str | None) -> int:
    """A field that should be a number: 0 if it isn't there, -1 if somebody made something else of it."""
    if not text:
        return 0
    return int(text) if text.isascii() and text.isdigit() else -1


def _seq(entry_id: str) -> int:
    return int(entry_id.partition("-")[2])
