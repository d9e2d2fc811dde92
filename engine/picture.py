"""A picture of everything that Redis holds, taken while it sells, and brought to one point of the ledger.

Each hash is read together with the seq at that moment. The events since then, from the ledger, are applied to just those
hashes that were read before them; so all end up at the same seq, and nobody had to hold still.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from engine.errors import LedgerBroken, StoreUnavailable
from engine.fold import LEVERS, Fold, Hash
from engine.ledger import Entry, event_of
from engine.sku_names import shown
from engine.states import State
from engine.store import Store, answering
from engine.values import Event, number, unpacked

CHUNKS = {"sku": 500, "rsv": 500, "buyers": 20}
"""Hashes read in one go, while Redis serves nobody else. Those of buyers may be large."""

KINDS = ("sku", "rsv", "buyers")
PAGE = 1_000

Events = Callable[[int, int, int], Iterable[Event]]
"""Gives the events of an epoch after one seq, up to another."""


@dataclass
class Picture:
    """What Redis held at `epoch`, `seq`.

    `next_release_ms` has the SKUs that no event touched during the reading. `torn` are records that nobody can read,
    `misfits` events that can't have happened to what was read.
    """

    epoch: int = 0
    seq: int = 0
    meta: Hash = field(default_factory=dict)
    fold: Fold = field(default_factory=Fold)
    deadlines: dict[str, int] = field(default_factory=dict)
    next_release_ms: dict[str, str] = field(default_factory=dict)
    torn: list[str] = field(default_factory=list)
    misfits: list[str] = field(default_factory=list)

    @property
    def live(self) -> dict[str, Hash]:
        return {name: record for name, record in self.fold.records.items() if record["state"] == State.RESERVED}


def take(store: Store, events: Events, *, live_only: bool = False) -> Picture:
    """Read Redis while it works. With `live_only` the records of ended reservations and orders are left out.

    Raises:
        StoreUnavailable: it was closed or restored meanwhile, so that there is no one seq to bring it to.
    """
    picture = Picture(meta=store.meta())
    epoch, picture.fold.since = picture.meta.get("epoch", ""), number(picture.meta.get("seq"))
    names = {"rsv": sorted(store.deadlines()), "sku": sorted(store.all_skus())} if live_only else _scan(store)
    if live_only:
        names["buyers"] = names["sku"]
    _read_deadlines(store, picture)
    for kind in KINDS:
        for at in range(0, len(names[kind]), CHUNKS[kind]):
            _read(store, picture, kind, names[kind][at : at + CHUNKS[kind]])
    end = store.meta()
    if end.get("epoch", "") != epoch:
        raise StoreUnavailable("Redis was restored while it was looked at; try again")
    picture.epoch, picture.seq, picture.meta = number(epoch), number(end.get("seq")), end
    _take_out_torn(picture)
    advance(picture, events(picture.epoch, picture.fold.since, picture.seq))
    return picture


def advance(picture: Picture, events: Iterable[Event]) -> None:
    """Bring the picture on by the events that follow."""
    for event in events:
        _apply(picture, event)
        picture.seq = max(picture.seq, event.seq)


def _scan(store: Store) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {kind: [] for kind in KINDS}
    with answering():
        for key in set(store.redis.scan_iter(match=f"{store.keys.prefix}*", count=1_000)):
            kind, _, name = key.removeprefix(store.keys.prefix).partition(":")
            if kind in found:
                found[kind].append(name if kind == "rsv" else shown(name))
    return found


def _read(store: Store, picture: Picture, kind: str, names: list[str]) -> None:
    """Read hashes and the seq as of which they are so, in one transaction."""
    keys, fold = store.keys, picture.fold
    key = {"sku": keys.sku, "rsv": keys.reservation, "buyers": keys.buyers}[kind]
    into: dict[str, Hash] = {"sku": fold.skus, "rsv": fold.records, "buyers": fold.buyers}[kind]
    with answering():
        pipe: Any = store.redis.pipeline(transaction=True)
        pipe.hget(keys.meta, "seq")
        for name in names:
            pipe.hgetall(key(name))
        seq, *hashes = pipe.execute()
    for name, fields in zip(names, hashes, strict=True):
        fold.as_of[kind, name] = number(seq)
        if not fields:
            continue
        if kind == "sku":
            picture.next_release_ms[name] = fields.pop("next_release_ms", "")
        into[name] = fields


def _read_deadlines(store: Store, picture: Picture) -> None:
    with answering():
        pipe: Any = store.redis.pipeline(transaction=True)
        pipe.hget(store.keys.meta, "seq")
        pipe.zrange(store.keys.deadlines, 0, -1, withscores=True)
        seq, scores = pipe.execute()
    picture.fold.as_of["deadlines", ""] = number(seq)
    picture.deadlines = {name: int(deadline_ms) for name, deadline_ms in scores}


def _take_out_torn(picture: Picture) -> None:
    records = picture.fold.records
    picture.torn = sorted(name for name, record in records.items() if not _readable(record))
    for name in picture.torn:
        del records[name]


def _readable(record: Hash) -> bool:
    try:
        unpacked(record["lines"])
        unpacked(record.get("cancelled", ""))
        unpacked(record.get("fulfilled", ""))
        return int(record["deadline_ms"]) > 0 and bool(State(record["state"])) and "user" in record
    except (KeyError, ValueError):
        return False


def _apply(picture: Picture, event: Event) -> None:
    try:
        picture.fold.apply(event)
    except (KeyError, ValueError):
        picture.misfits.append(f"event {event.epoch}-{event.seq} ({event.op}) doesn't fit what Redis holds")
    for line in event.lines:
        picture.next_release_ms.pop(line.sku, None)
    if event.seq <= picture.fold.as_of["deadlines", ""]:
        return
    if event.op in ("reserve", "extend"):
        picture.deadlines[event.reservation_id] = event.deadline_ms
    elif event.op in ("release", "expire", "commit"):
        picture.deadlines.pop(event.reservation_id, None)


def refuse_half(picture: Picture) -> None:
    """Raises StoreUnavailable: Redis is being restored, so that nothing can be said about it."""
    if "restoring" in picture.meta:
        raise StoreUnavailable("Redis is being restored; try again")


@dataclass(frozen=True)
class Difference:
    """Of a SKU, a reservation or, with `user`, of a customer's count of a SKU."""

    kind: str
    name: str
    text: str
    user: str = ""

    def __str__(self) -> str:
        return self.text


