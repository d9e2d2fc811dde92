"""What is given to Prometheus and Grafana names metrics that there are, in queries that Prometheus understands."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import orjson
import pytest

from api.app import create_app
from api.metrics import State
from engine.engine import Engine
from engine.meter import REGISTRY
from engine.overview import Record
from engine.totals import Totals
from engine.values import Problems
from tests.command.service import ROOT
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


def test_every_alert_leads_to_an_entry_of_the_runbook() -> None:
    headings = re.findall(r"^#+ (.+)$", (ROOT / "docs" / "RUNBOOK.md").read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    linked = re.findall(r"runbook: docs/RUNBOOK\.md#(\S+)", ALERTS.read_text())
    assert len(linked) == len(re.findall(r"alert: ", ALERTS.read_text()))
    assert [anchor for anchor in linked if anchor not in anchors] == []
