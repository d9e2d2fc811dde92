"""What buyers were told against the ledger: every promise is kept in it, and nothing is in it that nobody asked for.

A call is tied to its events by the reservation's id, and a payment's by the payment's as well. A refused reservation
has no id, and the ledger has no idempotency key; there the user and the lines tell: an event of a user and lines of which
nobody was told needs an attempt of that user for those lines whose outcome is unknown. So a history in which every basket
has a user of its own is judged basket by basket; users who come back hide a refused basket behind an unknown one of theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from engine.invariants import Invariant, Violation
from engine.values import Event
from loadtests.checker.attempts import OPERATIONS, Attempts, by_key, in_order, refusals
from loadtests.checker.effects import Recorded, acknowledged, prefix
from loadtests.checker.history import Call, Down, Loss, Outcome, Skew
from loadtests.checker.orders_told import messages, parts, payments_used
from loadtests.checker.standing import Standing, standings
from loadtests.checker.stock_told import false_limits, false_refusals, free, returns
from loadtests.checker.windows import Windows

DECIDED = ("refund_required", "already_committed")
"""What a payment is refused with for good."""

EVERY_CALL = frozenset(OPERATIONS)


@dataclass(frozen=True)
class Bounds:
    """In milliseconds.

    `promised_ms`: what was acknowledged so long before a loss, or after that, may be lost; commits and refunds never.
    `slack_ms`: how far a call's times may be off Redis's clock. `return_ms`: from a hold's deadline to its units' return; None: not judged.
    `read_ms`: when the ledger was read. `complete`: operations of which every call is in the history.
    `down`: when nothing ran, which puts the return of holds off.
    """

    promised_ms: float = 1_000
    slack_ms: float = 50
    return_ms: float | None = None
    read_ms: float = 0
    complete: frozenset[str] = EVERY_CALL
    down: Sequence[Down] = ()


@dataclass(frozen=True)
class Case:
    """Calls and ledger, looked up from every side."""

    attempts: dict[str, list[Attempts]]
    recorded: Recorded
    losses: Sequence[Loss]
    lost: Windows
    skewed: Windows
    bounds: Bounds

    def settled(self, from_ms: float, until_ms: float) -> bool:
        """Whether nothing can have been lost between, and Redis's clock went as the buyers' did."""
        return not self.lost.touch(from_ms, until_ms) and not self.skewed.touch(from_ms, until_ms)


def told(
    calls: Iterable[Call],
    events: Sequence[Event],
    losses: Sequence[Loss] = (),
    skews: Sequence[Skew] = (),
    bounds: Bounds = Bounds(),
) -> Iterator[Violation]:
    """All that calls and the whole ledger, in order, contradict each other in. Linear in both but for sorting."""
    calls = list(calls)
    lost, skewed = (
        Windows(losses, bounds.promised_ms, bounds.slack_ms),
        Windows(skews, bounds.slack_ms, bounds.slack_ms),
    )
    case = Case(by_key(calls), Recorded(events), losses, lost, skewed, bounds)
    yield from _kept(case, calls)
    yield from _reservations(case)
    yield from _unasked(case)
    yield from _payments(case)
    yield from payments_used(case.attempts["commit"])
    for op in {"fulfil", "cancel"} & bounds.complete:
        yield from parts(op, case.attempts[op], case.recorded, losses)
    if "notify" in bounds.complete:
        yield from messages(case.attempts["notify"], case.recorded)
    yield from _owners(case, calls)
    deadlines: dict[str, int] = {}
    for call in calls:
        if call.operation == "reserve" and call.outcome is Outcome.OK and call.deadline_ms:
            deadlines.setdefault(call.reservation_id, call.deadline_ms)
    unjudged = Windows((*losses, *skews), bounds.promised_ms, bounds.slack_ms)
    refused = list(refusals(calls, case.attempts["commit"]))
    yield from false_refusals(refused, free(events, deadlines), unjudged, bounds.slack_ms)
    yield from false_limits(refused, events, deadlines, unjudged, bounds.slack_ms)
    idle = Windows((*losses, *skews, *bounds.down), bounds.promised_ms, bounds.slack_ms)
    yield from returns(events, deadlines, skewed, idle, bounds.return_ms, bounds.read_ms)


def _kept(case: Case, calls: Sequence[Call]) -> Iterator[Violation]:
    """What was acknowledged is there, or was lost as the promise allows: together with all that came after it."""
    missing: list[Call] = []
    seen: set[tuple[str, ...]] = set()
    for call in calls:
        wrong, durable = acknowledged(call, case.recorded, case.skewed, case.bounds.slack_ms)
        if wrong is None:
            continue
        excused = not durable and any(
            call.answered_ms > loss.from_ms - case.bounds.promised_ms and call.invoked_ms < loss.until_ms
            for loss in case.losses
        )
        if excused:
            missing.append(call)
        elif (once := (call.operation, call.reservation_id, wrong.text)) not in seen:
            seen.add(once)
            yield wrong
    yield from prefix(missing, case.recorded, case.losses, case.skewed, case.bounds)


def _reservations(case: Case) -> Iterator[Violation]:
    """A key has one reservation, a reservation one key and one event."""
    owner: dict[str, Attempts] = {}
    for attempts in case.attempts["reserve"]:
        ids = {call.reservation_id for call in attempts.ok}
        if len(ids) > 1:
            text = f"the same call of {attempts.user} was given reservations {', '.join(sorted(ids))}"
            yield Violation(Invariant.IDEMPOTENCY, text)
        for reservation_id in sorted(ids):
            if owner.setdefault(reservation_id, attempts) is not attempts:
                yield Violation(Invariant.IDEMPOTENCY, f"reservation {reservation_id} was given to two calls")
                continue
            if (count := len(case.recorded.of(reservation_id, "reserve"))) > 1:
                yield Violation(Invariant.IDEMPOTENCY, f"reservation {reservation_id} has {count} reserve events")
        yield from _repeats(case, attempts)
    for attempts in case.attempts["extend"]:
        yield from _repeats(case, attempts)


def _repeats(case: Case, attempts: Attempts) -> Iterator[Violation]:
    """What was once granted is granted again: an extension in the same words, a reservation as it is then."""
    granted = in_order(attempts.ok)
    if not granted:
        return
    first = granted[0]
    words = f"{first.operation} {first.reservation_id}"
    for call in granted:
        if not case.settled(first.invoked_ms, call.answered_ms):
            continue
        if call.operation == "reserve":
            yield from _as_it_is(case, call)
        elif first.deadline_ms != call.deadline_ms:
            text = f"{words} was told to last until {first.deadline_ms}, and, asked again, until {call.deadline_ms}"
            yield Violation(Invariant.IDEMPOTENCY, text)
    known_ms = min([first.answered_ms, *_recorded_ms(case, first)])
    for call in attempts.refused:
        again = call.invoked_ms > known_ms and call.operation == "reserve" and call.refused
        if again and case.settled(first.invoked_ms, call.answered_ms):
            yield Violation(Invariant.IDEMPOTENCY, f"{words} was granted, and, asked again, refused as {call.code}")


def _as_it_is(case: Case, call: Call) -> Iterator[Violation]:
    """The state and the deadline that an answer gives are those that the reservation had at a moment of the call."""
    slack_ms, name = case.bounds.slack_ms, call.reservation_id
    if not call.state:
        return
    possible = set(standings(case.recorded.of(name), call.invoked_ms - slack_ms, call.answered_ms + slack_ms))
    if Standing(call.state, call.deadline_ms) not in possible:
        was = ", ".join(f"{each.state or 'nothing'} until {each.deadline_ms}" for each in possible)
        text = f"reservation {name} was told to be {call.state} until {call.deadline_ms}, but was {was or 'no more'}"
        yield Violation(Invariant.IDEMPOTENCY, text)


def _recorded_ms(case: Case, call: Call) -> Iterator[float]:
    """By when the effect of the call was there, as the ledger has it."""
    for event in case.recorded.of(call.reservation_id, call.operation):
        if call.operation != "commit" or event.payment_id == call.key:
            yield event.at_ms + case.bounds.slack_ms


def _unasked(case: Case) -> Iterator[Violation]:
    """Nobody has stock who was refused it, or never asked for it."""
    if "reserve" not in case.bounds.complete:
        return
    known = {call.reservation_id for attempts in case.attempts["reserve"] for call in attempts.ok}
    unclear: dict[object, int] = {}
    refused = set()
    for attempts in case.attempts["reserve"]:
        if attempts.unknown and not attempts.ok:
            unclear[attempts.basket] = unclear.get(attempts.basket, 0) + 1
        elif attempts.refused and not attempts.ok:
            refused.add(attempts.basket)
    for reservation_id, basket in case.recorded.baskets.items():
        if reservation_id in known:
            continue
        if unclear.get(basket):
            unclear[basket] -= 1
        elif basket in refused:
            text = f"reservation {reservation_id} is in the ledger, but {basket[0]} was refused it"
            yield Violation(Invariant.REFUSED, text)
        else:
            text = f"reservation {reservation_id} is in the ledger, but no buyer was told of it"
            yield Violation(Invariant.REFUSED, text)


def _payments(case: Case) -> Iterator[Violation]:
    """Every payment has one answer and one effect, and each reservation one payment."""
    for reservation_id, payments in case.recorded.paid_by.items():
        if len(set(payments)) > 1:
            yield Violation(Invariant.IDEMPOTENCY, f"order {reservation_id} was paid {len(payments)} times")
    for attempts in case.attempts["commit"]:
        yield from _payment(case, attempts)
    commits, refunds = case.recorded.commits, case.recorded.refunds
    if "commit" in case.bounds.complete:
        known = {(attempts.reservation_id, attempts.key) for attempts in case.attempts["commit"]}
        for _, payment_id in refunds.keys() - known:
            text = f"payment {payment_id} is to be refunded by the ledger, but nobody made it"
            yield Violation(Invariant.REFUSED, text)
        for reservation_id, payment_id in commits.keys() - known:
            text = f"order {reservation_id} is paid with {payment_id} by the ledger, but nobody made that payment"
            yield Violation(Invariant.REFUSED, text)


def _payment(case: Case, attempts: Attempts) -> Iterator[Violation]:
    """All that was told of one payment, and what the ledger has of it."""
    key = (attempts.reservation_id, attempts.key)
    commits, refunds = case.recorded.commits[key], case.recorded.refunds[key]
    name = f"payment {attempts.key} of {attempts.reservation_id}"
    codes = {call.code for call in attempts.refused}
    if attempts.ok and codes & set(DECIDED):
        answers = ", ".join(["committed", *sorted(codes)])
        yield Violation(Invariant.IDEMPOTENCY, f"{name} was answered in different ways: {answers}")
    elif (attempts.ok or commits) and attempts.refused:
        known_ms = min([call.answered_ms for call in attempts.ok] + list(_recorded_ms(case, attempts.refused[0])))
        after = {call.code for call in attempts.refused if call.invoked_ms > known_ms}
        if after and (attempts.ok or attempts.unknown):
            text = f"{name} was committed, and, asked again, refused as {', '.join(sorted(after))}"
            yield Violation(Invariant.IDEMPOTENCY, text)
    if commits > 1:
        yield Violation(Invariant.IDEMPOTENCY, f"{name} has {commits} commit events")
    if refunds > 1:
        yield Violation(Invariant.IDEMPOTENCY, f"{name} has {refunds} refund events")
    if attempts.refused and not attempts.ok and not attempts.unknown:
        if commits:
            yield Violation(Invariant.REFUSED, f"{name} was refused, but has {commits} commit events")
        if refunds and "refund_required" not in codes:
            yield Violation(Invariant.REFUSED, f"{name} was refused, but has {refunds} refund events")


def _owners(case: Case, calls: Sequence[Call]) -> Iterator[Violation]:
    """Events have the user whose reservation it is; who releases or extends one is that user, or says why."""
    owner = {call.reservation_id: call.user for each in case.attempts["reserve"] for call in each.ok}
    asked: dict[tuple[str, str], set[tuple[str, bool]]] = {}
    for call in calls:
        if call.operation in ("release", "extend"):
            done = call.outcome is not Outcome.REFUSED
            asked.setdefault((call.operation, call.reservation_id), set()).add((call.user, done))
            if call.outcome is Outcome.OK and call.user != owner.get(call.reservation_id, call.user):
                text = f"{call.operation} of {call.reservation_id} was granted to {call.user}, whose it isn't"
                yield Violation(Invariant.OWNERSHIP, text)
    for reservation_id, events in case.recorded.by_reservation.items():
        for event in events:
            user = owner.get(reservation_id, event.user)
            if event.user != user:
                text = f"the {event.op} event of {reservation_id} is of {event.user}, but the reservation of {user}"
                yield Violation(Invariant.OWNERSHIP, text)
            if event.op not in case.bounds.complete & {"release", "extend"} or event.reason:
                continue
            callers = asked.get((event.op, reservation_id), set())
            if (user, True) not in callers:
                refused = (user, False) in callers
                words = f"{reservation_id} has a {event.op} event, but {user}"
                text = f"{words} was refused it" if refused else f"{words} didn't ask for it"
                yield Violation(Invariant.REFUSED if refused else Invariant.OWNERSHIP, text)
