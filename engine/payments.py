"""What a payment provider tells, and what becomes of it. Providers repeat themselves, and don't keep the order."""

from __future__ import annotations

from enum import StrEnum

import structlog

from engine.durable import Durability
from engine.errors import AlreadyCommitted, NotFound, PaymentAlreadyUsed, RefundRequired
from engine.ids import DerivedIds
from engine.records import Records
from engine.reservations import Reservations
from engine.scripts import Scripts
from engine.values import Operation, Origin

log = structlog.get_logger()


class PaymentEvent(StrEnum):
    SUCCEEDED = "payment.succeeded"
    PROCESSING = "payment.processing"
    FAILED = "payment.failed"
    CANCELED = "payment.canceled"
    CANCELLED = "payment.cancelled"


class Outcome(StrEnum):
    COMMITTED = "committed"
    REFUND_REQUIRED = "refund_required"
    NOTED = "noted"
    RELEASED = "released"
    IGNORED = "ignored"
    UNKNOWN_RESERVATION = "unknown_reservation"


class Payments:
    def __init__(
        self, scripts: Scripts, records: Records, durability: Durability, reservations: Reservations, ids: DerivedIds
    ) -> None:
        self._records = records
        self._scripts = scripts
        self._durability = durability
        self._reservations = reservations
        self._ids = ids

    def take(self, event: PaymentEvent, event_id: str, reservation_id: str, payment_id: str, origin: Origin) -> Outcome:
        """Do what the event asks for. The same event again has the same outcome; docs/payments.md has them all.

        An event for a reservation that doesn't exist is kept in the ledger: money may have been taken for it.
        """
        try:
            match event:
                case PaymentEvent.SUCCEEDED:
                    return self._succeeded(reservation_id, payment_id, origin)
                case PaymentEvent.CANCELED | PaymentEvent.CANCELLED:
                    return self._cancelled(reservation_id, payment_id, origin)
        except NotFound:
            log.warning("unknown_reservation", event_type=event, reservation_id=reservation_id, payment_id=payment_id)
        return self._noted(event, event_id, reservation_id, payment_id, origin)

    def _succeeded(self, reservation_id: str, payment_id: str, origin: Origin) -> Outcome:
        try:
            return self._paid(reservation_id, payment_id, origin)
        except RefundRequired:
            return Outcome.REFUND_REQUIRED
        except PaymentAlreadyUsed:
            # The money is that of the other reservation: giving it back would take that one's payment away.
            log.warning("payment_already_used", reservation_id=reservation_id, payment_id=payment_id)
            return Outcome.IGNORED

    def _paid(self, reservation_id: str, payment_id: str, origin: Origin) -> Outcome:
        try:
            self._reservations.commit(reservation_id, origin, payment_id, Operation())
        except AlreadyCommitted:
            noted = self._scripts.refund(reservation_id, origin, payment_id)
            self._durability.wait(noted.epoch, noted.seq)
            return Outcome.REFUND_REQUIRED if noted.required else Outcome.COMMITTED
        return Outcome.COMMITTED

    def _cancelled(self, reservation_id: str, payment_id: str, origin: Origin) -> Outcome:
        """Release the hold, whoever's it is, unless it is paid for or another attempt to pay was noted since."""
        try:
            released = self._reservations.release_attempt(reservation_id, origin, payment_id)
        except AlreadyCommitted:
            return Outcome.IGNORED
        return Outcome.RELEASED if released else Outcome.IGNORED

    def _noted(
        self, event: PaymentEvent, event_id: str, reservation_id: str, payment_id: str, origin: Origin
    ) -> Outcome:
        once = Operation(self._ids.of("payment event", event, event_id, reservation_id, payment_id), "1")
        self._records.at_hand(reservation_id)
        told = self._scripts.note(reservation_id, origin, payment_id, event, once)
        if told.known:
            return Outcome.NOTED
        self._durability.wait(told.epoch, told.seq)
        return Outcome.UNKNOWN_RESERVATION
