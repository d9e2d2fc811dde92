"""Each fault of the table in docs/faults.md is done to a running service, and seen in every place that the table names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from typing import Any

import psycopg
import pytest
from redis import Redis

from engine.embedded_postgres import processes
from tests.command.service import ROOT, Service, part, standing_still
from tests.command.test_doctor import alarms, examined
from tests.waiting import wait_until

PAGE = ROOT / "docs" / "faults.md"
SOON_SECONDS = 40.0
"""The slowest is told after 10 s, so that a burst is no fault."""


@dataclass(frozen=True)
class Seen:
    """Where a fault is seen. `readyz` and `console` are `part: text`, `metric` is a name and its value, `log` a kind of line."""

    readyz: str
    metric: str
    alert: str
    console: str
    log: str
    doctor: str
    entry: str


@contextmanager
def changed(service: Service, there: str, back: str) -> Iterator[None]:
    """Something is done to Postgres past Stockade, and then made good."""
    with psycopg.connect(url(service), autocommit=True) as connection:
        connection.execute(there)
        try:
            yield
        finally:
            connection.execute(back)


@contextmanager
def row_lost(service: Service) -> Iterator[None]:
    """A row of the ledger that Redis's stream doesn't have any more, either."""
    with psycopg.connect(url(service), autocommit=True) as connection, redis(service) as client:
        [entry] = client.xrange("stk:{p0}:ledger", "-", "+", 2)[1:]
        client.xdel("stk:{p0}:ledger", entry[0])
        connection.execute("CREATE TABLE kept AS SELECT * FROM ledger WHERE seq = 2")
        connection.execute("DELETE FROM ledger WHERE seq = 2")
        try:
            yield
        finally:
            connection.execute("INSERT INTO ledger SELECT * FROM kept")
            connection.execute("DROP TABLE kept")


@contextmanager
def counter_raised(service: Service) -> Iterator[None]:
    with redis(service) as client:
        client.hincrby("stk:{p0}:sku:tee", "available", 3)
        try:
            yield
        finally:
            client.hincrby("stk:{p0}:sku:tee", "available", -3)


def url(service: Service) -> str:
    return (service.data_dir / "postgres.url").read_text().strip()


def redis(service: Service) -> Any:
    return Redis.from_url((service.data_dir / "redis.url").read_text().strip(), decode_responses=True)


RECORD = (
    "record: damaged",
    "stockade_record_problems 1",
    "StockadeRecordDamaged",
    "record: damaged",
    "record_damaged",
    "record",
)
DAMAGED = Seen(*RECORD, "The record is damaged")
POSTGRES_DOWN = ("stockade_postgres_up 0", "StockadePostgresDown", "postgres: unavailable")

FAULTS: dict[str, tuple[Callable[[Service], Any], Seen]] = {
    "a row of the ledger is changed": (
        lambda service: changed(
            service, "UPDATE ledger SET actor = 'eve' WHERE seq = 2", "UPDATE ledger SET actor = 'olga' WHERE seq = 2"
        ),
        DAMAGED,
    ),
    "a row of the ledger is gone, in Redis too": (row_lost, DAMAGED),
    "the projections stand still": (
        lambda service: changed(
            service, "UPDATE projection_position SET seq = seq + 9", "UPDATE projection_position SET seq = seq - 9"
        ),
        DAMAGED,
    ),
    "a counter in Redis is raised by hand": (counter_raised, DAMAGED),
    "a table is gone": (
        lambda service: changed(service, "ALTER TABLE ledger RENAME TO away", "ALTER TABLE away RENAME TO ledger"),
        Seen(
            "postgres: the table ledger is missing", *POSTGRES_DOWN, "record_unchecked", "postgres", "Postgres is down"
        ),
    ),
    "Postgres hangs": (
        lambda service: standing_still(processes((service.data_dir / "postgres").resolve())),
        Seen("postgres: unavailable", *POSTGRES_DOWN, "not_ready", "postgres", "Postgres is down"),
    ),
    "the keeper hangs": (
        lambda service: standing_still([part(service.process, "keeper").pid]),
        Seen(
            *("keeper: missing", "stockade_keeper_leads 0", "StockadeNoKeeper", "keeper: None"),
            *("not_ready", "keeper", "No keeper leads"),
        ),
    ),
    "Redis hangs": (
        lambda service: standing_still([part(service.process, "valkey").pid]),
        Seen(
            *("redis: unavailable", "stockade_redis_up 0", "StockadeRedisDown", "no answer: store_unavailable"),
            *("sweep_failed", "redis", "Redis is down"),
        ),
    ),
}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with some events, whose log is looked at from each test's beginning."""
    running = Service(tmp_path_factory.mktemp("faults") / "data", {"STOCKADE_WORKERS": "1"})
    ops = running.token("olga", "ops")
    for sku in ("tee", "hat", "mug"):
        assert running.call("PUT", f"/v1/skus/{sku}", {"on_hand": 9}, token=ops).status == 201
    with psycopg.connect(url(running), autocommit=True) as connection:
        wait_until(lambda: connection.execute("SELECT 1 FROM ledger WHERE seq = 3").fetchone())
    yield running
    running.stop()


