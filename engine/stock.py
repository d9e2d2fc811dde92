"""Stock: SKUs and their counters, availability as buyers see it, and the global stop."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from engine.errors import Closed, EngineError, Inconsistent, InsufficientStock, NotFound, StockBelowClaims
from engine.expiry import Expiry
from engine.ids import once
from engine.scripts import Scripts
from engine.states import Availability
from engine.store import Stock as StockRead
from engine.store import Store
from engine.values import Lever, Operation, Origin, Selling, Sku, SkuAvailability, SkuChange

MAX_ROUNDS_WITHOUT_PROGRESS = 2
"""How often stock is read again while holds are due, none of them of these SKUs."""


class Stock:
    def __init__(self, store: Store, scripts: Scripts, expiry: Expiry) -> None:
        self._store = store
        self._scripts = scripts
        self._expiry = expiry

    def configure(
        self,
        sku: str,
        on_hand: int | None,
        attributes: dict[str, str],
        origin: Origin,
        operation: Operation,
        reason: str = "",
        lever: Lever = Lever.NONE,
    ) -> tuple[Sku, bool]:
        """Create a SKU or change it, all that is asked for or nothing.

        `on_hand` on a known SKU is a recount: available becomes what is left of it beside reserved and allocated.
        `attributes` are fields of the SKU's hash; an empty one is cleared.

        Returns: the SKU, as it would become after a dry run, and whether it is new.

        Raises:
            StockBelowClaims: `on_hand` is below reserved + allocated.
            ValidationFailed: the sale would end before it starts, or an operator gives no reason.
        """
        change, call = SkuChange(sku, on_hand, attributes), once(operation)
        while True:
            try:
                return self._scripts.configure(change, origin, call, reason, lever)
            except StockBelowClaims:
                # A dry run ends no hold, not even one that is due.
                if lever is Lever.DRY_RUN or not self._settled([sku], origin):
                    raise

    def configure_all(
        self, changes: Sequence[SkuChange], origin: Origin, reason: str = "", lever: Lever = Lever.NONE
    ) -> list[tuple[Sku, bool] | EngineError]:
        """As `configure`, each change on its own, in one round trip. A refusal stands in its place and isn't raised."""
        calls = [(change, once(Operation())) for change in changes]
        results = self._scripts.configure_all(calls, origin, reason, lever)
        while refused := [at for at, result in enumerate(results) if isinstance(result, StockBelowClaims)]:
            if lever is Lever.DRY_RUN or not self._settled([calls[at][0].sku for at in refused], origin):
                break
            again = self._scripts.configure_all([calls[at] for at in refused], origin, reason, lever)
            for at, result in zip(refused, again, strict=True):
                results[at] = result
        return results

    def adjust(self, sku: str, delta: int, origin: Origin, reason: str, operation: Operation) -> Sku:
        """Restock (`delta` above 0) or withdraw; only available moves, and on_hand with it.

        Raises:
            NotFound: no such SKU.
            InsufficientStock: available would fall below 0.
        """
        call = once(operation)
        while True:
            try:
                return self._scripts.adjust(sku, delta, origin, reason, call)
            except InsufficientStock:
                if not self._settled([sku], origin):
                    raise

    def get(self, sku: str) -> Sku:
        """Raises: NotFound."""
        found = self._store.sku(sku)
        if found is None:
            self._store.check_open()
            raise NotFound(f"No SKU is called {sku}.")
        return found

    def page(self, after: str, limit: int) -> Sequence[Sku]:
        """At most `limit` SKUs in the order of their names, after the one named ('' for the first)."""
        return self._store.skus(after, limit)

    def availability(self, skus: Sequence[str], origin: Origin) -> list[SkuAvailability]:
        """What can be had now of each SKU. Holds whose time has run out don't count: they are ended first."""
        read, vain_rounds = self._store.stock(skus), 0
        while (overdue := _overdue(read)) and vain_rounds < MAX_ROUNDS_WITHOUT_PROGRESS:
            # Where nothing was left to end, others have ended it since that read.
            vain_rounds += not self._expiry.settle(overdue, read.now_ms, origin.request_id)
            read = self._store.stock(skus)
        try:
            statuses = {sku: _status(sku, read) for sku in skus}
        except (KeyError, ValueError) as error:
            raise Inconsistent("A counter is missing, or no number; run stockade verify") from error
        if not read.open and Availability.UNKNOWN_SKU in statuses.values():
            raise Closed("Redis is compared with the ledger, or made anew from it")
        held = [sku for sku in skus if statuses[sku] is Availability.ALL_HELD]
        bounds = {sku: int(read.skus[sku].get("next_release_ms", 0)) for sku in held}
        releases = self._expiry.next_releases(bounds, read.now_ms)
        return [
            SkuAvailability(
                # Below 0 only where somebody has changed a counter; a buyer can have none of it.
                sku,
                max(0, int(read.skus[sku].get("available", 0))),
                statuses[sku],
                releases.get(sku, 0),
                read.now_ms,
            )
            for sku in skus
        ]

    def _settled(self, skus: Collection[str], origin: Origin) -> bool:
        """End holds of the SKUs whose time has run out. Returns: whether there were any, so that asking again helps."""
        return self._expiry.settle(skus, self._store.now_ms(), origin.request_id) > 0

    def selling(self) -> Selling:
        meta = self._store.meta()
        return Selling("selling_paused" in meta, meta.get("selling_reason", ""))

    def set_selling(self, paused: bool, reason: str, origin: Origin, lever: Lever = Lever.DO) -> Selling:
        """The global stop: while it's on nothing can be reserved; holds can still be paid for.

        Raises:
            ValidationFailed: there is no reason.
        """
        self._scripts.selling(paused, reason, origin, lever)
        return Selling(paused, reason)

    def default_hold_ms(self) -> int | None:
        """What operators have set for those who ask for no time; None: each process's own setting counts."""
        found = self._store.meta().get("default_hold_ms")
        return int(found) if found else None

    def set_default_hold(self, seconds: int | None, reason: str, origin: Origin, lever: Lever = Lever.DO) -> None:
        """None clears it. Live holds keep their time.

        Raises:
            ValidationFailed: it isn't from 1 to 900 s, or there is no reason.
        """
        self._scripts.default_hold(None if seconds is None else seconds * 1000, reason, origin, lever)


def _overdue(read: StockRead) -> list[str]:
    """SKUs that may have holds whose time has run out."""
    if not read.due:
        return []
    return [sku for sku, fields in read.skus.items() if 0 < int(fields.get("next_release_ms", 0)) <= read.now_ms]


def _status(sku: str, read: StockRead) -> Availability:
    fields = read.skus[sku]
    if "available" not in fields:
        return Availability.UNKNOWN_SKU
    if "paused" in fields or read.selling_paused:
        return Availability.PAUSED
    if read.now_ms < int(fields.get("sale_starts_ms", 0)):
        return Availability.NOT_STARTED
    if "sale_ends_ms" in fields and read.now_ms >= int(fields["sale_ends_ms"]):
        return Availability.ENDED
    if int(fields["available"]) > 0:
        return Availability.AVAILABLE
    return Availability.ALL_HELD if int(fields["reserved"]) > 0 else Availability.SOLD_OUT
