"""The state of the service now, at a cost that doesn't grow with the number of SKUs: for the console and for Prometheus."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import structlog

from engine import switch
from engine.bounded import Bounded
from engine.config import Settings
from engine.errors import ConfigurationError, StoreUnavailable
from engine.ledger import Entry, Ledger, Reached, event_of
from engine.meter import RATES
from engine.readiness import readiness
from engine.store import COUNTERS, Glance, Store
from engine.values import Event, Selling, Sku, Units, number

log = structlog.get_logger()

T = TypeVar("T")

LATEST_EVENTS = 20
SHOWN_SKUS = 20
RATE_SECONDS = 60

POSTGRES_AWAY_SECONDS = 5.0
"""Pause after a query that Postgres did not answer; without it, every poll of the console would wait for the time-out."""

POSTGRES_SHARE = 0.6
"""Of the time for a look: so long what Redis says waits for what Postgres says, to be compared with it."""


@dataclass(frozen=True)
class Record:
    """How far Postgres is behind Redis, and the newest snapshot behind Postgres.

    `snapshot_age_ms` is None if there is no snapshot. `snapshot_lag_ms` is the age of the oldest event that is not in a snapshot, 0 if there
    is none: a service that is new, or where nothing happens, needs no new snapshot.
    """

    lag_events: int
    lag_ms: int
    snapshot_age_ms: int | None
    snapshot_lag_ms: int
    snapshot_problems: int


@dataclass(frozen=True)
class Now:
    """`record` is None if Postgres doesn't answer, `units` until a keeper has published totals.

    `expiry_lag_ms`: how long the earliest hold is overdue; 0 if no hold is.
    """

    glance: Glance
    gate: str
    selling: Selling
    default_hold_seconds: int
    expiry_lag_ms: int
    record: Record | None
    units: Units | None


@dataclass(frozen=True)
class Seen:
    """What could be had in time. `now` is None if Redis doesn't answer; `postgres` is `ok`, or why no commit could be written."""

    now: Now | None
    postgres: str
    skus: list[Sku]


