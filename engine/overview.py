"""How the service is at this moment, at a cost that doesn't grow with the number of SKUs: for the console, and for Prometheus."""

from __future__ import annotations

import heapq
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import structlog

from engine.config import Settings
from engine.errors import ConfigurationError, EngineError, StoreUnavailable
from engine.ledger import Entry, Ledger, Reached, event_of
from engine.meter import RATES
from engine.store import Glance, Store
from engine.values import Event, Selling, Sku, number

LATEST_EVENTS = 20
SHOWN_SKUS = 20
KNOWN_SKUS = 100
"""SKUs whose counters Prometheus gets: those with the most reserved units at the latest stocktaking."""

RATE_SECONDS = 60

PAGE = 1_000
LEAST_PAUSE_SECONDS = 2.0
REST = 4
"""After each page the stocktaking rests this many times as long as that took, and at its end as long as the whole took: so it has
a tenth of a thread. 100,000 SKUs are counted every 20 s or so."""

FIRST_COUNT_SECONDS = 1.0
"""How long the first one who asks waits for the sums: a small shop has them by then."""

POSTGRES_AWAY_SECONDS = 5.0
"""A Postgres that gave no answer is asked again after this: the console would wait for its time-out every second."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Units:
    """Units of all SKUs together, and those SKUs with the most of them reserved. Each SKU was read at a moment of its own."""

    as_of_ms: int
    on_hand: int
    available: int
    reserved: int
    allocated: int
    foremost: tuple[str, ...]


@dataclass(frozen=True)
class Record:
    """How far Postgres is behind Redis. `snapshot_age_ms` is None where there is no snapshot."""

    lag_events: int
    lag_ms: int
    snapshot_age_ms: int | None
    snapshot_problems: int


@dataclass(frozen=True)
class Now:
    """`record` is None where Postgres can't say, `units` until the first stocktaking is done.

    `expiry_lag_ms`: for how long the hold that should have ended first has been due; 0 if none is.
    """

    glance: Glance
    gate: str
    selling: Selling
    default_hold_seconds: int
    expiry_lag_ms: int
    record: Record | None
    units: Units | None


class Overview:
    """Safe to share between threads."""

    def __init__(self, store: Store, ledger: Ledger, settings: Settings) -> None:
        self._store = store
        self._ledger = ledger
        self._settings = settings
        self._stocktaking = Stocktaking(store)
        self._postgres_away_until_s = 0.0

    def now(self) -> Now:
        """Raises: StoreUnavailable: Redis can't say."""
        glance = self._store.glance()
        meta, first_ms = glance.meta, glance.first_deadline_ms
        default_ms = max(0, number(meta.get("default_hold_ms"))) or self._settings.default_hold_seconds * 1000
        return Now(
            glance=glance,
            gate=gate(meta, glance.run_id),
            selling=Selling("selling_paused" in meta, meta.get("selling_reason", "")),
            default_hold_seconds=default_ms // 1000,
            expiry_lag_ms=max(0, glance.now_ms - first_ms) if first_ms else 0,
            record=self._record(glance),
            units=self._stocktaking.latest(),
        )

    def skus(self, names: Sequence[str]) -> list[Sku]:
        """The SKUs of these names that there are, as they are now."""
        return self._store.skus_named(names)

    def events(self) -> list[Event]:
        """The latest events, the newest one first, as Redis has them. What somebody wrote by hand and is no event is left out."""
        entries = self._store.latest_entries("+", LATEST_EVENTS)
        return [event for event in map(_event, entries) if event]

    def rates(self, now_ms: int) -> dict[str, list[int]]:
        """How often each of `RATES` happened in each of the last seconds, the oldest first, in all processes together.

        `seconds` is when each of them began. A process tells when its second is over, so not all may have told of the latest.
        """
        first_s = now_ms // 1000 - RATE_SECONDS
        counts: dict[int, Counter[str]] = {}
        for at_ms, told in self._store.rates(first_s * 1000):
            counts.setdefault(at_ms // 1000 - 1, Counter()).update(told)
        seconds = range(first_s, first_s + RATE_SECONDS)
        nothing: Counter[str] = Counter()
        rates = {verb: [counts.get(second, nothing)[verb] for second in seconds] for verb in RATES}
        return {"seconds": [second * 1000 for second in seconds], **rates}

    def _record(self, glance: Glance) -> Record | None:
        if time.monotonic() < self._postgres_away_until_s:
            return None
        try:
            return self._read(glance, self._ledger.reached())
        except (StoreUnavailable, ConfigurationError):
            self._postgres_away_until_s = time.monotonic() + POSTGRES_AWAY_SECONDS
            return None

    def _read(self, glance: Glance, reached: Reached) -> Record:
        age_ms = max(0, glance.now_ms - reached.snapshot_ms) if reached.snapshot_ms else None
        lag = max(0, glance.seq - reached.seq)
        if not lag:
            return Record(0, 0, age_ms, reached.snapshot_problems)
        waiting = self._store.entries(f"({reached.epoch}-{reached.seq}", 1)
        first = _event(waiting[0]) if waiting else None
        # One that nobody can read keeps all others waiting; how long is not known, but since the last one that was written.
        since_ms = first.at_ms if first else reached.at_ms
        return Record(lag, max(0, glance.now_ms - since_ms), age_ms, reached.snapshot_problems)


def _event(entry: Entry) -> Event | None:
    try:
        return event_of(entry.row())
    except ValueError:
        return None


class Stocktaking:
    """Adds up all SKUs in a thread of its own, page by page, and only as long as somebody asks."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._units: Units | None = None
        self._lock = threading.Lock()
        self._counting: threading.Thread | None = None
        self._next_s = 0.0

    def latest(self) -> Units | None:
        """What was found last; if that is old, another count begins. None until there is one."""
        with self._lock:
            if self._counting is None and time.monotonic() >= self._next_s:
                self._counting = threading.Thread(target=self._count, name="stocktaking", daemon=True)
                self._counting.start()
            counting = self._counting
        if self._units is None and counting:
            counting.join(FIRST_COUNT_SECONDS)
        return self._units

    def _count(self) -> None:
        began_s = time.monotonic()
        try:
            self._units = self._counted()
        except EngineError as error:
            log.debug("stocktaking_failed", error=str(error))
        except Exception:
            log.exception("stocktaking_failed")
        finally:
            took_s = time.monotonic() - began_s
            with self._lock:
                self._next_s = time.monotonic() + max(LEAST_PAUSE_SECONDS, took_s)
                self._counting = None

    def _counted(self) -> Units:
        totals: Counter[str] = Counter()
        foremost: list[tuple[int, int, str]] = []
        now_ms, after = self._store.now_ms(), ""
        while True:
            began_s = time.monotonic()
            names, page = self._store.page_of_skus(after, PAGE)
            for sku in page:
                totals.update(
                    on_hand=sku.on_hand, available=sku.available, reserved=sku.reserved, allocated=sku.allocated
                )
            weighed = [(sku.reserved, sku.on_hand, sku.sku) for sku in page]
            foremost = heapq.nlargest(KNOWN_SKUS, foremost + weighed)
            if len(names) < PAGE:
                break
            after = names[-1]
            time.sleep(REST * (time.monotonic() - began_s))
        sums = {name: totals[name] for name in ("on_hand", "available", "reserved", "allocated")}
        return Units(now_ms, **sums, foremost=tuple(name for _, _, name in foremost))


def gate(meta: Mapping[str, str], run_id: str) -> str:
    """`open`, or `closed` and why: `meta` is what Redis says, `run_id` which server it is that says so."""
    if meta.get("gate") != "open":
        reason = meta.get("gate_reason")
        return f"closed: {reason}" if reason else "closed"
    return "open" if meta.get("run_id") == run_id else "closed: not compared with the ledger yet"


def document(overview: Overview) -> dict[str, Any]:
    """Everything that the console shows, read at this moment.

    Raises:
        StoreUnavailable: Redis can't say.
    """
    now = overview.now()
    events = overview.events()
    active = [line.sku for event in events for line in event.lines]
    names = dict.fromkeys([*active[: SHOWN_SKUS // 2], *(now.units.foremost if now.units else ()), *active])
    return {
        "as_of_ms": now.glance.now_ms,
        "gate": now.gate,
        "keeper": now.glance.keeper or None,
        "postgres": "ok" if now.record else "unavailable",
        "selling": now.selling,
        "default_hold_seconds": now.default_hold_seconds,
        "redis": {
            "used_memory_bytes": now.glance.used_memory_bytes,
            "max_memory_bytes": now.glance.max_memory_bytes,
        },
        "totals": {
            "skus": now.glance.skus,
            "live_reservations": now.glance.live,
            "events": now.glance.seq,
            **(
                asdict(now.units)
                if now.units
                else dict.fromkeys(("on_hand", "available", "reserved", "allocated", "as_of_ms"))
            ),
        },
        "lag": _lag(now),
        "rates": overview.rates(now.glance.now_ms),
        "skus": overview.skus([*names][:SHOWN_SKUS]),
        "events": events,
    }


def _lag(now: Now) -> dict[str, Any]:
    record = now.record
    age_ms = record.snapshot_age_ms if record else None
    return {
        "expiry_seconds": now.expiry_lag_ms / 1000,
        "ledger_events": record.lag_events if record else None,
        "ledger_seconds": record.lag_ms / 1000 if record else None,
        "snapshot_age_seconds": None if age_ms is None else age_ms / 1000,
    }
