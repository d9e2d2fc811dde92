"""What the shop and a payment provider were told, against the ledger: parts of orders, and messages of attempts to pay."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from engine.invariants import Invariant, Violation
from engine.values import Event
from loadtests.checker.attempts import Attempts, basket
from loadtests.checker.effects import Recorded
from loadtests.checker.history import Loss

Lines = tuple[tuple[str, int], ...]

RELEASED_BY_PROVIDER = "payment cancelled"
"""The reason of the release of a hold whose attempt to pay was cancelled."""


def parts(op: str, attempts: Sequence[Attempts], recorded: Recorded, losses: Sequence[Loss]) -> Iterator[Violation]:
    """Each part of an order that was shipped, or called off, is on record once; and nothing that nobody asked for.

    A call without lines takes all that is left, which is known to the ledger only.
    """
    asked: dict[str, list[Attempts]] = defaultdict(list)
    for each in attempts:
        asked[each.reservation_id].append(each)
    for reservation_id in {*asked, *(event.reservation_id for event in recorded.events if event.op == op)}:
        of_order = asked[reservation_id]
        sure = Counter(_lines(each) for each in of_order if each.ok and _lines(each))
        possible = Counter(_lines(each) for each in of_order if each.ok or each.unknown)
        whole = possible.pop((), 0)
        events = Counter(_units(event) for event in recorded.of(reservation_id, op))
        for lines, count in (sure - events).items():
            # A loss may have taken one of several; that one of them is there is judged as of any other call.
            if events[lines] and not losses:
                text = f"order {reservation_id} has {events[lines]} {op} events of {lines}, but {count} more were confirmed"
                yield Violation(Invariant.ACKNOWLEDGED, text)
        over = events - possible
        if over.total() > whole:
            again = next((lines for lines in over if possible[lines]), None)
            text = f"order {reservation_id} has {op} events of {sorted(over)}, for which there was no call"
            if again:
                text = f"order {reservation_id} has {events[again]} {op} events of {again} for {possible[again]} calls"
            yield Violation(Invariant.IDEMPOTENCY if again else Invariant.REFUSED, text)


def messages(attempts: Sequence[Attempts], recorded: Recorded) -> Iterator[Violation]:
    """Each message of a provider is noted once, and a hold is given back for one only if the provider was told so."""
    sent: Counter[tuple[str, str, str]] = Counter()
    released: set[tuple[str, str]] = set()
    for each in attempts:
        call = (each.ok + each.unknown + each.refused)[0]
        if each.ok or each.unknown:
            sent[call.reservation_id, call.payment_id, call.message] += 1
        if each.unknown or any(told.state == "released" for told in each.ok):
            released.add((call.reservation_id, call.payment_id))
    noted = Counter(
        (event.reservation_id, event.payment_id, event.detail)
        for event in recorded.events
        if event.op in ("note", "unknown_reservation")
    )
    for (reservation_id, payment_id, message), count in (noted - sent).items():
        text = f"{message} of payment {payment_id} of {reservation_id} was noted {count} times more than it was told"
        yield Violation(Invariant.IDEMPOTENCY, text)
    for event in recorded.events:
        given_back = event.op == "release" and event.reason == RELEASED_BY_PROVIDER
        if given_back and (event.reservation_id, event.payment_id) not in released:
            text = f"{event.reservation_id} was released for payment {event.payment_id}, but nobody was told so"
            yield Violation(Invariant.REFUSED, text)


def payments_used(attempts: Sequence[Attempts]) -> Iterator[Violation]:
    """A payment id that was taken for one reservation, or must be refunded for it, is taken for no other."""
    used: Mapping[str, set[str]] = defaultdict(set)
    for each in attempts:
        if each.ok or any(call.code == "refund_required" for call in each.refused):
            used[each.key].add(each.reservation_id)
    for payment_id, reservations in used.items():
        if len(reservations) > 1:
            text = f"payment {payment_id} was taken for the reservations {', '.join(sorted(reservations))}"
            yield Violation(Invariant.PAYMENTS, text)


def _lines(attempts: Attempts) -> Lines:
    return attempts.basket[1]


def _units(event: Event) -> Lines:
    return basket("", ((line.sku, line.quantity) for line in event.lines))[1]