class Overview:
    """Safe to share between threads."""

    def __init__(self, store: Store, ledger: Ledger, settings: Settings) -> None:
        self._store = store
        self._ledger = ledger
        self.settings = settings
        self._postgres_away_until_s = 0.0
        self._looks_at_redis = Bounded[Now]()
        self._looks_at_postgres = Bounded[Reached]()
        self._asks_postgres = Bounded[str]()
        self._looks_at_skus = Bounded[list[Sku]]()

    def now(self) -> Now:
        """Raises: StoreUnavailable: Redis doesn't answer."""
        glance = self._store.glance()
        return self._now(glance, self._record(glance))

    def look(self, seconds: float, *, most_skus: int = 0) -> Seen:
        """What is seen within that time, whatever hangs; with the SKUs that have the most reserved units, if any are wanted."""
        give_up_s = time.monotonic() + seconds
        postgres = self._asks_postgres.begin(self._ledger.unwritable)
        now = _answered(self._looks_at_redis.begin(lambda: self._compared(seconds * POSTGRES_SHARE)), give_up_s)
        skus: list[Sku] | None = []
        if now and most_skus:
            skus = _answered(self._looks_at_skus.begin(lambda: self.most_reserved(now, most_skus)), give_up_s)
        unwritable = _answered(postgres, give_up_s)
        return Seen(
            now if skus is not None else None, "unavailable" if unwritable is None else unwritable or "ok", skus or []
        )

    def _compared(self, seconds: float) -> Now:
        """As `now`, but Postgres has only so long to answer."""
        give_up_s = time.monotonic() + seconds
        glance = self._store.glance()
        reached = _answered(self._looks_at_postgres.begin(self._ledger.reached), give_up_s)
        return self._now(glance, self._read(glance, reached) if reached else None)

    def _now(self, glance: Glance, record: Record | None) -> Now:
        meta, first_ms = glance.meta, glance.first_deadline_ms
        default_ms = max(0, number(meta.get("default_hold_ms"))) or self.settings.default_hold_seconds * 1000
        return Now(
            glance=glance,
            gate=gate(meta, glance.run_id),
            selling=Selling("selling_paused" in meta, meta.get("selling_reason", "")),
            default_hold_seconds=default_ms // 1000,
            expiry_lag_ms=max(0, glance.now_ms - first_ms) if first_ms else 0,
            record=record,
            units=glance.units,
        )

    def most_reserved(self, now: Now, most: int) -> list[Sku]:
        """The SKUs with the most reserved units, read now; every SKU if there are at most `most`."""
        if now.glance.skus <= most:
            return self._store.page_of_skus("", most)[1]
        return self.skus(now.units.most_reserved[:most] if now.units else ())

    def skus(self, names: Sequence[str]) -> list[Sku]:
        """The SKUs with these names, read now; unknown ones are left out."""
        return self._store.skus_named(names)

    def shown(self, now: Now, events: Sequence[Event]) -> list[Sku]:
        """At most `SHOWN_SKUS` for the console: those with the most reserved units first, then those of the latest events.

        Every SKU if there are no more.
        """
        found = {sku.sku: sku for sku in self.most_reserved(now, SHOWN_SKUS)}
        if now.glance.skus > SHOWN_SKUS:
            active = dict.fromkeys(line.sku for event in events for line in event.lines)
            missing = [name for name in active if name not in found][:SHOWN_SKUS]
            found |= {sku.sku: sku for sku in self.skus(missing)}
            # Units may have been given back since the totals were published.
            found = {name: sku for name, sku in found.items() if sku.reserved or name in active}
        return sorted(found.values(), key=lambda sku: -sku.reserved)[:SHOWN_SKUS]

    def events(self) -> list[Event]:
        """The latest events in Redis, newest first. Entries that are not events of ours are left out."""
        entries = self._store.latest_entries("+", LATEST_EVENTS)
        return [event for event in map(_event, entries) if event]

    def rates(self, now_ms: int) -> dict[str, list[int]]:
        """Counts of each of `RATES` for each of the last `RATE_SECONDS` seconds, oldest first, summed over all processes.

        `seconds` has the start of each second. A process publishes a second after its end, so the latest may be incomplete.
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
        late_ms = max(0, glance.now_ms - reached.unsnapped_ms) if reached.unsnapped_ms else 0
        lag = max(0, glance.seq - reached.seq)
        if not lag:
            return Record(0, 0, age_ms, late_ms, reached.snapshot_problems)
        waiting = self._store.entries(f"({reached.epoch}-{reached.seq}", 1)
        first = _event(waiting[0]) if waiting else None
        # An unreadable event blocks the ledger writer, and its time is unknown; it is later than the last event in Postgres.
        since_ms = first.at_ms if first else reached.at_ms
        return Record(lag, max(0, glance.now_ms - since_ms), age_ms, late_ms, reached.snapshot_problems)


def _answered(answer: Future[T], give_up_s: float) -> T | None:
    """None if it doesn't come in time, or says that there is none. Anything else that goes wrong is a bug, and logged."""
    try:
        return switch.result(answer, max(0.0, give_up_s - time.monotonic()))
    except (TimeoutError, StoreUnavailable, ConfigurationError):
        return None
    except Exception:
        log.exception("state_unreadable")
        return None


def _event(entry: Entry) -> Event | None:
    try:
        return event_of(entry.row())
    except ValueError:
        return None


def gate(meta: Mapping[str, str], run_id: str) -> str:
    """`open`, or `closed: ` and why, from the meta hash and the `run_id` of the server that it was read from."""
    if meta.get("gate") != "open":
        reason = meta.get("gate_reason")
        return f"closed: {reason}" if reason else "closed"
    return "open" if meta.get("run_id") == run_id else "closed: not compared with the ledger yet"


def document(overview: Overview) -> dict[str, Any]:
    """Everything that the console shows, read now.

    Raises:
        StoreUnavailable: Redis doesn't answer.
    """
    now = overview.now()
    checks = readiness(now, "ok" if now.record else "unavailable", overview.settings)
    events = overview.events()
    return {
        "as_of_ms": now.glance.now_ms,
        "gate": now.gate,
        "keeper": now.glance.keeper or None,
        "postgres": checks["postgres"],
        "record": checks["record"],
        "checks": checks,
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
            **(asdict(now.units) if now.units else dict.fromkeys((*COUNTERS, "as_of_ms"))),
        },
        "lag": _lag(now),
        "intervals": {
            "ledger_seconds": overview.settings.ledger_interval_ms / 1000,
            "snapshot_seconds": overview.settings.snapshot_seconds,
        },
        "rates": overview.rates(now.glance.now_ms),
        "skus": overview.shown(now, events),
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
        "snapshot_lag_seconds": record.snapshot_lag_ms / 1000 if record else None,
    }
