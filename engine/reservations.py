"""Reservations: reserve, extend, release, commit. Every change is one script, so every change is atomic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engine.errors import Inconsistent, LinesUnavailable, NotFound
from engine.expiry import ACTOR, Expiry
from engine.ids import DerivedIds, once, random_id
from engine.scripts import Due, Refused, Scripts
from engine.states import State, Verdict
from engine.store import Record, Store
from engine.values import Line, LineVerdict, Operation, Order, Origin, Reservation, summed


class Reservations:
    def __init__(self, store: Store, scripts: Scripts, expiry: Expiry, ids: DerivedIds) -> None:
        self._store = store
        self._scripts = scripts
        self._expiry = expiry
        self._ids = ids

    def reserve(
        self,
        origin: Origin,
        lines: Sequence[Line],
        hold_seconds: int,
        idempotency_key: str = "",
        fingerprint: str = "",
    ) -> Reservation:
        """Claim every line for `origin.user`, or none. Lines of one SKU are summed.

        Holds in the way whose time has run out are ended first, so that stock which is due is never refused.
        With an idempotency key (and the request's fingerprint) a repeat gives the first answer.

        Raises:
            LinesUnavailable: at least one line can't be had; has a verdict for each.
            IdempotencyKeyReused: the key came before with another fingerprint.
        """
        basket = summed(lines)
        reservation_id = random_id()
        if idempotency_key:
            reservation_id = self._ids.of("reserve", origin.actor, origin.user, idempotency_key)
        while True:
            reply = self._scripts.reserve(reservation_id, origin, basket, hold_seconds * 1000, fingerprint)
            if not isinstance(reply, Refused):
                break
            if not (reply.due and self._expiry.settle([line.sku for line in basket], reply.now_ms, origin.request_id)):
                raise LinesUnavailable(self._with_next_releases(reply))
        return Reservation(
            id=reservation_id,
            state=State.RESERVED,
            user=origin.user,
            lines=basket,
            created_ms=reply.created_ms,
            deadline_ms=reply.deadline_ms,
            replayed=reply.replayed,
        )

    def get(self, reservation_id: str, user: str) -> Reservation:
        """Show a reservation; one whose time has run out is ended first.

        Raises:
            NotFound: unknown, or another user's.
        """
        record = self._record(reservation_id, user)
        held = _reservation(record)
        if held.state is State.RESERVED and held.deadline_ms <= self._store.now_ms():
            self._scripts.expire([(record.id, record.skus)], Origin(ACTOR))
            held = _reservation(self._record(reservation_id, user))
        return held

    def extend(self, reservation_id: str, origin: Origin, hold_seconds: int, operation: Operation) -> Reservation:
        """Move the deadline of `origin.user`'s hold to now + `hold_seconds`, never past its start + 900 s.

        Raises:
            ReservationExpired: its time has run out.
            InvalidTransition: it isn't a hold any more.
        """
        record = self._record(reservation_id, origin.user)
        extended = self._scripts.extend(record, origin, hold_seconds * 1000, once(operation))
        held = replace(_reservation(record), state=State.RESERVED, deadline_ms=extended.deadline_ms)
        return replace(held, replayed=extended.replayed)

    def release(self, reservation_id: str, origin: Origin, reason: str = "") -> Reservation:
        """Give `origin.user`'s hold back. Repeatable: a hold that ended stays as it ended.

        Raises:
            AlreadyCommitted: it is paid for.
        """
        record = self._record(reservation_id, origin.user)
        state = self._scripts.release(record, origin, reason)
        while isinstance(state, Due):
            if {"inconsistent", "wrong_keys"} & set(
                self._scripts.expire([(record.id, record.skus)], Origin(ACTOR, origin.request_id))
            ):
                raise Inconsistent("The hold is due, but its counters are below what it has")
            state = self._scripts.release(record, origin, reason)
        return replace(_reservation(record), state=state)

    def commit(self, reservation_id: str, origin: Origin, payment_id: str, operation: Operation) -> Order:
        """Turn the hold into an order. The same payment id again gives the same answer.

        Whether the hold still lives is decided by the clock of Redis. If not, the stock is taken again if it's free.

        Raises:
            AlreadyCommitted: by another payment.
            RefundRequired: the hold had ended and its stock is gone; that is on record, and final for this payment.
        """
        record = self._record(reservation_id, None)
        settled = False
        while isinstance(reply := self._scripts.commit(record, origin, payment_id, settled, operation), Due):
            if settled:
                raise Inconsistent("The hold is due, but refuses to end")
            settled = not self._expiry.settle(record.skus, reply.now_ms, origin.request_id)
        return Order(
            id=record.id,
            user=record.fields["user"],
            reservation_state=State.COMMITTED,
            lines=record.lines,
            payment_id=payment_id,
            committed_ms=reply.committed_ms,
            late=reply.late,
            replayed=reply.replayed,
        )

    def _record(self, reservation_id: str, user: str | None) -> Record:
        record = self._store.record(reservation_id)
        if record is None or user not in (None, record.fields["user"]):
            raise NotFound("No such reservation")
        return record

    def _with_next_releases(self, refused: Refused) -> tuple[LineVerdict, ...]:
        may_return = (Verdict.ALL_HELD, Verdict.INSUFFICIENT)
        bounds = {
            line.sku: line.next_release_ms
            for line in refused.lines
            if line.next_release_ms and line.verdict in may_return
        }
        releases = self._expiry.next_releases(bounds)
        return tuple(replace(line, next_release_ms=releases.get(line.sku, 0)) for line in refused.lines)


def _reservation(record: Record) -> Reservation:
    return Reservation(
        id=record.id,
        state=State(record.fields["state"]),
        user=record.fields["user"],
        lines=record.lines,
        created_ms=int(record.fields["created_ms"]),
        deadline_ms=int(record.fields["deadline_ms"]),
    )
