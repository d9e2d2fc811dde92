"""The fold of the ledger: what Redis must hold after these events, hash by hash, in the words that Redis uses.

It knows the scripts' effects a second time, on purpose: `stockade verify` compares the two, restore writes this one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from engine import gaps
from engine.gaps import Gaps
from engine.lenience import adopted, make_room, readable
from engine.states import State
from engine.values import Event, Line, packed, unpacked

Hash = dict[str, str]

MOVES: dict[str, tuple[int, int, int, int]] = {
    "restock": (1, 0, 0, 1),
    "withdraw": (-1, 0, 0, -1),
    "recount": (1, 0, 0, 1),
    "reserve": (-1, 1, 0, 0),
    "release": (1, -1, 0, 0),
    "expire": (1, -1, 0, 0),
    "commit": (0, -1, 1, 0),
    "commit late": (-1, 0, 1, 0),
    "cancel": (1, 0, -1, 0),
    "fulfil": (0, 0, -1, -1),
}
"""What one unit of a line does to the counters, in the order of `COUNTERS`. Other events move nothing."""

COUNTERS = ("available", "reserved", "allocated", "on_hand")
LIMITS: dict[str, int] = {"reserve": 1, "commit late": 1, "release": -1, "expire": -1, "cancel": -1}
"""What one unit of a line does to its buyer's count."""

PAYMENTS = frozenset({"commit", "refund_required"})
"""Events by which a payment id belongs to one reservation."""

ENDED = frozenset({State.RELEASED, State.EXPIRED, State.FULFILLED, State.CANCELLED})


LEVERS = ("selling_paused", "selling_reason", "default_hold_ms")
"""Fields of meta that operators set, in the order in which open.lua takes them."""


@dataclass(frozen=True)
class Answer:
    """What a call with an operation id was answered, as the `op` key has it."""

    fingerprint: str
    answer: str
    at_ms: int

    @property
    def text(self) -> str:
        return f"{self.fingerprint} {self.answer}"


