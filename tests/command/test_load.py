"""`make load`, scenario by scenario, in small."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.command.service import ROOT, Service, environment

CALM = ("reserve_p99_ms", "sold_out_p99_ms", "expiry_lag_p99_ms", "bot_slowdown", "latency_drift")
"""Thresholds that say more of the machine that runs the tests than of the service."""

SMALL = {
    "flash_crowd": ("--users", "20", "--time", "20"),
    "abandoned_carts": ("--users", "16", "--time", "3"),
    "payment_storm": ("--checkouts", "40", "--users", "8"),
    "bots": ("--users", "3", "--time", "2"),
    "soak": ("--checkouts", "30", "--users", "4"),
}
"""Those that no other test runs."""


def load(reports: Path, *arguments: str, **variables: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """Run the kit to its end. Returns: the run, and what its JSON says."""
    calm = [word for name in CALM for word in ("--threshold", f"{name}=off")]
    command = [sys.executable, "-m", "loadtests.run", "--report", str(reports), *calm, *arguments]
    run = subprocess.run(
        command, env=environment(variables), cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
    )
    documents = list(reports.glob("*.json"))
    return run, json.loads(documents[0].read_text()) if documents else {}


def against(
    service: Service, reports: Path, *arguments: str
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    host = f"http://{service.host}:{service.port}"
    return load(reports, "--host", host, *arguments, STOCKADE_DATA_DIR=str(service.data_dir))


@pytest.mark.parametrize("scenario", SMALL)
def test_a_scenario_ends_in_a_verdict_and_a_report(service: Service, tmp_path: Path, scenario: str) -> None:
    run, document = against(service, tmp_path, "--scenario", scenario, *SMALL[scenario])
    assert run.returncode == 0, run.stdout + run.stderr
    assert "verdict        passed" in run.stdout
    assert document["passed"]
    assert document["accepted"] > 0
    [page] = tmp_path.glob(f"{scenario}-*.html")
    assert str(page) in run.stdout


def test_workers_of_a_distributed_run_hand_their_records_to_the_master(service: Service, tmp_path: Path) -> None:
    arguments = ("--checkouts", "30", "--users", "4", "--processes", "2")
    run, document = against(service, tmp_path, *arguments)
    assert run.returncode == 0, run.stdout + run.stderr
    assert document["passed"]
    assert (document["workers"], document["checkouts"]) == (2, 30)


def test_a_worker_killed_in_the_middle_costs_nobody_a_unit(tmp_path: Path) -> None:
    arguments = ("--scenario", "basket-overlap", "--checkouts", "150", "--users", "8", "--kill", "worker")
    run, document = load(tmp_path, *arguments)
    assert run.returncode == 0, run.stdout + run.stderr
    assert document["passed"]
    assert any("killed with SIGKILL" in note for note in document["notes"])


def test_a_run_that_misses_a_threshold_fails(service: Service, tmp_path: Path) -> None:
    arguments = ("--checkouts", "3", "--users", "1", "--threshold", "reserve_p99_ms=0.001")
    run, document = against(service, tmp_path, *arguments)
    assert run.returncode == 1
    assert "WRONG: reserve_p99_ms is" in run.stdout
    assert not document["passed"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--scenario", "earthquake"), "there is no scenario earthquake"),
        (("--time", "soon"), "soon is no time"),
        (("--host", "http://127.0.0.1:1"), "no Stockade is ready at HOST=http://127.0.0.1:1"),
        (("--host", "http://127.0.0.1:1", "--kill", "worker"), "KILL is for a private service"),
    ],
)
def test_what_cannot_be_run_is_refused_in_words(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    run, _ = load(tmp_path, *arguments)
    assert run.returncode != 0
    assert words in run.stderr
    assert "Traceback" not in run.stderr
