"""The records of a run and its ledger, in the words in which `engine.invariants` compares them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from engine.values import Event
from loadtests.checker.history import Call, Outcome, RefusedLine
from loadtests.checker.told import Bounds
from loadtests.evidence import Evidence, Missing
from loadtests.ledger import event_of, lines_of
from loadtests.records import Payment, Records

OUTCOMES = {"committed": Outcome.OK}
"""What a payment was answered, as an outcome. Every other answer refuses it."""


def events(documents: Iterable[Mapping[str, Any]], prefix: str) -> Iterator[Event]:
    """The events of GET /v1/audit that touch SKUs with the prefix, and the other events of their reservations."""
    reservations: set[str] = set()
    for document in documents:
        lines = lines_of(document, prefix)
        reservation_id = document["reservation_id"]
        if not lines and reservation_id not in reservations:
            continue
        if reservation_id:
            reservations.add(reservation_id)
        yield event_of(document, lines)


def calls(records: Records) -> Iterator[Call]:
    """Reservations and payments, one call for each answer that differs. Of those granted nobody kept when."""
    for checkout in records.reserved:
        yield Call(
            "reserve",
            0,
            checkout.user,
            checkout.reservation_id,
            checkout.at_ms,
            outcome=Outcome.OK,
            reservation_id=checkout.reservation_id,
            lines=tuple(checkout.lines.items()),
            deadline_ms=checkout.deadline_ms,
        )
    for refusal in records.refusals:
        yield Call(
            "reserve",
            0,
            refusal.user,
            "",
            refusal.from_ms,
            refusal.until_ms,
            Outcome.REFUSED,
            lines=tuple((sku, requested) for sku, requested, _, _ in refusal.lines),
            code="lines_unavailable",
            refused=tuple(RefusedLine(sku, asked, -1, verdict, due) for sku, asked, verdict, due in refusal.lines),
        )
    for payment in records.payments:
        yield from _told(payment)


def _told(payment: Payment) -> Iterator[Call]:
    one = Call("commit", 0, "", payment.payment_id, 0, reservation_id=payment.reservation_id)
    if payment.unknown:
        yield one
    for answer in payment.outcomes:
        yield Call(
            one.operation,
            one.client,
            one.user,
            one.key,
            one.invoked_ms,
            outcome=OUTCOMES.get(answer, Outcome.REFUSED),
            reservation_id=one.reservation_id,
            code="" if answer in OUTCOMES else answer,
        )


def bounds(records: Records, missing: Missing) -> Bounds:
    """Times are as wide as the clocks are sure already. A call of unknown outcome may have a reservation that nobody can name."""
    complete = {"commit"} if records.unknown else {"commit", "reserve"}
    if Evidence.RECORDS in missing:
        complete = set()
    return Bounds(slack_ms=0, complete=frozenset(complete))
