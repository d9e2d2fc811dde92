"""The return of stock whose time has run out: on demand, and by sweeping.

The record and its place in the deadlines ZSET decide; a lease's end is only a hint that wakes the sweeper sooner.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import structlog

from engine.scripts import Scripts
from engine.store import Store
from engine.values import Origin

PAGE = 500
"""Holds looked at in one round trip."""

SEARCH = (8, 64, 500)
"""Holds looked at, page by page, to find the next release of a SKU. The first ones nearly always have it."""

NEXT_RELEASE_SECONDS = 0.25
"""How long a search for a buyer's `next_release_at` holds good. Most of a sale's requests come when all is held."""

MAX_KNOWN = 10_000
"""SKUs whose next release is remembered. A full memory is emptied."""

NOTHING: Mapping[str, int] = {}

ACTOR = "expiry"
"""Who ends holds on demand, in the ledger."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Swept:
    """What one pass found: `stuck` holds are due but refused to end, because counters don't agree with them."""

    expired: int
    stuck: int
    more: bool


@dataclass(frozen=True)
class Release:
    """The hold of a SKU that ends first, as found by a search that may be believed for a while."""

    sku: str
    bound_ms: int
    hold_id: str
    deadline_ms: int
    until_s: float


class Expiry:
    def __init__(self, store: Store, scripts: Scripts) -> None:
        self._store = store
        self._scripts = scripts
        self._known: dict[str, Release] = {}

    def settle(self, skus: Collection[str], now_ms: int, request_id: str) -> int:
        """Expire holds on these SKUs that are due by `now_ms`, at least one of them if there is any.

        `request_id` is that of the request that needs it, for the ledger.

        Returns: how many of them ended, here or elsewhere meanwhile; 0 only if none of them is due any more.
        """
        from_ms: int | str = "-inf"
        while page := self._store.holds(from_ms, now_ms, PAGE):
            wanted = [(reservation_id, held) for reservation_id, _, held in page if not set(skus).isdisjoint(held)]
            statuses = self._scripts.expire(wanted, Origin(ACTOR, request_id))
            if ended := statuses.count("expired") + statuses.count("ended"):
                return ended
            from_ms = f"({page[-1][1]}"
        return 0

    def sweep(self, origin: Origin, stuck: int = 0) -> Swept:
        """End one page of due holds, after the first `stuck` ones, which are known to refuse."""
        page = self._store.holds("-inf", self._store.now_ms(), PAGE, stuck)
        statuses = self._scripts.expire([(reservation_id, skus) for reservation_id, _, skus in page], origin)
        for (reservation_id, _, _), status in zip(page, statuses, strict=True):
            if status in ("dropped", "inconsistent", "wrong_keys"):
                log.error(
                    "hold_out_of_order", reservation_id=reservation_id, status=status, advice="run stockade verify"
                )
        refused = sum(status in ("inconsistent", "wrong_keys", "not_due") for status in statuses)
        return Swept(statuses.count("expired"), stuck + refused, len(page) >= PAGE)

    def remembered(self, skus: Iterable[str]) -> list[str]:
        """Ids of holds of which `next_releases` would ask whether they still live, for whoever can ask that along with something else."""
        if not self._known:
            return []
        now_s = time.monotonic()
        return [known.hold_id for sku in skus if (known := self._known.get(sku)) and now_s < known.until_s]

    def next_releases(
        self, bounds: Mapping[str, int], now_ms: int, seen: Mapping[str, int] = NOTHING
    ) -> dict[str, int]:
        """The earliest deadline after `now_ms` among the live holds of each SKU, in milliseconds.

        `bounds` has a time for each SKU before which no hold of it ends (`next_release_ms` of its hash). Where the
        holds looked at have none of the SKU, the answer is the last deadline among them: it's no later than the truth. `seen` has deadlines of
        `remembered` holds, 0 for those that live no more, as they were when the bounds were read or later.

        What is due by `now_ms` is left out: of these SKUs nothing is, or their caller would have ended it. After an outage thousands of others may be,
        and the search would end among them, at a moment that has passed.

        A hold that was found is asked for again, not searched, as long as it lives with that deadline: so an earlier one that
        was made after it may be missed, for `NEXT_RELEASE_SECONDS` at most.
        """
        now_s = time.monotonic()
        remembered = [self._known.get(sku) for sku in bounds]
        known = [each for each in remembered if each and each.bound_ms == bounds[each.sku] and now_s < each.until_s]
        if unseen := [each.hold_id for each in known if each.hold_id not in seen]:
            seen = {**seen, **self._store.deadlines_of(unseen)}
        found = {each.sku: each.deadline_ms for each in known if now_ms < each.deadline_ms == seen[each.hold_id]}
        missing = {sku: bound_ms for sku, bound_ms in bounds.items() if sku not in found}
        return found | self._searched(missing, now_ms) if missing else found

    def _searched(self, bounds: Mapping[str, int], now_ms: int) -> dict[str, int]:
        if len(self._known) > MAX_KNOWN:
            self._known.clear()
        found: dict[str, int] = {}
        hold_id = ""
        deadline_ms, until_s = max(min(bounds.values()), now_ms + 1), time.monotonic() + NEXT_RELEASE_SECONDS
        for size in SEARCH:
            # From the last deadline on, once more: it may have more holds than the page had place for.
            page = self._store.next_holds(deadline_ms, size)
            for hold_id, deadline_ms, skus in page:
                for sku in (bounds.keys() & set(skus)) - found.keys():
                    found[sku] = deadline_ms
                    self._known[sku] = Release(sku, bounds[sku], hold_id, deadline_ms, until_s)
            if len(page) < size or len(found) == len(bounds):
                return found
        for sku in bounds.keys() - found.keys():
            found[sku] = max(deadline_ms, bounds[sku])
            self._known[sku] = Release(sku, bounds[sku], hold_id, found[sku], until_s)
        return found
