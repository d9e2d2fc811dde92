"""Totals of all SKUs for console and metrics: one full count, then only the SKUs that events name.

The leading keeper maintains them. It reads every SKU once when it begins to lead, and keeps the counters in memory. From then on each
event in the stream names the SKUs that it may have changed; once a second the keeper reads those again and adds the differences to the
sums. So the totals are a second old whatever the number of SKUs, Redis is read only where something changed, and this module need not know
what an event does. The result is one hash in Redis, which every process reads with its overview.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Iterable, Sequence

import structlog

from engine.errors import EngineError
from engine.store import Counters, Store
from engine.values import Units

PUBLISH_SECONDS = 1.0

PAGE = 500
"""SKUs read in one round trip."""

EVENTS = 5_000
"""Events read in one round trip."""

REST = 0.25
"""Pause of the full count after each page, as a share of the time that the page took, for the keeper's other threads."""

MAX_RESERVED = 100
"""Length of the list of SKUs with the most reserved units."""

log = structlog.get_logger()


class Totals:
    """`follow` and `publish` may be called by different threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._position: tuple[int, int] | None = None
        self._touched: set[str] = set()
        self._known: dict[str, Counters] = {}
        self._reserved: dict[str, int] = {}
        self._sums = [0, 0, 0, 0]

    def run(self, leads: Callable[[], bool], stop: threading.Event) -> None:
        """Publish once a second while this keeper leads."""
        failure = ""
        while not stop.wait(PUBLISH_SECONDS):
            if not leads():
                self.begin_again()
                continue
            try:
                self.publish()
                failure = ""
            except EngineError as error:
                if str(error) != failure:
                    log.warning("totals_not_published", error=str(error), because=str(error.__cause__ or ""))
                failure = str(error)
            except Exception:
                log.exception("totals_failed")
                self.begin_again()

    def begin_again(self) -> None:
        """Do a full count at the next `publish`, because events were missed, or Redis changed without events."""
        with self._lock:
            self._position = None

    def follow(self) -> None:
        """Collect the SKUs that new events name. To be called before the stream is trimmed."""
        with self._lock:
            while self._position is not None:
                changes = self._store.changes(self._position, EVENTS)
                for change in changes:
                    if change.op == "open" or change.seq != self._position[1] + 1:
                        # Either Redis may have been rebuilt from the ledger, or the events in between have been trimmed.
                        self._position = None
                        return
                    self._position = (change.epoch, change.seq)
                    self._touched.update(change.skus)
                if len(changes) < EVENTS:
                    return

    def publish(self) -> Units:
        """Bring the totals up to date and write them to Redis.

        Raises:
            EngineError: Redis doesn't answer, or refuses the write.
        """
        now_ms = self._store.now_ms()
        self.follow()
        with self._lock:
            last = self._store.last_event()
            # If the stream ends before the last event read, Redis has lost data.
            is_new = self._position is None or last < self._position
            if is_new:
                self._position, self._touched = last, set()
            touched, self._touched = self._touched, set()
        try:
            self._count() if is_new else self._read(touched)
        except BaseException:
            self.begin_again()
            raise
        most = heapq.nlargest(MAX_RESERVED, self._reserved, key=lambda sku: (self._reserved[sku], sku))
        on_hand, available, reserved, allocated = self._sums
        units = Units(now_ms, on_hand, available, reserved, allocated, tuple(most))
        self._store.publish_units(units)
        return units

    def _count(self) -> None:
        self._known, self._reserved, self._sums = {}, {}, [0, 0, 0, 0]
        after = ""
        while True:
            began_s = time.monotonic()
            names = self._store.sku_names(after, PAGE)
            self._take(names, self._store.counters(names))
            if len(names) < PAGE:
                return
            after = names[-1]
            time.sleep(REST * (time.monotonic() - began_s))

    def _read(self, touched: Iterable[str]) -> None:
        names = list(touched)
        for start in range(0, len(names), PAGE):
            page = names[start : start + PAGE]
            self._take(page, self._store.counters(page))

    def _take(self, names: Sequence[str], found: Sequence[Counters | None]) -> None:
        """Replace the known counters of these SKUs. None: the SKU is gone, or its counters are unreadable."""
        for name, counters in zip(names, found, strict=True):
            before = self._known.pop(name, (0, 0, 0, 0))
            now = counters or (0, 0, 0, 0)
            self._sums = [total + new - old for total, new, old in zip(self._sums, now, before, strict=True)]
            self._reserved.pop(name, None)
            if counters:
                self._known[name] = counters
                if counters[2] > 0:
                    self._reserved[name] = counters[2]
