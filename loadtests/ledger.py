"""The ledger of one run, played from the start: what it says of counters, orders, limits, and when."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from engine.fold import COUNTERS, MOVES
from engine.invariants import Invariant, Violation
from engine.invariants.record import LATE, Record
from engine.values import Event, Line

COUNTER_NAMES = ("available", "reserved", "allocated")
STILL = (0,) * len(COUNTERS)
"""What events do to the counters that move no stock."""

SUPPLY = {"recount": 1, "restock": 1, "withdraw": -1}
CLAIMS = {"reserve": 1, "release": -1, "expire": -1, LATE: 1, "cancel": -1}
"""What a unit does to the number that its buyer holds or has bought."""


@dataclass
class Hold:
    """One reservation as the ledger has it. `ended_ms` is the time of its release, expiry or first payment."""

    user: str
    lines: dict[str, int]
    at_ms: int
    ended_ms: int | None = None
    ended_by: str = ""


@dataclass
class Fold:
    """Counters at the end, what the ledger must not have, and everything else that the judge asks for.

    `payments` and `refunds` count events by reservation and payment id. `moves` has every change of `available`, by SKU,
    as time, change and the reservation whose expiry it was. `history` is totals by second (unix), the last of each.
    """

    counters: dict[str, Counter[str]] = field(default_factory=dict)
    events: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)
    sold: Counter[str] = field(default_factory=Counter)
    supplied: Counter[str] = field(default_factory=Counter)
    claimed: Counter[str] = field(default_factory=Counter)
    commits: Counter[str] = field(default_factory=Counter)
    reserves: Counter[str] = field(default_factory=Counter)
    payments: Counter[tuple[str, str]] = field(default_factory=Counter)
    refunds: Counter[tuple[str, str]] = field(default_factory=Counter)
    holds: dict[str, Hold] = field(default_factory=dict)
    moves: dict[str, list[tuple[int, int, str]]] = field(default_factory=lambda: defaultdict(list))
    most_claimed: Counter[tuple[str, str]] = field(default_factory=Counter)
    history: dict[int, tuple[int, ...]] = field(default_factory=dict)
    per_second: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    _claims: Counter[tuple[str, str]] = field(default_factory=Counter)
    _totals: Counter[str] = field(default_factory=Counter)
    _record: Record = field(default_factory=lambda: Record(part=True))

    @property
    def below_zero(self) -> int:
        """How often a counter was below 0 after an event."""
        return sum(violation.invariant is Invariant.NO_OVERSELL for violation in self.violations)

    def apply(self, event: Event) -> None:
        """Take in one event, with those of its lines that belong to the run. A commit after the hold's end takes from available."""
        hold, second = self.holds.get(event.reservation_id), event.at_ms // 1000
        late = event.op == "commit" and hold is not None and hold.ended_by in ("release", "expire")
        effect = LATE if late else event.op
        self.events[event.op] += 1
        self.per_second[event.op][second] += 1
        self.violations += self._record.take(event)
        self._note(event, hold)
        for line in event.lines:
            counters = self.counters.setdefault(line.sku, Counter())
            for name, step in zip(COUNTERS, MOVES.get(effect, STILL), strict=True):
                counters[name] += step * line.quantity
                self._totals[name] += step * line.quantity
                if name == "available" and step:
                    ended = event.reservation_id if event.op in ("expire", "release") else ""
                    self.moves[line.sku].append((event.at_ms, step * line.quantity, ended))
            self.supplied[line.sku] += SUPPLY.get(event.op, 0) * line.quantity
            self._claim(event.user if hold is None else hold.user, line.sku, effect, line.quantity)
        self.history[second] = tuple(self._totals[name] for name in COUNTER_NAMES)

    def _note(self, event: Event, hold: Hold | None) -> None:
        op, reservation_id, lines = event.op, event.reservation_id, {line.sku: line.quantity for line in event.lines}
        if op == "reserve":
            self.reserves[reservation_id] += 1
            self.claimed.update(lines)
            self.holds[reservation_id] = Hold(event.user, lines, event.at_ms)
        elif op == "refund_required":
            self.refunds[reservation_id, event.payment_id] += 1
        elif op == "commit":
            self.commits[reservation_id] += 1
            self.payments[reservation_id, event.payment_id] += 1
            self.sold.update(lines)
        if hold is not None and op in ("release", "expire", "commit") and hold.ended_ms is None:
            hold.ended_ms, hold.ended_by = event.at_ms, op

    def _claim(self, user: str, sku: str, op: str, units: int) -> None:
        if op in CLAIMS:
            claim = (user, sku)
            self._claims[claim] += CLAIMS[op] * units
            self.most_claimed[claim] = max(self.most_claimed[claim], self._claims[claim])


def fold(events: Iterable[Mapping[str, Any]], prefix: str) -> Fold:
    """Play the events that touch SKUs with the prefix, and the other events of their reservations."""
    result = Fold()
    for event in events:
        lines = lines_of(event, prefix)
        if lines or event["reservation_id"] in result.holds:
            result.apply(event_of(event, {} if event["op"] == "refund_required" else lines))
    return result


def lines_of(document: Mapping[str, Any], prefix: str) -> Counter[str]:
    """Units by SKU, of those with the prefix."""
    lines: Counter[str] = Counter()
    for line in document["lines"]:
        if line["sku"].startswith(prefix):
            lines[line["sku"]] += line["quantity"]
    return lines


def event_of(document: Mapping[str, Any], lines: Mapping[str, int]) -> Event:
    """An event of GET /v1/audit, which tells neither details nor deadlines, with the lines given."""
    return Event(
        epoch=document["epoch"],
        seq=document["seq"],
        at_ms=milliseconds(document["at"]),
        op=document["op"],
        actor=document["actor"],
        user=document["user"],
        reservation_id=document["reservation_id"],
        lines=tuple(Line(sku, quantity) for sku, quantity in lines.items()),
        deadline_ms=0,
        payment_id=document["payment_id"],
        reason=document["reason"],
        request_id="",
        detail="",
    )


def milliseconds(timestamp: str | None) -> int:
    """An RFC 3339 time as unix milliseconds; 0 for none."""
    return round(datetime.fromisoformat(timestamp).timestamp() * 1000) if timestamp else 0