def readyz(service: Service) -> dict[str, str]:
    checks: dict[str, str] = service.call("GET", "/readyz").document["checks"]
    return checks


def console(service: Service) -> dict[str, Any]:
    answer = service.call("GET", "/v1/overview", token=service.token("olga", "ops"))
    document: dict[str, Any] = answer.document
    return document if answer.status == 200 else {"no answer": document["code"]}


def shows(found: dict[str, Any], cell: str) -> bool:
    name, _, text = cell.partition(": ")
    return str(found.get(name, "")).startswith(text)


def metric(service: Service, cell: str) -> bool:
    page = service.call("GET", "/metrics").document.decode()
    return bool(re.search(rf"^{re.escape(cell)}(\.0)?$", page, re.MULTILINE))


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "seen"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_seen_in_every_place(watched: Service, fault: Callable[[Service], Any], seen: Seen) -> None:
    wait_until(lambda: watched.call("GET", "/readyz").status == 200, SOON_SECONDS)
    begins = len(watched.stderr)
    with fault(watched):
        wait_until(lambda: shows(readyz(watched), seen.readyz), SOON_SECONDS)
        wait_until(lambda: metric(watched, seen.metric), SOON_SECONDS)
        wait_until(lambda: shows(console(watched), seen.console), SOON_SECONDS)
        wait_until(lambda: f'"event": "{seen.log}"' in watched.stderr[begins:], SOON_SECONDS)
        assert [name for name in alarms(examined(watched.data_dir)) if name.startswith(seen.doctor)]
    wait_until(lambda: watched.call("GET", "/readyz").status == 200, SOON_SECONDS)


def test_the_page_has_every_fault_and_no_empty_cell() -> None:
    rows = re.findall(r"^\| (.+) \|$", PAGE.read_text(), re.MULTILINE)
    table = [[cell.strip().strip("`") for cell in row.split(" | ")] for row in rows]
    assert table[0] == ["fault", *("runbook entry" if each.name == "entry" else each.name for each in fields(Seen))]
    assert table[1:] == [[name, *astuple(seen)] for name, (_, seen) in FAULTS.items()]
    assert all(cell for row in table for cell in row)


def test_the_alerts_ask_the_metrics_and_the_entries_are_there() -> None:
    rules = (ROOT / "docs" / "deploy" / "alerts.yml").read_text()
    asks = dict(re.findall(r"- alert: (\w+)\n +expr: (.+)", rules))
    headings = re.findall(r"^## (.+)$", (ROOT / "docs" / "RUNBOOK.md").read_text(), re.MULTILINE)
    for _, seen in FAULTS.values():
        assert seen.metric.split()[0] in asks[seen.alert]
        assert seen.entry in headings