def differences(redis: Fold, books: Fold, *, live_only: bool = False) -> Iterator[Difference]:
    """What Redis has otherwise than the fold of the ledger says. Records that Redis has let go since their end are fine."""
    for sku in sorted(redis.skus.keys() | books.skus.keys()):
        here, there = redis.skus.get(sku, {}), books.skus.get(sku, {})
        for name in sorted(here.keys() | there.keys()):
            if here.get(name) != there.get(name):
                text = f"SKU {sku} has {name} {here.get(name)}, the ledger says {there.get(name)}"
                yield Difference("sku", sku, text)
    for name in sorted(redis.records.keys() | books.records.keys()):
        here, there = redis.records.get(name, {}), books.records.get(name, {})
        if (not here and name in books.ended_ms) or (live_only and there.get("state") != State.RESERVED and not here):
            continue
        if not here or not there:
            only, known = ("Redis", here) if here else ("the ledger", there)
            text = f"reservation {name} is only in {only}: {known['state']} {known['lines']} for {known['user']}"
            yield Difference("reservation", name, text)
            continue
        for part in sorted(here.keys() | there.keys()):
            if here.get(part) != there.get(part):
                text = f"reservation {name} has {part} {here.get(part)}, the ledger says {there.get(part)}"
                yield Difference("reservation", name, text)
    for sku in sorted(redis.buyers.keys() | books.buyers.keys()):
        here, there = redis.buyers.get(sku, {}), books.buyers.get(sku, {})
        for user in sorted(here.keys() | there.keys()):
            if here.get(user) != there.get(user):
                text = f"user {user} has {here.get(user, 0)} of SKU {sku} counted, the ledger says {there.get(user, 0)}"
                yield Difference("buyers", sku, text, user)


def lever_differences(meta: Hash, books: Hash) -> Iterator[str]:
    """What operators have set according to Redis, otherwise than the ledger says."""
    for name in LEVERS:
        here, there = meta.get(name, ""), books.get(name, "")
        if here != there:
            yield f"levers: {name} is {here or 'not set'}, the ledger says {there or 'not set'}"


def deadline_differences(seen: Picture, books: Fold) -> Iterator[str]:
    """Which deadlines Redis has otherwise than the ledger says, of holds that live by both or by neither."""
    live = {name: record for name, record in books.records.items() if record["state"] == State.RESERVED}
    for name in sorted(seen.deadlines.keys() | (live.keys() & seen.live.keys())):
        here, there = seen.deadlines.get(name, "none"), live[name]["deadline_ms"] if name in live else "none"
        if str(here) != there and (name in seen.live) == (name in live):
            yield f"deadlines: reservation {name} has {here}, the ledger says {there}"


def from_stream(store: Store) -> Events:
    """Events out of the stream in Redis. They raise StoreUnavailable where it has let go of one meanwhile."""

    def events(epoch: int, after: int, upto: int) -> Iterator[Event]:
        position = (epoch, after)
        while position[1] < upto:
            page = store.entries(f"({position[0]}-{position[1]}", PAGE)
            if not page or page[0].seq != position[1] + 1:
                raise StoreUnavailable(f"The stream has let go of events after {position[0]}-{position[1]}; try again")
            yield from (_event(entry) for entry in page if entry.seq <= upto)
            position = (page[-1].epoch, page[-1].seq)

    return events


def _event(entry: Entry) -> Event:
    try:
        return event_of(entry.row())
    except ValueError as error:
        raise LedgerBroken("ledger_conflict", f"Event {entry.epoch}-{entry.seq} in Redis isn't one of ours") from error
