"""What a payment provider tells, and what becomes of it. Providers repeat themselves, and don't keep the order."""

from __future__ import annotations

from enum import StrEnum

import structlog

from engine.durable import Durability
from engine.errors import AlreadyCommitted, RefundRequired
from engine.reservations import Reservations
from engine.scripts import Scripts
from engine.values import Operation, Origin

log = structlog.get_logger()


class PaymentEvent(StrEnum):
    SUCCEEDED = "payment.succeeded"
    FAILED = "payment.failed"
    CANCELED = "payment.canceled"


class Outcome(StrEnum):
    COMMITTED = "committed"
    REFUND_REQUIRED = "refund_required"
    NOTED = "noted"
    RELEASED = "released"
    IGNORED = "ignored"


class Payments:
    def __init__(self, scripts: Scripts, durability: Durability, reservations: Reservations) -> None:
        self._scripts = scripts
        self._durability = durability
        self._reservations = reservations

    def take(self, event: str, reservation_id: str, payment_id: str, origin: Origin) -> Outcome:
        """Do what the event asks for. The same event again has the same outcome; docs/payments.md has them all.

        Raises:
            NotFound: no such reservation.
        """
        match event:
            case PaymentEvent.SUCCEEDED:
                return self._succeeded(reservation_id, payment_id, origin)
            case PaymentEvent.CANCELED:
                return self._canceled(reservation_id, origin)
            case PaymentEvent.FAILED:
                self._reservations.get(reservation_id, None)
                log.info("payment_failed", reservation_id=reservation_id, payment_id=payment_id)
                return Outcome.NOTED
        return Outcome.IGNORED

    def _succeeded(self, reservation_id: str, payment_id: str, origin: Origin) -> Outcome:
        try:
            self._reservations.commit(reservation_id, origin, payment_id, Operation())
        except RefundRequired:
            return Outcome.REFUND_REQUIRED
        except AlreadyCommitted:
            noted = self._scripts.refund(reservation_id, origin, payment_id)
            self._durability.wait(noted.epoch, noted.seq)
            return Outcome.REFUND_REQUIRED if noted.required else Outcome.COMMITTED
        return Outcome.COMMITTED

    def _canceled(self, reservation_id: str, origin: Origin) -> Outcome:
        """Release the hold, whoever's it is. What is paid for stays so."""
        try:
            self._reservations.release(reservation_id, origin, "payment canceled", anybody=True)
        except AlreadyCommitted:
            return Outcome.IGNORED
        return Outcome.RELEASED
