"""Reservations wherever they are: in Redis, or, when that has let them go, in Postgres."""

from __future__ import annotations

from engine.fold import ENDED
from engine.ids import is_reservation_id
from engine.ledger import Ledger
from engine.scripts import Scripts
from engine.store import Record, Store


class Records:
    def __init__(self, store: Store, scripts: Scripts, ledger: Ledger) -> None:
        self._store = store
        self._scripts = scripts
        self._ledger = ledger

    def find(self, reservation_id: str) -> Record | None:
        """To look at. Raises StoreUnavailable: Redis doesn't have it, and Postgres can't say."""
        return self._look(reservation_id, self._store.record(reservation_id) or self._archived(reservation_id))

    def at_hand(self, reservation_id: str) -> Record | None:
        """For a script to work on: one that only Postgres has comes back to Redis first."""
        record = self._store.record(reservation_id)
        if record is None and (record := self._archived(reservation_id)):
            self._scripts.recall(record.id, record.fields)
            record = self._store.record(reservation_id)
        return self._look(reservation_id, record)

    def paid_with(self, payment_id: str) -> str | None:
        """The id of the reservation that a payment was for, as far as Postgres has it; what is newer Redis knows.

        Raises StoreUnavailable: Postgres can't say.
        """
        return self._ledger.payment(payment_id)

    def _look(self, reservation_id: str, found: Record | None) -> Record | None:
        """Look once more where nothing was found: while Redis is made anew, what isn't there yet isn't unknown.

        Raises:
            Closed: that goes on.
        """
        if found is None and is_reservation_id(reservation_id):
            self._store.check_open()
            return self._store.record(reservation_id)
        return found

    def _archived(self, reservation_id: str) -> Record | None:
        """One that has ended. What lives is in Redis; if it isn't, the projection has not caught up with its end yet."""
        fields = self._ledger.record(reservation_id) if is_reservation_id(reservation_id) else None
        return Record(reservation_id, fields) if fields and fields["state"] in ENDED else None
