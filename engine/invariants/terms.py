"""What a sale allows, judged from the ledger: nobody reserves, or pays late, over a limit, during a pause or outside the window."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

from engine.fold import COUNTERS, LIMITS, Fold
from engine.invariants import Invariant, Violation
from engine.values import Event


class Terms:
    """Follows the attributes of each SKU, the global stop, and what each customer holds and has bought since ever."""

    def __init__(self) -> None:
        self._attributes: dict[str, dict[str, str]] = {}
        self._stopped = False
        self._counts: Counter[tuple[str, str]] = Counter()
        self._given_up: tuple[str, Counter[str]] = ("", Counter())

    def go_on_from(self, fold: Fold) -> None:
        """Take over what is known as of an event."""
        self._attributes = {
            sku: {name: value for name, value in fields.items() if name not in COUNTERS}
            for sku, fields in fold.skus.items()
        }
        self._stopped = bool(fold.selling.get("selling_paused"))
        counts = {(sku, user): int(units) for sku, users in fold.buyers.items() for user, units in users.items()}
        self._counts, self._given_up = Counter(counts), ("", Counter())

    def take(self, event: Event) -> Iterator[Violation]:
        late = event.op == "commit" and event.detail == "late"
        if event.op in ("recount", "configure"):
            self._configure(event)
        elif event.op in ("pause", "resume"):
            self._stopped = event.op == "pause"
        step = LIMITS.get("commit late" if late else event.op, 0)
        for line in event.lines if step else ():
            self._counts[line.sku, event.user] += step * line.quantity
        if event.layout > 1 and (late or event.op == "reserve"):
            yield from self._judge(event)
        self._given_up = ("", Counter())
        if event.op == "release" and event.reason == "paid":
            self._given_up = (event.detail, Counter({line.sku: line.quantity for line in event.lines}))

    def _configure(self, event: Event) -> None:
        attributes = self._attributes.setdefault(event.lines[0].sku, {})
        for name, value in json.loads(event.detail or "[]"):
            attributes[name] = value

    def _judge(self, event: Event) -> Iterator[Violation]:
        paid_as, given_up = self._given_up
        for line in event.lines:
            if paid_as == event.reservation_id and line.quantity <= given_up[line.sku]:
                # The buyer held these units by a later checkout of the same cart.
                continue
            if why := self._against(event, line.sku):
                text = f"event {event.epoch}-{event.seq} ({event.op}) has {line.quantity} of SKU {line.sku} for {event.user}, {why}"
                yield Violation(Invariant.TERMS, text)

    def _against(self, event: Event, sku: str) -> str:
        attributes, count = self._attributes.get(sku, {}), self._counts[sku, event.user]
        limit = attributes.get("limit_per_customer")
        if limit and count > int(limit):
            return f"who has {count} of it then; the limit is {limit}"
        if self._stopped or attributes.get("paused"):
            return "while its sale was paused"
        if event.at_ms < int(attributes.get("sale_starts_ms") or 0):
            return "before its sale started"
        ends_ms = attributes.get("sale_ends_ms")
        return "after its sale had ended" if ends_ms and event.at_ms >= int(ends_ms) else ""
