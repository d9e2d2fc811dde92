"""What operators pull while the shop sells. Each is a transition like any other, with the operator's reason in the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from engine.errors import AlreadyCommitted, Inconsistent, NotFound
from engine.limits import MAX_HOLD_SECONDS
from engine.records import Records
from engine.reservations import Reservations
from engine.states import State
from engine.stock import Stock
from engine.store import Record, Store
from engine.values import Lever, Line, Operation, Origin, Sku

PAGE = 500
"""Live holds looked at in one round trip."""


@dataclass(frozen=True)
class Pull:
    """An operator's call: who it is, why, and whether it is only to see what it would do."""

    origin: Origin
    reason: str
    dry_run: bool

    @property
    def lever(self) -> Lever:
        return Lever.DRY_RUN if self.dry_run else Lever.DO


class Outcome(StrEnum):
    """What became of a reservation that was to be released. A dry run says `released` of what it would release.

    `expired`: its time had run out, so that it ended for that. `ended`: it was over before.
    `paid`: it was left. `inconsistent`: it was left, because counters don't agree with it.
    """

    RELEASED = "released"
    EXPIRED = "expired"
    ENDED = "ended"
    PAID = "paid"
    INCONSISTENT = "inconsistent"


@dataclass(frozen=True)
class Freed:
    id: str
    user: str
    lines: tuple[Line, ...]
    age_seconds: int
    outcome: Outcome


class Levers:
    def __init__(self, store: Store, records: Records, stock: Stock, reservations: Reservations) -> None:
        self._store = store
        self._records = records
        self._stock = stock
        self._reservations = reservations

    def pause(self, skus: Sequence[str], paused: bool, pull: Pull) -> Iterator[tuple[Sku, bool]]:
        """Stop the sale of these SKUs, or let it go on. Gives each as it is then, and whether that is a change.

        Raises:
            NotFound: one of them doesn't exist; nothing was changed.
        """
        for before in self._known(skus):
            yield self._configured(before.sku, None, {"paused": "1" if paused else ""}, pull), before.paused != paused

    def recount(self, sku: str, on_hand: int, pull: Pull) -> tuple[Sku, Sku]:
        """Returns: the SKU as it was, and as it is then.

        Raises:
            NotFound: no such SKU.
            StockBelowClaims: `on_hand` is below reserved + allocated.
        """
        [before] = self._known([sku])
        return before, self._configured(sku, on_hand, {}, pull)

    def release(self, reservation_ids: Sequence[str], pull: Pull) -> Iterator[Freed]:
        """End these live holds, whoever's they are.

        Raises:
            NotFound: one of them doesn't exist; nothing was changed.
        """
        found = {name: self._records.find(name) for name in dict.fromkeys(reservation_ids)}
        if unknown := [name for name, record in found.items() if record is None]:
            raise NotFound(f"No such reservation: {', '.join(unknown)}")
        now_ms = self._store.now_ms()
        yield from (self._freed(record, pull, now_ms) for record in found.values() if record)

    def release_all(self, user: str, sku: str, pull: Pull) -> Iterator[Freed]:
        """End every live hold of the user, of the SKU, or of both; '' for any. Those made meanwhile may live on.

        Raises:
            NotFound: no such SKU, or there is no such hold.
        """
        if sku:
            self._known([sku])
        now_ms, found = self._store.now_ms(), False
        from_ms, until_ms = "-inf", now_ms + MAX_HOLD_SECONDS * 1000
        while page := self._store.holds(from_ms, until_ms, PAGE):
            for record in self._store.records([name for name, _, held in page if held and sku in ("", *held)]):
                if user in ("", record.fields.get("user")):
                    found = True
                    yield self._freed(record, pull, now_ms)
            from_ms = f"({page[-1][1]}"
        if not found:
            whose = f" of user {user}" if user else ""
            raise NotFound(f"No live reservation{whose}{f' has {sku}' if sku else ''}")

    def _freed(self, record: Record, pull: Pull, now_ms: int) -> Freed:
        if record.torn:
            return Freed(record.id, record.fields.get("user", ""), (), 0, Outcome.INCONSISTENT)
        age_seconds = max(now_ms - int(record.fields["created_ms"]), 0) // 1000
        return Freed(record.id, record.fields["user"], record.lines, age_seconds, self._outcome(record, pull))

    def _outcome(self, record: Record, pull: Pull) -> Outcome:
        if record.fields["state"] != State.RESERVED:
            return Outcome.PAID if "payment_id" in record.fields else Outcome.ENDED
        try:
            held = self._reservations.release(record.id, pull.origin, pull.reason, anybody=True, lever=pull.lever)
        except AlreadyCommitted:
            return Outcome.PAID
        except Inconsistent:
            return Outcome.INCONSISTENT
        return Outcome.EXPIRED if held.state is State.EXPIRED else Outcome.RELEASED

    def _configured(self, sku: str, on_hand: int | None, attributes: dict[str, str], pull: Pull) -> Sku:
        return self._stock.configure(sku, on_hand, attributes, pull.origin, Operation(), pull.reason, pull.lever)[0]

    def _known(self, skus: Sequence[str]) -> list[Sku]:
        """The SKUs, each once. Raises NotFound, with all the names that don't exist: a lever never creates a SKU."""
        found = {sku: self._store.sku(sku) for sku in dict.fromkeys(skus)}
        if unknown := [sku for sku, known in found.items() if known is None]:
            raise NotFound(f"No such SKU: {', '.join(unknown)}")
        return [known for known in found.values() if known]