@dataclass
class Fold:
    """Hashes by name. With `as_of`, those that were read later than the first event: older events don't touch them.

    `payments` has the reservation of each payment id, and when it was paid with first (`at_ms`).
    `since` is the seq as of which everything else is known. `lookup` finds a record that was forgotten. An event that may need what
    was lost in one of the `gaps` stands for itself: what must have been there before is made up.
    """

    skus: dict[str, Hash] = field(default_factory=dict)
    records: dict[str, Hash] = field(default_factory=dict)
    buyers: dict[str, Hash] = field(default_factory=dict)
    checkouts: dict[str, str] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    payments: dict[str, tuple[str, int]] = field(default_factory=dict)
    ended_ms: dict[str, int] = field(default_factory=dict)
    selling: Hash = field(default_factory=dict)
    clock_ms: int = 0
    since: int = 0
    as_of: dict[tuple[str, str], int] = field(default_factory=dict)
    lookup: Callable[[str], Hash | None] = lambda name: None
    gaps: Gaps = ()
    _lenient: bool = False

    def apply_all(self, events: Iterable[Event]) -> None:
        for event in events:
            self.apply(event)

    def apply(self, event: Event) -> None:
        """Take one event in. Raises KeyError or ValueError on one that can't follow what is known."""
        self._lenient = bool(self.gaps) and gaps.reach(self.gaps, event.seq)
        try:
            if not self._lenient or readable(event):
                self._apply(event)
        except (IndexError, TypeError) as error:
            raise ValueError(str(error)) from error

    def _apply(self, event: Event) -> None:
        self.clock_ms = max(self.clock_ms, event.at_ms)
        created = event.op == "recount" and event.lines[0].sku not in self.skus
        effect = "commit late" if event.op == "commit" and event.detail == "late" else event.op
        if event.op == "adopt":
            self._adopt(event)
            return
        if self._lenient:
            make_room(self, event, effect)
        if effect in MOVES:
            self._move(event, MOVES[effect])
        if event.op in ("recount", "configure"):
            self._attributes(event)
        if effect in LIMITS:
            self._count(event, LIMITS[effect])
        if event.op in PAYMENTS:
            self.payments.setdefault(event.payment_id, (event.reservation_id, event.at_ms))
        known = event.reservation_id and event.op != "unknown_reservation"
        if known and self._later("rsv", event.reservation_id, event.seq):
            self._record(event)
        if event.op in ("pause", "resume", "default_hold"):
            self._lever(event)
        if event.operation:
            self._answer(event, created)

    def forget(self, before_ms: int) -> None:
        """Let go what Redis lets go: reservations that ended before, and what nobody compares. Not behind a gap until it is settled."""
        if self._lenient:
            return
        old = []
        for name, ended_ms in self.ended_ms.items():
            if ended_ms >= before_ms:
                break
            old.append(name)
        for name in old:
            del self.ended_ms[name], self.records[name]
        self.answers.clear()
        self.checkouts.clear()
        self.payments.clear()

    def _later(self, kind: str, name: str, seq: int) -> bool:
        return not self.as_of or seq > self.as_of.get((kind, name), self.since)

    def _move(self, event: Event, steps: tuple[int, int, int, int]) -> None:
        for line in event.lines:
            if not self._later("sku", line.sku, event.seq):
                continue
            if event.op == "recount" and line.sku not in self.skus:
                self.skus[line.sku] = dict.fromkeys(COUNTERS, "0")
            sku = self.skus[line.sku]
            for name, step in zip(COUNTERS, steps, strict=True):
                if step:
                    sku[name] = str(int(sku[name]) + step * line.quantity)

    def _attributes(self, event: Event) -> None:
        [line] = event.lines
        if self._later("sku", line.sku, event.seq):
            for name, value in json.loads(event.detail or "[]"):
                self.skus[line.sku].pop(name, None)
                if value != "":
                    self.skus[line.sku][name] = value

    def _adopt(self, event: Event) -> None:
        """What Redis held at that moment, whatever was known before. Raises ValueError where it doesn't say what."""
        kind, held = adopted(event)
        if kind == "levers":
            self.selling = {name: value for name, value in held.items() if value or name == "selling_reason"}
        elif kind == "reservation" and self._later("rsv", event.reservation_id, event.seq):
            self._adopt_record(event.reservation_id, held, event.at_ms)
        elif kind == "sku" and self._later("sku", event.lines[0].sku, event.seq):
            held.pop("next_release_ms", None)
            self.skus.pop(event.lines[0].sku, None)
            self.skus |= {event.lines[0].sku: held} if held else {}
        elif kind == "buyers" and self._later("buyers", event.lines[0].sku, event.seq):
            users = self.buyers.setdefault(event.lines[0].sku, {}) | held
            self.buyers[event.lines[0].sku] = {user: units for user, units in users.items() if units}

    def _adopt_record(self, name: str, held: Hash, at_ms: int) -> None:
        self.ended_ms.pop(name, None)
        if not held:
            # It ended, and what is left doesn't say how.
            if record := self.records.get(name):
                record["state"] = record["state"] if record["state"] in ENDED else State.EXPIRED
                self.ended_ms[name] = at_ms
            return
        self.records[name] = held
        if held["state"] in ENDED:
            self.ended_ms[name] = at_ms
        if held["state"] == State.RESERVED and "cart" in held:
            self.checkouts[held["cart"]] = name
        paid_with = [held["payment_id"]] if held.get("payment_id") else []
        for payment_id in (*paid_with, *(part[7:] for part in held if part.startswith("refund:"))):
            self.payments.setdefault(payment_id, (name, at_ms))

    def _lever(self, event: Event) -> None:
        if event.op == "default_hold":
            changes = {"default_hold_ms": event.detail}
        else:
            changes = {"selling_reason": event.reason, "selling_paused": "1" if event.op == "pause" else ""}
        kept = {name: value for name, value in self.selling.items() if name not in changes}
        # A reason may be empty in events of earlier versions, and stands in meta all the same.
        self.selling = kept | {name: value for name, value in changes.items() if value or name == "selling_reason"}

    def _count(self, event: Event, step: int) -> None:
        for line in event.lines:
            if self._later("buyers", line.sku, event.seq):
                users = self.buyers.setdefault(line.sku, {})
                units = int(users.get(event.user, 0)) + step * line.quantity
                users.pop(event.user, None)
                if units > 0:
                    users[event.user] = str(units)

    def _record(self, event: Event) -> None:
        name = event.reservation_id
        if event.op == "reserve":
            self._reserve(event)
            return
        record = self.records.get(name) or self.lookup(name)
        if record is None:
            if self.as_of:
                return
            raise KeyError(f"reservation {name} is unknown")
        self.records[name] = record
        match event.op:
            case "extend":
                record["deadline_ms"] = str(event.deadline_ms)
            case "release":
                record["state"] = State.RELEASED
            case "expire":
                record["state"] = State.EXPIRED
            case "commit":
                record |= {"state": State.COMMITTED, "payment_id": event.payment_id, "committed_ms": str(event.at_ms)}
                record["late"] = str(int(event.detail == "late"))
            case "refund_required":
                record[f"refund:{event.payment_id}"] = event.detail
            case "cancel":
                record |= {"state": event.detail, "cancelled": _added(record, "cancelled", event.lines)}
            case "fulfil":
                # Events of layout 1 ship all that is left, and don't say so.
                record |= {"state": event.detail or State.FULFILLED}
                record["fulfilled"] = _added(record, "fulfilled", event.lines)
            case "note":
                if f"attempt:{event.payment_id}" not in record:
                    record |= {f"attempt:{event.payment_id}": "1", "attempt": event.payment_id}
        if record["state"] in ENDED:
            if event.op not in ("refund_required", "note"):
                self.ended_ms[name] = event.at_ms
        else:
            self.ended_ms.pop(name, None)

    def _reserve(self, event: Event) -> None:
        fingerprint, _, cart = event.detail.partition(" ")
        cart, _, created_ms = cart.partition(" ")
        record = {"state": str(State.RESERVED), "user": event.user, "lines": packed(event.lines)}
        record |= {"created_ms": created_ms or str(event.at_ms), "deadline_ms": str(event.deadline_ms)}
        optional = {"request": fingerprint, "cart": cart}
        self.ended_ms.pop(event.reservation_id, None)
        self.records[event.reservation_id] = record | {name: value for name, value in optional.items() if value}
        if cart:
            self.checkouts[cart] = event.reservation_id

    def _answer(self, event: Event, created: bool) -> None:
        """What the script answered, put together again."""
        operation_id, _, fingerprint = event.operation.partition(" ")
        answer: list[str | int]
        record = self.records.get(event.reservation_id, {})
        match event.op:
            case "extend":
                answer = ["extended", event.deadline_ms]
            case "commit":
                answer = ["committed", event.at_ms, int(event.detail == "late")]
            case "cancel":
                answer = ["cancelled", event.detail, record.get("fulfilled", ""), record.get("cancelled", "")]
            case "fulfil":
                answer = [
                    "fulfilled",
                    event.detail or State.FULFILLED,
                    record.get("fulfilled", ""),
                    record.get("cancelled", ""),
                ]
            case "note":
                answer = ["noted"]
            case "unknown_reservation":
                answer = ["unknown_reservation"]
            case "restock" | "withdraw":
                answer = ["adjusted", *self._flat(event.lines[0].sku)]
            case "recount" | "configure":
                answer = ["created" if created else "changed", *self._flat(event.lines[0].sku)]
            case _:
                return
        self.answers[operation_id] = Answer(fingerprint, json.dumps(answer, separators=(",", ":")), event.at_ms)

    def _flat(self, sku: str) -> list[str]:
        return [word for pair in self.skus.get(sku, {}).items() for word in pair]


def adopted_users(events: Iterable[Event]) -> set[str]:
    """The customers whose counts these events adopt."""
    users = set[str]()
    for event in events:
        if event.op == "adopt" and not event.reservation_id:
            with suppress(ValueError, TypeError):
                kind, held = adopted(event)
                users |= held.keys() if kind == "buyers" else set()
    return users


def _added(record: Hash, name: str, lines: tuple[Line, ...]) -> str:
    """All that was ever shipped (`fulfilled`) or called off (`cancelled`) of an order, in the order of its lines."""
    units: dict[str, int] = {}
    for line in (*unpacked(record.get(name, "")), *lines):
        units[line.sku] = units.get(line.sku, 0) + line.quantity
    return packed(Line(line.sku, units[line.sku]) for line in unpacked(record["lines"]) if line.sku in units)
