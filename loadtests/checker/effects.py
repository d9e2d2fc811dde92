"""Effects that were acknowledged, and their events in the ledger."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from engine.invariants import Invariant, Violation
from engine.values import Event
from loadtests.checker.attempts import Basket, basket
from loadtests.checker.history import Call, Loss, Outcome
from loadtests.checker.windows import Windows

NOTED = {
    "noted": ("note",),
    "unknown_reservation": ("unknown_reservation",),
    "released": ("release", "expire"),
}
"""The events behind what a payment provider was told. Of what is ignored nothing is written."""


class Margins(Protocol):
    """Milliseconds, as in `told.Bounds`."""

    @property
    def promised_ms(self) -> float: ...

    @property
    def slack_ms(self) -> float: ...


class Recorded:
    """The ledger by reservation, by payment and by time."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.events = events
        self.at_ms = [event.at_ms for event in events]
        self.by_reservation: dict[str, list[Event]] = {}
        self.baskets: dict[str, Basket] = {}
        self.paid_by: dict[str, list[str]] = {}
        self.commits: Counter[tuple[str, str]] = Counter()
        self.refunds: Counter[tuple[str, str]] = Counter()
        for event in events:
            name = event.reservation_id
            if not name:
                continue
            self.by_reservation.setdefault(name, []).append(event)
            if event.op == "reserve":
                self.baskets[name] = basket(event.user, ((line.sku, line.quantity) for line in event.lines))
            elif event.op == "commit":
                self.paid_by.setdefault(name, []).append(event.payment_id)
                self.commits[name, event.payment_id] += 1
            elif event.op == "refund_required":
                self.refunds[name, event.payment_id] += 1

    def of(self, reservation_id: str, *ops: str) -> list[Event]:
        """Its events of these kinds; none given: all."""
        return [event for event in self.by_reservation.get(reservation_id, ()) if event.op in ops or not ops]


def acknowledged(call: Call, recorded: Recorded, skewed: Windows, slack_ms: float) -> tuple[Violation | None, bool]:
    """What is wrong with the effect of one call, None if it is on record or had none; and whether no loss excuses that.

    An event later than the answer is that of a repeat: what was answered was lost.
    """
    name, durable = f"reservation {call.reservation_id}", False
    ops: tuple[str, ...]
    match call.operation, call.outcome, call.code:
        case "reserve", Outcome.OK, _:
            ops, what = ("reserve",), "reserve events"
        case "release", Outcome.OK, _:
            ops, what = ("release", "expire"), "release or expire events"
        case "extend", Outcome.OK, _:
            ops, what = ("extend",), f"extend events until {call.deadline_ms}"
        case "commit", Outcome.OK, _:
            ops, what, name, durable = ("commit",), "commit events", f"order {call.reservation_id}", True
        case "commit", Outcome.REFUSED, "refund_required":
            ops, what, name, durable = ("refund_required",), "refund events", f"payment {call.key}", True
        case "fulfil" | "cancel", Outcome.OK, _:
            # A call without lines may have found nothing left.
            asked = basket("", call.lines)[1]
            if not asked:
                return None, False
            ops, what, name = (call.operation,), f"{call.operation} events of {asked}", f"order {call.reservation_id}"
        case "notify", Outcome.OK, _ if call.state in NOTED:
            ops, what, durable = NOTED[call.state], f"events of {call.message}", call.state == "unknown_reservation"
        case _:
            return None, False
    found = recorded.of(call.reservation_id, *ops)
    if call.operation == "commit":
        found = [event for event in found if event.payment_id == call.key]
    if call.operation in ("fulfil", "cancel"):
        found = [event for event in found if _lines(event) == basket("", call.lines)[1]]
    if call.operation == "notify" and call.state != "released":
        found = [event for event in found if (event.payment_id, event.detail) == (call.payment_id, call.message)]
    if call.operation == "extend" and call.deadline_ms:
        found = [event for event in found if event.deadline_ms == call.deadline_ms]
    in_time = [
        event
        for event in found
        if event.at_ms <= call.answered_ms + slack_ms or skewed.touch(call.answered_ms, event.at_ms)
    ]
    if in_time:
        return (_other_words(call, in_time[0], recorded) if call.operation == "reserve" else None), False
    if found:
        text = f"{name} was confirmed {found[0].at_ms - call.answered_ms:.0f} ms before its {found[0].op} event"
    else:
        text = f"{name} has 0 {what}"
    return Violation(Invariant.ACKNOWLEDGED, text), durable


def _lines(event: Event) -> tuple[tuple[str, int], ...]:
    return basket("", ((line.sku, line.quantity) for line in event.lines))[1]


def _other_words(call: Call, event: Event, recorded: Recorded) -> Violation | None:
    """What the ledger says of a reservation other than its buyer was told. A repeat may be told of an extension."""
    asked, has = basket("", call.lines)[1], _lines(event)
    name = f"reservation {call.reservation_id}"
    if asked != has:
        return Violation(Invariant.ACKNOWLEDGED, f"{name} was told to be of {asked}, the ledger has {has}")
    deadlines = {each.deadline_ms for each in recorded.of(call.reservation_id, "reserve", "extend")}
    if call.deadline_ms and event.deadline_ms and call.deadline_ms not in deadlines:
        text = f"{name} was told to last until {call.deadline_ms}, the ledger has {event.deadline_ms}"
        return Violation(Invariant.ACKNOWLEDGED, text)
    return None


def prefix(
    missing: Iterable[Call], recorded: Recorded, losses: Sequence[Loss], skewed: Windows, margins: Margins
) -> Iterator[Violation]:
    """Nothing is on record from between the answer to what a loss took and that loss.

    Whichever of several losses took it, nothing from before the first may have stayed.
    """
    first_lost: dict[int, Call] = {}
    for call in missing:
        possible = [
            number
            for number, loss in enumerate(losses)
            if call.answered_ms > loss.from_ms - margins.promised_ms and call.invoked_ms < loss.until_ms
        ]
        number = min(possible, key=lambda each: losses[each].from_ms)
        if number not in first_lost or call.answered_ms < first_lost[number].answered_ms:
            first_lost[number] = call
    for number, call in first_lost.items():
        from_ms, until_ms = call.answered_ms + margins.slack_ms, losses[number].from_ms - margins.slack_ms
        at = bisect_right(recorded.at_ms, from_ms)
        if at == len(recorded.events) or recorded.at_ms[at] >= until_ms or skewed.touch(call.invoked_ms, until_ms):
            continue
        kept = recorded.events[at]
        text = (
            f"{call.operation} {call.reservation_id}, answered {losses[number].from_ms - call.answered_ms:.0f} ms before a loss, "
            f"is gone, but {kept.op} {kept.reservation_id}, which came {kept.at_ms - call.answered_ms:.0f} ms later, is not"
        )
        yield Violation(Invariant.PREFIX, text)
