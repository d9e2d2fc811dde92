"""What must have been there before an event, if it is to follow: for events behind a gap in the ledger that was accepted.

It builds the record and the counters that the lost events must have left. Units never vanish: on_hand stays available +
reserved + allocated, no counter falls below 0, and what is claimed stays claimed until an event ends it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from engine.states import State
from engine.values import Event, Line, packed, unpacked

if TYPE_CHECKING:
    from engine.fold import Fold, Hash

CLAIMED_BY = {State.RESERVED: "reserved", State.COMMITTED: "allocated"}
COUNTERS = ("available", "reserved", "allocated", "on_hand")

MUST_BE: dict[str, tuple[State, ...]] = {
    "extend": (State.RESERVED,),
    "release": (State.RESERVED,),
    "expire": (State.RESERVED,),
    "commit": (State.RESERVED,),
    "commit late": (State.EXPIRED, State.RELEASED),
    "cancel": (State.COMMITTED,),
    "fulfil": (State.COMMITTED,),
    "note": tuple(State),
    "refund_required": (State.EXPIRED, State.RELEASED, State.COMMITTED, State.FULFILLED, State.CANCELLED),
}
"""The states in which an event may find its reservation; the first one, if it is to be made up."""

WHOLE = frozenset({"release", "expire", "commit", "commit late"})
"""Events that move all the units of a hold."""

OF_ONE_SKU = frozenset({"restock", "withdraw", "recount", "configure"})

ESCAPE = re.compile(r"\\(.)", re.DOTALL)

PARTS = frozenset({"cancelled", "fulfilled"})


def make_room(fold: Fold, event: Event, effect: str) -> None:
    """Have the fold know what the event needs. Only for events that say by themselves what they are about."""
    if effect == "reserve":
        # What it was before is over.
        if event.reservation_id in fold.records:
            _become(fold, event.reservation_id, State.EXPIRED)
        _free(fold, {line.sku: line.quantity for line in event.lines})
    elif effect in MUST_BE and event.reservation_id:
        _have_record(fold, event, effect)
    elif effect in OF_ONE_SKU:
        _have_stock(fold, event, effect)


def readable(event: Event) -> bool:
    """Whether an event is one that a script writes. What another one did, if anything, is adopted."""
    try:
        if event.op == "adopt":
            kind, held = adopted(event)
            return (
                (bool(event.reservation_id) and _whole(held))
                if kind == "reservation"
                else kind == "levers" or len(event.lines) == 1
            )
        if event.op in ("cancel", "fulfil"):
            return not event.detail or bool(State(event.detail))
        if event.op in ("recount", "configure"):
            dict(json.loads(event.detail or "[]"))
        return event.op not in OF_ONE_SKU or len(event.lines) == 1
    except (KeyError, ValueError, TypeError):
        return False


def _whole(held: dict[str, str]) -> bool:
    """Whether it is a record, or none."""
    return not held or bool(
        State(held["state"]) and unpacked(held["lines"]) and held["user"] and int(held["deadline_ms"])
    )


def _have_record(fold: Fold, event: Event, effect: str) -> None:
    name, states = event.reservation_id, MUST_BE[effect]
    record = fold.records.get(name)
    if record is None:
        record = {"state": str(State.EXPIRED), "user": event.user, "lines": packed(event.lines)}
        record |= {"created_ms": str(event.at_ms), "deadline_ms": str(event.deadline_ms or event.at_ms)}
    fold.records[name] = record
    _know(fold, (line.sku for line in (*unpacked(record["lines"]), *event.lines)))
    if record["state"] not in states:
        if states[0] == State.COMMITTED:
            record |= {"payment_id": event.payment_id, "committed_ms": str(event.at_ms), "late": "0"}
            fold.payments.setdefault(event.payment_id, (name, event.at_ms))
        _become(fold, name, states[0])
    if effect in ("cancel", "fulfil"):
        _have_left(fold, name, event)
    elif effect in WHOLE and (packed(event.lines) != record["lines"] or PARTS & record.keys()):
        _become(fold, name, State.EXPIRED)
        record["lines"] = packed(event.lines)
        for part in PARTS:
            record.pop(part, None)
        _become(fold, name, states[0])
    if effect == "commit late":
        _free(fold, {line.sku: line.quantity for line in event.lines})


def _have_left(fold: Fold, name: str, event: Event) -> None:
    """Of an order so much is left, at least: of its lines some may have been lost. If it is its end, no more is left."""
    record, units = fold.records[name], Counter({line.sku: line.quantity for line in event.lines})
    if more := units - Counter(claims(record)):
        _become(fold, name, State.EXPIRED)
        bought = Counter({line.sku: line.quantity for line in unpacked(record["lines"])}) + more
        record["lines"] = packed(Line(sku, count) for sku, count in bought.items())
        _become(fold, name, State.COMMITTED)
    # Events of layout 1 ship all that is left, and don't say so.
    over = Counter(claims(record)) - units if event.detail != State.COMMITTED else Counter[str]()
    for sku, count in over.items():
        _step(fold, sku, "allocated", -count)
        _count(fold, sku, record["user"], -count)
    if over:
        over.update({line.sku: line.quantity for line in unpacked(record.get("cancelled", ""))})
        record["cancelled"] = packed(
            Line(line.sku, over[line.sku]) for line in unpacked(record["lines"]) if over[line.sku]
        )


def _have_stock(fold: Fold, event: Event, effect: str) -> None:
    [line] = event.lines
    if effect != "recount":
        _know(fold, [line.sku])
    short = line.quantity if effect == "withdraw" else -line.quantity if effect == "recount" else 0
    if short > 0:
        _free(fold, {line.sku: short})


def adopted(event: Event) -> tuple[str, dict[str, str]]:
    """What an event that adopts says that was there: its kind and the fields. Raises ValueError.

    A byte that is no text stands in the stream's events as an escape, which JSON doesn't know.
    """
    kind, *words = json.loads(ESCAPE.sub(lambda found: rf"\{found[0]}" if found[1] == "x" else found[0], event.detail))
    return kind, dict(zip(words[::2], words[1::2], strict=True))


def claims(record: Hash) -> dict[str, int]:
    """The units that a reservation holds, or has bought and neither shipped nor called off, by SKU."""
    return left(record) if record["state"] in CLAIMED_BY else {}


def left(record: Hash) -> dict[str, int]:
    """The units of a reservation that were neither shipped nor called off, by SKU."""
    units = Counter({line.sku: line.quantity for line in unpacked(record["lines"])})
    for moved in PARTS:
        units.subtract({line.sku: line.quantity for line in unpacked(record.get(moved, ""))})
    return {sku: count for sku, count in units.items() if count > 0}


def _become(fold: Fold, name: str, state: State) -> None:
    """Give a reservation another state, and move what it claims, and its buyer's counts, accordingly."""
    record = fold.records[name]
    for sku, units in claims(record).items():
        _step(fold, sku, CLAIMED_BY[State(record["state"])], -units)
        if state not in CLAIMED_BY:
            _count(fold, sku, record["user"], -units)
    claimed_before = record["state"] in CLAIMED_BY
    record["state"] = str(state)
    for sku, units in claims(record).items():
        _free(fold, {sku: units})
        _step(fold, sku, CLAIMED_BY[state], units)
        if not claimed_before:
            _count(fold, sku, record["user"], units)
    fold.ended_ms.pop(name, None)


def _step(fold: Fold, sku: str, claimed: str, units: int) -> None:
    """Move units from available to those that are claimed, or back."""
    counters = fold.skus[sku]
    taken = max(units, -int(counters[claimed]))
    counters["available"] = str(int(counters["available"]) - taken)
    counters[claimed] = str(int(counters[claimed]) + taken)


def _count(fold: Fold, sku: str, user: str, units: int) -> None:
    users = fold.buyers.setdefault(sku, {})
    count = int(users.pop(user, 0)) + units
    if count > 0:
        users[user] = str(count)


def _free(fold: Fold, units: dict[str, int]) -> None:
    """So many units must have been available: those that the fold doesn't know of came in with what was lost."""
    _know(fold, units)
    for sku, count in units.items():
        counters = fold.skus[sku]
        lacking = count - int(counters["available"])
        if lacking > 0:
            for name in ("available", "on_hand"):
                counters[name] = str(int(counters[name]) + lacking)


def _know(fold: Fold, skus: Iterable[str]) -> None:
    for sku in skus:
        fold.skus.setdefault(sku, dict.fromkeys(COUNTERS, "0"))
