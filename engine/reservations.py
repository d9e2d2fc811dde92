"""Reservations: reserve, extend, release, commit. Every change is one script, so every change is atomic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from msgspec.structs import replace

from engine.durable import Durability
from engine.errors import (
    EngineError,
    IdempotencyKeyReused,
    Inconsistent,
    LinesUnavailable,
    NotFound,
    PaymentAlreadyUsed,
    RefundRequired,
    StoreUnavailable,
)
from engine.expiry import ACTOR, Expiry
from engine.ids import DerivedIds, once, random_id
from engine.meter import Meter
from engine.records import Records
from engine.replies import Claim, Due, Moved, OtherAttempt, Refundable, Refused, Replayed, Reserved
from engine.scripts import Scripts
from engine.states import State, Verdict
from engine.store import Record, Store
from engine.values import Lever, Line, LineVerdict, Operation, Order, Origin, Reservation, summed

MAX_ROUNDS_WITHOUT_PROGRESS = 5
"""How often a buyer asks again while holds are due, none of them of what he wants."""

MAY_RETURN = (Verdict.ALL_HELD, Verdict.INSUFFICIENT)


class Reservations:
    def __init__(
        self,
        store: Store,
        scripts: Scripts,
        records: Records,
        durability: Durability,
        expiry: Expiry,
        ids: DerivedIds,
        retain_ms: int,
        default_hold_seconds: int,
        meter: Meter,
    ) -> None:
        self._store = store
        self._scripts = scripts
        self._records = records
        self._durability = durability
        self._expiry = expiry
        self._ids = ids
        self._retain_ms = retain_ms
        self._default_hold_seconds = default_hold_seconds
        self._meter = meter

    def reserve(
        self,
        origin: Origin,
        lines: Sequence[Line],
        hold_seconds: int | None,
        idempotency_key: str = "",
        fingerprint: str = "",
    ) -> Reservation:
        """Claim every line for `origin.user`, or none. Lines of one SKU are summed.

        Without `hold_seconds` the default counts: that of the operators, or else the one in the settings.
        Holds in the way whose time has run out are ended first, so that stock which is due is never refused.
        With an idempotency key (and the request's fingerprint) a repeat shows the same reservation as it is then.

        Raises:
            LinesUnavailable: at least one line can't be had; has a verdict for each.
            IdempotencyKeyReused: the key came before with another fingerprint.
        """
        claim = self.claim(origin, lines, hold_seconds, idempotency_key, fingerprint)
        remembered = self._expiry.remembered([line.sku for line in claim.lines])
        reservation = self.decide(claim, self._scripts.reserve(claim, remembered))
        assert reservation is not None
        return reservation

    def reserve_all(self, claims: Sequence[Claim]) -> list[Reservation | EngineError]:
        """Decide each claim on its own; those that need nothing to be expired first share one round trip."""
        skus = {line.sku: None for claim in claims for line in claim.lines}
        replies = self._scripts.reserve_all(claims, self._expiry.remembered(skus))
        releases = self._next_releases([reply for reply in replies if isinstance(reply, Refused) and not reply.due])
        answers: list[Reservation | EngineError] = []
        for claim, reply in zip(claims, replies, strict=True):
            try:
                if isinstance(reply, EngineError):
                    raise reply
                if isinstance(reply, Refused) and not reply.due:
                    self._meter.refused()
                    raise LinesUnavailable(_with(releases, reply))
                reservation = self.decide(claim, reply)
                assert reservation is not None
                answers.append(reservation)
            except EngineError as error:
                answers.append(error)
        return answers

    def remember(self, operation: Operation) -> None:
        """Keep the fingerprint of a call of many parts, which has no single answer.

        Raises:
            IdempotencyKeyReused: the same key came before with another fingerprint.
        """
        if operation.fingerprint and not self._store.remember(operation, self._retain_ms):
            raise IdempotencyKeyReused

    def claim(
        self, origin: Origin, lines: Sequence[Line], hold_seconds: int | None, idempotency_key: str, fingerprint: str
    ) -> Claim:
        """What `reserve` asks for. Its id is derived from caller, user and idempotency key, if there is one."""
        words = ("reserve", origin.actor, origin.user, idempotency_key)
        reservation_id = self._ids.of(*words) if idempotency_key else random_id()
        hold_ms = (self._default_hold_seconds if hold_seconds is None else hold_seconds) * 1000
        return Claim(
            id=reservation_id,
            origin=origin,
            lines=summed(lines),
            hold_ms=hold_ms,
            fingerprint=fingerprint,
            by_default=hold_seconds is None,
        )

    def repeated(self, claim: Claim) -> Reservation | None:
        """The reservation of this claim as it is now, if it was made before.

        Raises:
            IdempotencyKeyReused: the claim's key came before with another fingerprint.
        """
        record = self._store.record(claim.id) if claim.fingerprint else None
        if record is None:
            return None
        if record.fields.get("request") != claim.fingerprint:
            raise IdempotencyKeyReused
        return replace(self.get(claim.id, claim.origin.user), replayed=True)

    def check_out(
        self, claim: Claim, lines: tuple[Line, ...], cart_id: str, latest: str, before: Record | None
    ) -> Reservation | None:
        """Make the claim for a cart whose latest reservation was `latest`, replacing it if it lives.

        `before` is that reservation's record, None if it's gone or paid for.

        Returns: None if another checkout of the cart came first, or the payment of `before`.

        Raises:
            LinesUnavailable: at least one line can't be had; what was reserved before stands.
        """
        whole = replace(claim, lines=lines, cart_id=cart_id, latest=latest, replaces=before)
        return self.decide(whole, self._scripts.reserve(whole))

    def decide(self, claim: Claim, reply: Reserved | Replayed | Refused | Moved) -> Reservation | None:
        """Ask again as long as a refusal may be due to holds whose time has run out, after ending these.

        Where none of these SKUs was due, and nothing at all has fallen due until the next refusal, that one is right. In a storm
        something always has; there a buyer is refused after `MAX_ROUNDS_WITHOUT_PROGRESS` in which none of these SKUs was due.

        Returns: None if another checkout of the cart came first.

        Raises:
            LinesUnavailable: at least one line can't be had.
        """
        vain_rounds, nothing_until_ms = 0, 0
        while isinstance(reply, Refused):
            if not reply.due or reply.now_ms < nothing_until_ms or vain_rounds == MAX_ROUNDS_WITHOUT_PROGRESS:
                verdicts = _with(self._next_releases([reply]), reply)
                self._meter.refused()
                raise LinesUnavailable(verdicts, self._standing(claim, reply.now_ms))
            skus = [line.sku for line in claim.lines]
            if not self._expiry.settle(skus, reply.now_ms, claim.origin.request_id):
                # Others may have ended what was due at that reply, so it isn't believed; and more may have fallen due since.
                nothing_until_ms = self._store.next_deadline(reply.now_ms)
                vain_rounds += 1
            reply = self._scripts.reserve(claim)
        if isinstance(reply, Moved):
            return None
        if isinstance(reply, Replayed):
            return replace(self.get(claim.id, claim.origin.user), replayed=True)
        return Reservation(
            id=claim.id,
            state=State.RESERVED,
            user=claim.origin.user,
            lines=claim.lines,
            created_ms=reply.created_ms,
            deadline_ms=reply.deadline_ms,
        )

    def get(self, reservation_id: str, user: str | None) -> Reservation:
        """Show a reservation of `user` (None: anybody's will do); one whose time has run out is ended first.

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
        record = self._owned(self._records.at_hand(reservation_id), origin.user)
        extended = self._scripts.extend(record, origin, hold_seconds * 1000, once(operation))
        held = replace(_reservation(record), state=State.RESERVED, deadline_ms=extended.deadline_ms)
        return replace(held, replayed=extended.replayed)

    def release(
        self,
        reservation_id: str,
        origin: Origin,
        reason: str = "",
        *,
        anybody: bool = False,
        lever: Lever = Lever.NONE,
    ) -> Reservation:
        """Give `origin.user`'s hold back (or `anybody`'s). Repeatable: a hold that ended stays as it ended.

        After a dry run it is still `reserved`, or `expired` if it is due, though nobody has ended it yet.

        Raises:
            AlreadyCommitted: it is paid for.
            ValidationFailed: an operator gives no reason.
        """
        find = self._records.find if lever is Lever.DRY_RUN else self._records.at_hand
        record = self._owned(find(reservation_id), None if anybody else origin.user)
        state = self._release(record, origin, reason, lever, "")
        assert not isinstance(state, OtherAttempt)
        return replace(_reservation(record), state=state)

    def release_attempt(self, reservation_id: str, origin: Origin, payment_id: str) -> bool:
        """Give anybody's hold back, because an attempt to pay for it was cancelled.

        Returns: False if another attempt was noted since, which may still pay; then nothing changes.

        Raises:
            AlreadyCommitted: it is paid for.
        """
        record = self._owned(self._records.at_hand(reservation_id), None)
        return not isinstance(self._release(record, origin, "payment cancelled", Lever.NONE, payment_id), OtherAttempt)

    def _release(
        self, record: Record, origin: Origin, reason: str, lever: Lever, payment_id: str
    ) -> State | OtherAttempt:
        while isinstance(state := self._scripts.release(record, origin, reason, lever, payment_id), Due):
            if lever is Lever.DRY_RUN:
                return State.EXPIRED
            if {"inconsistent", "wrong_keys"} & set(
                self._scripts.expire([(record.id, record.skus)], Origin(ACTOR, origin.request_id))
            ):
                raise Inconsistent("The hold is due, but its counters are below what it has")
        return state

    def commit(self, reservation_id: str, origin: Origin, payment_id: str, operation: Operation) -> Order:
        """Turn the hold into an order. The same payment id again gives the same answer. Its cart, if any, is emptied.

        Either answer is given once the ledger says so in Postgres. If it can't, that doesn't undo what Redis decided:
        the repeat of the call gets the answer then.

        The clock of Redis decides whether the hold is still live. After its end the payment takes stock as a new reservation
        would now, or the units that a later checkout of the same cart holds.

        Raises:
            AlreadyCommitted: by another payment.
            PaymentAlreadyUsed: this payment was for another reservation.
            RefundRequired: the hold had ended, and a line of it can't be had; that is on record, and final for this payment.
            StoreUnavailable: Postgres doesn't have it yet.
        """
        record = self._owned(self._records.at_hand(reservation_id), None)
        self._check_unused(payment_id, record)
        settled = False
        while True:
            latest, later = self._later_checkout(record)
            reply = self._scripts.commit(record, origin, payment_id, settled, operation, latest, later)
            if isinstance(reply, Due):
                if settled:
                    raise Inconsistent("The hold is due, but refuses to end")
                settled = not self._expiry.settle(record.skus, reply.now_ms, origin.request_id)
            elif not isinstance(reply, Moved):
                break
            record = self._owned(self._records.at_hand(reservation_id), None)
        self._durability.wait(reply.epoch, reply.seq)
        if isinstance(reply, Refundable):
            raise RefundRequired(reply.lines)
        order = Order(
            id=record.id,
            user=record.fields["user"],
            reservation_state=State.COMMITTED,
            lines=record.lines,
            payment_id=payment_id,
            committed_ms=reply.committed_ms,
            late=reply.late,
            replayed=reply.replayed,
        )
        if cart_id := record.fields.get("cart"):
            self._scripts.empty_cart(cart_id, order)
        return order

    def _check_unused(self, payment_id: str, record: Record) -> None:
        """Raises: PaymentAlreadyUsed: Postgres knows the payment of another reservation.

        Redis itself refuses what was used in the last `retain_ms`. While Postgres can't say, that alone decides: the hold of
        a buyer who has paid must not run out meanwhile.
        """
        if record.fields.get("payment_id") == payment_id:
            return
        with suppress(StoreUnavailable):
            if self._records.paid_with(payment_id) not in (None, record.id):
                raise PaymentAlreadyUsed

    def _later_checkout(self, record: Record) -> tuple[str, Record | None]:
        """The id of the latest reservation of an ended hold's cart, and that reservation if it may be live."""
        cart_id = record.fields.get("cart")
        if record.fields["state"] == State.RESERVED or not cart_id:
            return "", None
        latest = self._store.latest_checkout(cart_id)
        later = self._store.record(latest) if latest not in ("", record.id) else None
        return latest, later if later and later.fields.get("state") == State.RESERVED and not later.torn else None

    def _record(self, reservation_id: str, user: str | None) -> Record:
        return self._owned(self._records.find(reservation_id), user)

    def _owned(self, record: Record | None, user: str | None) -> Record:
        if record is not None and record.torn:
            raise Inconsistent("The reservation's record lacks a field")
        if record is None or user not in (None, record.fields["user"]):
            raise NotFound("No reservation has this id, or it is another user's.")
        return record

    def _standing(self, claim: Claim, now_ms: int) -> str:
        """The id of the reservation that a refused claim would have replaced, if that one lives: it may have ended since."""
        record = self._store.record(claim.replaces.id) if claim.replaces else None
        if record is None or record.fields["state"] != State.RESERVED:
            return ""
        return record.id if int(record.fields["deadline_ms"]) > now_ms else ""

    def _next_releases(self, refusals: Sequence[Refused]) -> dict[str, int]:
        """When each SKU that is short may have units again, found in one search for all refusals."""
        bounds: dict[str, int] = {}
        for line in (line for refused in refusals for line in refused.lines):
            if line.next_release_ms and line.verdict in MAY_RETURN:
                bounds[line.sku] = min(line.next_release_ms, bounds.get(line.sku, line.next_release_ms))
        if not bounds:
            return {}
        return self._expiry.next_releases(bounds, min(refused.now_ms for refused in refusals), refusals[0].seen)


def _with(releases: Mapping[str, int], refused: Refused) -> tuple[LineVerdict, ...]:
    found = [releases.get(line.sku, 0) if line.verdict in MAY_RETURN else 0 for line in refused.lines]
    return tuple(
        line if line.next_release_ms == next_release_ms else replace(line, next_release_ms=next_release_ms)
        for line, next_release_ms in zip(refused.lines, found, strict=True)
    )


def _reservation(record: Record) -> Reservation:
    return Reservation(
        id=record.id,
        state=State(record.fields["state"]),
        user=record.fields["user"],
        lines=record.lines,
        created_ms=int(record.fields["created_ms"]),
        deadline_ms=int(record.fields["deadline_ms"]),
    )
