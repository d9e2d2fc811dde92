"""Orders: paid reservations, under the reservation's id, until they are shipped or called off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engine.errors import NotFound
from engine.ids import once
from engine.records import Records
from engine.replies import OrderChanged
from engine.scripts import Scripts
from engine.states import State
from engine.store import Record
from engine.values import Line, Operation, Order, Origin, summed, unpacked


class Orders:
    def __init__(self, records: Records, scripts: Scripts) -> None:
        self._records = records
        self._scripts = scripts

    def get(self, order_id: str, user: str | None) -> Order:
        """Raises: NotFound: unknown, not paid, or not `user`'s (None: anybody's will do)."""
        order = order_of(_paid(self._records.find(order_id)))
        if user not in (None, order.user):
            raise NotFound(
                "No order has this id, or it is another user's; a reservation becomes an order when it is paid."
            )
        return order

    def fulfil(self, order_id: str, origin: Origin, lines: Sequence[Line], operation: Operation) -> Order:
        """Shipped units leave `allocated` and `on_hand`: those of `lines`, or with none given all that is left. Repeatable.

        Raises:
            InvalidTransition: the order is cancelled, or nothing of it is left for `lines`.
            ValidationFailed: fewer units are left in the order than `lines` names.
        """
        record = _paid(self._records.at_hand(order_id))
        return _changed(record, self._scripts.fulfil(record, origin, summed(lines), once(operation)))

    def cancel(self, order_id: str, origin: Origin, reason: str, lines: Sequence[Line], operation: Operation) -> Order:
        """Allocated units go back to available: those of `lines`, or with none given all that is left. Repeatable.

        Raises:
            InvalidTransition: the order is fulfilled.
            ValidationFailed: fewer units are left in the order than `lines` names.
        """
        record = _paid(self._records.at_hand(order_id))
        return _changed(record, self._scripts.cancel(record, origin, reason, summed(lines), once(operation)))


def _paid(record: Record | None) -> Record:
    if record is None or "payment_id" not in record.fields:
        raise NotFound("No order has this id, or it is another user's; a reservation becomes an order when it is paid.")
    return record


def paid(record: Record) -> Order | None:
    """The order that a reservation has become, if it was paid for."""
    return order_of(record) if "payment_id" in record.fields else None


def order_of(record: Record) -> Order:
    fields = record.fields
    return Order(
        id=record.id,
        user=fields["user"],
        reservation_state=State(fields["state"]),
        lines=record.lines,
        payment_id=fields["payment_id"],
        committed_ms=int(fields["committed_ms"]),
        late=fields["late"] == "1",
        fulfilled_lines=unpacked(fields.get("fulfilled", "")),
        cancelled_lines=unpacked(fields.get("cancelled", "")),
    )


def _changed(record: Record, change: OrderChanged) -> Order:
    return replace(
        order_of(record),
        reservation_state=change.state,
        fulfilled_lines=change.fulfilled,
        cancelled_lines=change.cancelled,
        replayed=change.replayed,
    )
