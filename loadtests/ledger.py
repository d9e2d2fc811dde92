"""The ledger of one run, played from the start: what it says of counters, orders, limits, and when."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

COUNTER_NAMES = ("available", "reserved", "allocated")

MOVES: dict[str, tuple[tuple[str, int], ...]] = {
    "recount": (("available", 1),),
    "restock": (("available", 1),),
    "withdraw": (("available", -1),),
    "reserve": (("available", -1), ("reserved", 1)),
    "release": (("reserved", -1), ("available", 1)),
    "expire": (("reserved", -1), ("available", 1)),
    "commit": (("reserved", -1), ("allocated", 1)),
    "cancel": (("allocated", -1), ("available", 1)),
    "fulfil": (("allocated", -1),),
}
"""What each event does to the counters of its lines. Other events move no stock."""

SUPPLY = {"recount": 1, "restock": 1, "withdraw": -1}
CLAIMS = {"reserve": 1, "release": -1, "expire": -1, "late commit": 1, "cancel": -1}
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
    """Counters at the end, how often one was below 0 on the way, and everything else that the judge asks for.

    `payments` and `refunds` count events by reservation and payment id. `moves` has every change of `available`, by SKU,
    as time, change and the reservation whose expiry it was. `history` is totals by second (unix), the last of each.
    """

    counters: dict[str, Counter[str]] = field(default_factory=dict)
    events: Counter[str] = field(default_factory=Counter)
    below_zero: int = 0
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

    def apply(self, event: Mapping[str, Any], lines: dict[str, int]) -> None:
        """Take in one event, of which `lines` belong to the run. A commit after the hold's end takes from available."""
        op, reservation_id, at_ms = event["op"], event["reservation_id"], milliseconds(event["at"])
        hold = self.holds.get(reservation_id)
        late = op == "commit" and hold is not None and hold.ended_by in ("release", "expire")
        self.events[op] += 1
        self.per_second[op][at_ms // 1000] += 1
        self._note(event, lines, at_ms, hold)
        for sku, units in lines.items():
            counters = self.counters.setdefault(sku, Counter())
            for name, sign in MOVES.get(op, ()):
                moved = "available" if late and name == "reserved" else name
                counters[moved] += sign * units
                self._totals[moved] += sign * units
                if moved == "available":
                    self.moves[sku].append((at_ms, sign * units, reservation_id if op in ("expire", "release") else ""))
            self.below_zero += min(counters.values(), default=0) < 0
            self.supplied[sku] += SUPPLY.get(op, 0) * units
            self._claim(event["user"] if hold is None else hold.user, sku, "late commit" if late else op, units)
        self.history[at_ms // 1000] = tuple(self._totals[name] for name in COUNTER_NAMES)

    def _note(self, event: Mapping[str, Any], lines: dict[str, int], at_ms: int, hold: Hold | None) -> None:
        op, reservation_id = event["op"], event["reservation_id"]
        if op == "reserve":
            self.reserves[reservation_id] += 1
            self.claimed.update(lines)
            self.holds[reservation_id] = Hold(event["user"], lines, at_ms)
        elif op == "refund_required":
            self.refunds[reservation_id, event["payment_id"]] += 1
        elif op == "commit":
            self.commits[reservation_id] += 1
            self.payments[reservation_id, event["payment_id"]] += 1
            self.sold.update(lines)
        if hold is not None and op in ("release", "expire", "commit") and hold.ended_ms is None:
            hold.ended_ms, hold.ended_by = at_ms, op

    def _claim(self, user: str, sku: str, op: str, units: int) -> None:
        if op in CLAIMS:
            claim = (user, sku)
            self._claims[claim] += CLAIMS[op] * units
            self.most_claimed[claim] = max(self.most_claimed[claim], self._claims[claim])


def fold(events: Iterable[Mapping[str, Any]], prefix: str) -> Fold:
    """Play the events that touch SKUs with the prefix, and the other events of their reservations."""
    result = Fold()
    for event in events:
        lines: Counter[str] = Counter()
        for line in event["lines"]:
            if line["sku"].startswith(prefix):
                lines[line["sku"]] += line["quantity"]
        if lines or event["reservation_id"] in result.holds:
            result.apply(event, {} if event["op"] == "refund_required" else dict(lines))
    return result


def milliseconds(timestamp: str | None) -> int:
    """An RFC 3339 time as unix milliseconds; 0 for none."""
    return round(datetime.fromisoformat(timestamp).timestamp() * 1000) if timestamp else 0
