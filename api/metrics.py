"""The page for Prometheus: counters of all processes of this host, and the state of the service.

Counters are per host: sum them over hosts. Every host reports the same state: take its maximum.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from math import inf
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from engine import count_files, disk
from engine.disk import Disk
from engine.engine import Engine
from engine.meter import REGISTRY
from engine.overview import Now
from engine.totals import MAX_RESERVED
from engine.unfailing import log_state

log = structlog.get_logger()

UNITS = ("available", "reserved", "allocated")


ANSWER_SECONDS = 0.7
"""For what Redis and Postgres have to say: with it a page is there within a second, whatever hangs."""


def page(engine: Engine) -> bytes:
    """Counters and state. What can't be had within `ANSWER_SECONDS` is left out."""
    state = CollectorRegistry()
    state.register(State(engine))
    return counts(engine) + generate_latest(state)


def counts(engine: Engine) -> bytes:
    """Counters of the processes of this host. Asks neither Redis nor Postgres."""
    engine.meter.catch_up()
    directory = os.environ.get(count_files.VARIABLE)
    if not directory:
        return generate_latest(REGISTRY)
    counted = CollectorRegistry()
    try:
        with count_files.locked(Path(directory)):
            MultiProcessCollector(counted)
            return generate_latest(counted)
    except Exception as error:
        log.error(
            "counts_unreadable", directory=directory, error=str(error), advice="restart the API; it begins them anew"
        )
        return b""


class State(Collector):
    """State, read from Redis and Postgres for each scrape. If one doesn't answer in time, its metrics are missing."""

    def __init__(self, engine: Engine) -> None:
        self._overview = engine.overview

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        seen = self._overview.look(ANSWER_SECONDS, most_skus=MAX_RESERVED)
        yield _gauge("stockade_redis_up", "Whether Redis answers.", int(seen.now is not None))
        yield _gauge(
            "stockade_postgres_up",
            "Whether Postgres answers, and a commit could be written.",
            int(seen.postgres == "ok"),
        )
        yield from _of_disk(disk.look(self._overview.settings))
        yield _gauge("stockade_log_taken", "Whether what this host's API logs is written.", int(log_state() == "ok"))
        if seen.now is None:
            return
        yield from _of_redis(seen.now)
        yield from _of_postgres(seen.now)
        per_sku = GaugeMetricFamily(
            "stockade_sku_units",
            "Units of the 100 SKUs with the most reserved ones; of all SKUs where there are no more.",
            labels=["sku", "state"],
        )
        for sku in seen.skus:
            for name in UNITS:
                per_sku.add_metric([sku.sku, name], getattr(sku, name))
        yield per_sku


def _of_disk(seen: Disk | None) -> Iterable[Metric]:
    if seen:
        yield _gauge("stockade_disk_free_bytes", "Free where the embedded servers have their data.", seen.free_bytes)
        yield _gauge("stockade_disk_bytes", "Size of that disk.", seen.size_bytes)


def _of_redis(now: Now) -> Iterable[Metric]:
    glance = now.glance
    yield _gauge("stockade_gate_open", "Whether the recovery gate is open.", int(now.gate == "open"))
    yield _gauge("stockade_keeper_leads", "Whether a keeper leads.", int(bool(glance.keeper)))
    yield _gauge("stockade_selling_paused", "Whether all selling is paused.", int(now.selling.paused))
    yield _gauge("stockade_live_reservations", "Holds that live now.", glance.live)
    yield _gauge("stockade_skus", "SKUs that there are.", glance.skus)
    yield _gauge(
        "stockade_expiry_lag_seconds", "How late the hold is that should have ended first.", now.expiry_lag_ms / 1000
    )
    yield _gauge("stockade_redis_memory_bytes", "Memory that Redis uses.", glance.used_memory_bytes)
    yield _gauge("stockade_redis_max_memory_bytes", "What it may use; 0: no limit.", glance.max_memory_bytes)
    age_s = inf
    if glance.problems:
        yield _gauge("stockade_record_problems", "What the record check found wrong.", glance.problems.count)
        age_s = max(0, glance.now_ms - glance.problems.as_of_ms) / 1000
        loads = int(not glance.problems.aof)
        yield _gauge("stockade_redis_aof_loads", "Whether a restart of Redis would load its whole AOF.", loads)
    yield _gauge("stockade_record_check_age_seconds", "How long ago the record was checked; +Inf: never.", age_s)
    yield _gauge("stockade_redis_writes", "Whether Redis could do its last write to the AOF.", int(glance.writes))
    off_s, ahead_s = glance.clock_off_ms / 1000, glance.clock_ahead_ms / 1000
    yield _gauge("stockade_redis_clock_offset_seconds", "How far Redis's clock is ahead of this host's.", off_s)
    yield _gauge("stockade_clock_ahead_seconds", "How far the latest time written is ahead of Redis's clock.", ahead_s)
    events = CounterMetricFamily("stockade_ledger_events", "Events in the ledger since it began.")
    events.add_metric([], int(glance.meta.get("seq") or 0))
    yield events
    if now.units:
        units = GaugeMetricFamily(
            "stockade_units", "Units of all SKUs, as a keeper adds them up once a second.", labels=["state"]
        )
        for name in UNITS:
            units.add_metric([name], getattr(now.units, name))
        yield units
        age_s = max(0, glance.now_ms - now.units.as_of_ms) / 1000
        yield _gauge("stockade_units_age_seconds", "How long ago that was.", age_s)


def _of_postgres(now: Now) -> Iterable[Metric]:
    record = now.record
    if record is None:
        return
    yield _gauge("stockade_ledger_lag_events", "Events that Redis has and Postgres hasn't.", record.lag_events)
    yield _gauge("stockade_ledger_lag_seconds", "How old the first of these is.", record.lag_ms / 1000)
    if record.snapshot_age_ms is not None:
        yield _gauge("stockade_snapshot_age_seconds", "Age of the newest snapshot.", record.snapshot_age_ms / 1000)
        yield _gauge("stockade_snapshot_problems", "What is off with it.", record.snapshot_problems)
    late_s = record.snapshot_lag_ms / 1000
    yield _gauge(
        "stockade_snapshot_lag_seconds",
        "Age of the oldest event that is not in a snapshot; 0 if there is none.",
        late_s,
    )


def _gauge(name: str, says: str, value: float) -> Metric:
    return GaugeMetricFamily(name, says, value=value)
