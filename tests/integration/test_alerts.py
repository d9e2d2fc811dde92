"""What is given to Prometheus and Grafana names metrics that there are, in queries that Prometheus understands."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import orjson
import psycopg
import pytest
from prometheus_client.core import Metric

from api.app import create_app
from api.metrics import State
from engine import disk, snapshots
from engine.disk import Disk
from engine.engine import Engine
from engine.meter import REGISTRY
from engine.overview import Record
from engine.totals import Totals
from engine.values import Problems
from tests.command.service import ROOT
from tests.integration.shops import Shop, one_kind
from tests.programs import needs

DEPLOY = ROOT / "docs" / "deploy"
ALERTS = DEPLOY / "alerts.yml"


@pytest.fixture(scope="session")
def promtool() -> str:
    """Prometheus's own tool."""
    return needs("promtool")


def dashboard_queries() -> list[str]:
    panels = json.loads((DEPLOY / "dashboard.json").read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def run(*command: str | Path) -> None:
    done = subprocess.run([*command], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_fires_when_it_should_and_not_before(promtool: str) -> None:
    run(promtool, "check", "rules", ALERTS)
    run(promtool, "test", "rules", ROOT / "tests" / "data" / "alerts_test.yml")
    tested = (ROOT / "tests" / "data" / "alerts_test.yml").read_text()
    alerts = re.findall(r"alert: (\w+)", ALERTS.read_text())
    assert alerts
    assert [name for name in alerts if name not in tested] == []


def test_prometheus_understands_every_query_of_the_dashboard(promtool: str, tmp_path: Path) -> None:
    queries = dashboard_queries()
    rules = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(queries)]
    # JSON is YAML.
    file = tmp_path / "queries.yml"
    file.write_bytes(orjson.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    run(promtool, "check", "rules", file)
    assert len(queries) > 15


def test_alerts_and_dashboard_name_metrics_that_there_are(
    recorded_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_app(recorded_engine)
    monkeypatch.setattr(recorded_engine.overview, "_read", lambda glance, reached: Record(0, 0, 0, 0, 0))
    monkeypatch.setattr(disk, "look", lambda settings: Disk(1, 2, redis=True, postgres=True))
    Totals(recorded_engine.watch).publish()
    recorded_engine.watch.publish_problems(Problems(0, 0, ()))
    families = [*REGISTRY.collect(), *State(recorded_engine).collect()]
    there = {family.name for family in families}
    suffix = re.compile(r"_(total|bucket|count|sum)$")
    named = {
        name for text in [ALERTS.read_text(), *dashboard_queries()] for name in re.findall(r"\bstockade_[a-z_]+", text)
    }
    assert len(named) > 10
    assert {name for name in named if name not in there and suffix.sub("", name) not in there} == set()


def as_series(page: Iterable[Metric], minutes: int) -> list[dict[str, str]]:
    """What stands on a page, as promtool wants it: the same for as many minutes."""
    found = []
    for sample in (sample for family in page for sample in family.samples):
        labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
        found.append({"series": f"{sample.name}{{{labels}}}", "values": f"{sample.value}x{minutes}"})
    return found


@one_kind
def test_no_alert_fires_in_a_shop_where_nothing_happens(shop: Shop, promtool: str, tmp_path: Path) -> None:
    """Neither in the first hour, nor in one that comes long after the last event."""
    shop.stock()
    shop.pay(shop.hold())
    shop.writer.drain()
    shop.snapshots.take()
    shop.redis.set(shop.engine.store.keys.keeper, "somebody")
    with psycopg.connect(shop.url) as connection:
        connection.execute("UPDATE snapshots SET taken_ms = taken_ms - 86400000")
        connection.execute("UPDATE ledger SET at_ms = at_ms - 86500000")
        snapshots.thin_out(connection, "p0", time.time_ns() // 1_000_000)
    shop.engine.store.publish_problems(Problems(shop.engine.store.now_ms(), 0, ()))
    series = as_series([*REGISTRY.collect(), *State(shop.engine).collect()], 120)
    assert len(series) > 20
    up = {"series": 'up{job="stockade",instance="a"}', "values": "1x120"}
    nothing = [{"expr": "count(ALERTS)", "eval_time": f"{minutes}m", "exp_samples": []} for minutes in range(0, 121, 5)]
    test = {"interval": "1m", "input_series": [*series, up], "promql_expr_test": nothing}
    file = tmp_path / "quiet.yml"
    file.write_bytes(orjson.dumps({"rule_files": [str(ALERTS)], "evaluation_interval": "15s", "tests": [test]}))
    run(promtool, "test", "rules", file)


def test_every_alert_leads_to_an_entry_of_the_runbook() -> None:
    headings = re.findall(r"^#+ (.+)$", (ROOT / "docs" / "RUNBOOK.md").read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    linked = re.findall(r"runbook: docs/RUNBOOK\.md#(\S+)", ALERTS.read_text())
    assert len(linked) == len(re.findall(r"alert: ", ALERTS.read_text()))
    assert [anchor for anchor in linked if anchor not in anchors] == []
