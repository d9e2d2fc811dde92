"""A shop that is right, simulated: what its buyers were told, and the ledger it leaves behind, for checkers to judge."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from engine.values import Event, Line
from loadtests.checker.history import Call, Loss, Outcome, RefusedLine

START_MS = 1_800_000_000_000
TAIL_MS = 300
"""What a loss takes at most, up to the last payment that was answered."""

DOWN_MS = 400


@dataclass
class Record:
    user: str
    lines: tuple[Line, ...]
    deadline_ms: int
    state: str = "reserved"
    payment_id: str = ""
    late: bool = False
    refunds: dict[str, tuple[RefusedLine, ...]] = field(default_factory=dict)


@dataclass
class Told:
    """A finished history. `units` is what was free at first."""

    calls: list[Call]
    events: list[Event]
    losses: list[Loss]
    units: dict[str, int]


class Shop:
    """One counter for each SKU; calls overlap, some go unanswered and are repeated, some are repeated for no reason."""

    def __init__(self, seed: int, units: dict[str, int], losses_ms: tuple[int, ...] = ()) -> None:
        self._pick = random.Random(seed)
        self._units = units
        self._losses = [Loss(START_MS + at_ms, START_MS + at_ms + DOWN_MS) for at_ms in losses_ms]
        self._agenda: list[tuple[float, int, Callable[[int], None]]] = []
        self._number = 0
        self._durable = self._since_ms = 0
        self.calls: list[Call] = []
        self.events: list[Event] = []
        self._free: dict[str, int] = {}
        self._due: list[tuple[int, str]] = []
        self._records: dict[str, Record] = {}
        self._answers: dict[str, int] = {}
        self._gone_on: set[str] = set()
        for sku, each in units.items():
            self._emit(START_MS - 10, "recount", lines=(Line(sku, each),))
        for loss in self._losses:
            self._at(loss.from_ms, lambda now_ms: self._lose(now_ms))

    def trade(self, baskets: int, length_ms: int, hold_ms: tuple[int, int] = (300, 2_000)) -> Told:
        skus = sorted(self._units)
        for number in range(baskets):
            chosen = self._pick.sample(skus, min(len(skus), self._pick.choice((1, 1, 1, 2))))
            asked = {
                "user": f"buyer-{number}",
                "key": f"key-{number}",
                "lines": tuple((sku, self._pick.randint(1, 2)) for sku in chosen),
                "hold_ms": self._pick.randint(*hold_ms),
            }
            self._at(START_MS + self._pick.randrange(length_ms), lambda now, asked=asked: self._call("reserve", asked))
        while self._agenda:
            now_ms, _, act = heapq.heappop(self._agenda)
            self._now_ms = now_ms
            act(int(now_ms))
        self._end_due(int(self._now_ms) + 1_000_000)
        return Told(sorted(self.calls, key=lambda call: call.invoked_ms), self.events, self._losses, self._units)

    def _at(self, at_ms: float, act: Callable[[int], None]) -> None:
        self._number += 1
        heapq.heappush(self._agenda, (at_ms, self._number, act))

    def _call(self, operation: str, asked: dict[str, Any]) -> None:
        """Leave now, happen a bit later, be answered after that. What is under way when data is lost has no answer."""
        invoked_ms = self._now_ms
        for loss in self._losses:
            if loss.from_ms <= invoked_ms < loss.until_ms:
                self._at(loss.until_ms + self._pick.randint(0, 50), lambda now: self._call(operation, asked))
                return
        at_ms = int(invoked_ms) + self._pick.randint(0, 40)
        answered_ms = at_ms + self._pick.randint(0, 40)
        cut = next((loss for loss in self._losses if invoked_ms < loss.from_ms <= answered_ms), None)
        known: dict[str, Any] = {"reservation_id": asked["id"]} if operation != "reserve" else {"lines": asked["lines"]}
        call = {"operation": operation, "client": 0, "user": asked["user"], "key": asked["key"]} | known

        def happen(now_ms: int) -> None:
            if cut is not None and now_ms >= cut.from_ms:
                return
            answer = getattr(self, f"_{operation}")(asked, now_ms)
            upto = self.events[-1].seq
            if cut is None:
                self._at(
                    answered_ms, lambda now: self._answered(call | {"invoked_ms": invoked_ms}, asked, answer, upto)
                )

        self._at(at_ms, happen)
        if cut is not None:
            self.calls.append(Call(**call, invoked_ms=invoked_ms))
            self._at(cut.until_ms + self._pick.randint(0, 100), lambda now: self._call(operation, asked))

    def _answered(self, call: dict[str, Any], asked: dict[str, Any], answer: dict[str, Any], upto: int) -> None:
        operation, again = call["operation"], lambda now: self._call(operation, asked)
        if self._pick.random() < 0.08:
            self.calls.append(Call(**call))
            self._at(self._now_ms + self._pick.randint(0, 60), again)
            return
        if self._pick.random() < 0.08 and answer["outcome"] is Outcome.OK:
            self._at(self._now_ms + self._pick.randint(0, 200), again)
        if operation == "commit" and answer.get("code") != "not_found":
            self._durable = max(self._durable, upto)
        told = Call(**call | answer, answered_ms=self._now_ms)
        self.calls.append(told)
        if operation == "reserve" and told.outcome is Outcome.OK and told.key not in self._gone_on:
            self._gone_on.add(told.key)
            self._go_on(told)

    def _go_on(self, told: Call) -> None:
        chance, wait_ms = self._pick.random(), self._pick.choice((50, 200, 1_000, 3_000))
        asked = {"id": told.reservation_id, "user": told.user, "key": f"{told.key}-more", "hold_ms": 900}
        operation = "commit" if chance < 0.4 else "release" if chance < 0.6 else "extend" if chance < 0.75 else ""
        if operation:
            self._at(self._now_ms + self._pick.randint(0, wait_ms), lambda now: self._call(operation, asked))

    def _reserve(self, asked: dict[str, Any], now_ms: int) -> dict[str, Any]:
        self._end_due(now_ms)
        name = f"r-{asked['key']}"
        if name not in self._records:
            short = [(sku, units, self._free[sku]) for sku, units in asked["lines"]]
            if any(units > free for _, units, free in short):
                told = tuple(RefusedLine(*line, _verdict(line[1], line[2])) for line in short)
                return {"outcome": Outcome.REFUSED, "code": "lines_unavailable", "refused": told}
            lines = tuple(Line(sku, units) for sku, units in asked["lines"])
            self._emit(now_ms, "reserve", asked["user"], name, lines, deadline_ms=now_ms + asked["hold_ms"])
        record = self._records[name]
        state = {"release": "released", "expire": "expired", "commit": "committed"}.get(record.state, record.state)
        told = {"reservation_id": name, "deadline_ms": record.deadline_ms, "state": state}
        return {"outcome": Outcome.OK} | told

    def _commit(self, asked: dict[str, Any], now_ms: int) -> dict[str, Any]:
        self._end_due(now_ms)
        record, payment_id = self._records.get(asked["id"]), asked["key"]
        if record is None:
            return {"outcome": Outcome.REFUSED, "code": "not_found"}
        live, short = record.state == "reserved", any(self._free[line.sku] < line.quantity for line in record.lines)
        if not record.payment_id and payment_id not in record.refunds:
            op, detail = "refund_required" if short and not live else "commit", "" if live else "late"
            self._emit(now_ms, op, record.user, asked["id"], record.lines, payment_id=payment_id, detail=detail)
        if payment_id in record.refunds:
            return {"outcome": Outcome.REFUSED, "code": "refund_required", "refused": record.refunds[payment_id]}
        return {"outcome": Outcome.OK, "late": record.late}

    def _release(self, asked: dict[str, Any], now_ms: int) -> dict[str, Any]:
        self._end_due(now_ms)
        record = self._records.get(asked["id"])
        if record is None:
            return {"outcome": Outcome.REFUSED, "code": "not_found"}
        if record.payment_id:
            return {"outcome": Outcome.REFUSED, "code": "already_committed"}
        if record.state == "reserved":
            self._emit(now_ms, "release", record.user, asked["id"], record.lines)
        return {"outcome": Outcome.OK}

    def _extend(self, asked: dict[str, Any], now_ms: int) -> dict[str, Any]:
        self._end_due(now_ms)
        record = self._records.get(asked["id"])
        if asked["key"] not in self._answers:
            if record is None or record.state != "reserved":
                return {"outcome": Outcome.REFUSED, "code": "reservation_expired" if record else "not_found"}
            deadline_ms = now_ms + asked["hold_ms"]
            operation = f"{asked['key']} 1"
            self._emit(
                now_ms, "extend", record.user, asked["id"], record.lines, deadline_ms=deadline_ms, operation=operation
            )
        return {"outcome": Outcome.OK, "deadline_ms": self._answers[asked["key"]]}

    def _end_due(self, now_ms: int) -> None:
        """End what is due; the sweeper may have been there before."""
        while self._due and self._due[0][0] <= now_ms:
            deadline_ms, name = heapq.heappop(self._due)
            record = self._records.get(name)
            if record is None or record.state != "reserved" or record.deadline_ms != deadline_ms:
                continue
            at_ms = min(now_ms, max(deadline_ms + self._pick.randint(0, 30), self.events[-1].at_ms))
            self._emit(at_ms, "expire", record.user, name, record.lines)

    def _emit(
        self, at_ms: int, op: str, user: str = "", name: str = "", lines: tuple[Line, ...] = (), **more: Any
    ) -> None:
        whole = {"deadline_ms": 0, "payment_id": "", "reason": "", "request_id": "", "detail": ""} | more
        at_ms = max(at_ms, self._since_ms, self.events[-1].at_ms if self.events else 0)
        event = Event(1, len(self.events) + 1, at_ms, op, user, user, name, lines, **whole)
        self.events.append(event)
        self._apply(event)

    def _apply(self, event: Event) -> None:
        record = self._records.get(event.reservation_id)
        late = event.op == "commit" and record is not None and record.state != "reserved"
        step = {"recount": 1, "reserve": -1, "release": 1, "expire": 1, "commit": -1 if late else 0}.get(event.op, 0)
        for line in event.lines:
            self._free[line.sku] = self._free.get(line.sku, 0) + step * line.quantity
        if event.op in ("reserve", "extend"):
            heapq.heappush(self._due, (event.deadline_ms, event.reservation_id))
        if event.op == "reserve":
            record = Record(event.user, event.lines, event.deadline_ms)
            self._records[event.reservation_id] = record
        elif record is None:
            return
        elif event.op == "extend":
            record.deadline_ms = event.deadline_ms
            self._answers[event.operation.split()[0]] = event.deadline_ms
        elif event.op == "refund_required":
            short = [(line.sku, line.quantity, self._free[line.sku]) for line in event.lines]
            told = tuple(RefusedLine(*each, _verdict(each[1], each[2])) for each in short)
            record.refunds[event.payment_id] = told
        else:
            record.state, record.late = event.op, late
            record.payment_id = event.payment_id

    def _lose(self, now_ms: int) -> None:
        """Forget the end of the ledger, as far as no payment was answered."""
        self._since_ms = now_ms + DOWN_MS
        since_ms = now_ms - self._pick.randint(0, TAIL_MS)
        kept = [event for event in self.events if event.at_ms <= since_ms or event.seq <= self._durable]
        self.events, self._free, self._records, self._answers = kept, {}, {}, {}
        self._due = []
        for event in kept:
            self._apply(event)


def _verdict(units: int, free: int) -> str:
    return "ok" if units <= free else "insufficient" if free else "all_held"


def units(count: int, each: int) -> dict[str, int]:
    return {f"sku-{number}": each for number in range(count)}
