"""`make load`, scenario by scenario, in small."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import psutil
import pytest

from loadtests.defaults import SCENARIOS
from loadtests.service import Service as Operator
from loadtests.thresholds import bounds
from tests.command.service import ROOT, Service, environment
from tests.waiting import wait_until

QUICK = ("baskets",)
CALM = {"reserve_p99_ms", "sold_out_p99_ms", "expiry_lag_p99_ms", "bot_slowdown", "latency_drift"}
"""Thresholds that say more of the machine that runs the tests than of the service."""

SMALL = {
    "flash_crowd": ("--users", "20", "--time", "20"),
    "abandoned_carts": ("--users", "16", "--time", "3"),
    "payment_storm": ("--checkouts", "40", "--users", "8"),
    "bots": ("--users", "3", "--time", "2"),
    "soak": ("--checkouts", "30", "--users", "4"),
}
"""Those that no other test runs."""


def command_of(reports: Path, *arguments: str) -> list[str]:
    scenario = arguments[arguments.index("--scenario") + 1] if "--scenario" in arguments else "baskets"
    there = CALM & bounds(scenario.replace("-", "_")).keys()
    calm = [word for name in sorted(there) for word in ("--threshold", f"{name}=off")]
    return [sys.executable, "-m", "loadtests.run", "--report", str(reports), *calm, *arguments]


def load(reports: Path, *arguments: str, **variables: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """Run the kit to its end. Returns: the run, and what its JSON says."""
    command = command_of(reports, *arguments)
    run = subprocess.run(
        command, env=environment(variables), cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
    )
    documents = list(reports.glob("*.json"))
    return run, json.loads(documents[0].read_text()) if documents else {}


def sold_from(service: Service) -> set[str]:
    """SKUs of load tests that somebody has bought of."""
    secrets = dict(line.split("=", 1) for line in (service.data_dir / "secrets.env").read_text().splitlines())
    seen = Operator(f"http://{service.host}:{service.port}", secrets["STOCKADE_JWT_SECRET"])
    return {sku for sku, counters in seen.counters("load-").items() if counters["allocated"]}


def against(
    service: Service, reports: Path, *arguments: str
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    host = f"http://{service.host}:{service.port}"
    return load(reports, "--host", host, *arguments, STOCKADE_DATA_DIR=str(service.data_dir))


@pytest.mark.parametrize(
    "scenario", [each if each in QUICK else pytest.param(each, marks=pytest.mark.slow) for each in SMALL]
)
def test_a_scenario_ends_in_a_verdict_and_a_report(service: Service, tmp_path: Path, scenario: str) -> None:
    run, document = against(service, tmp_path, "--scenario", scenario, *SMALL[scenario])
    assert run.returncode == 0, run.stdout + run.stderr
    assert "verdict        passed" in run.stdout
    assert document["passed"]
    assert document["accepted"] > 0
    assert {each["name"] for each in document["thresholds"] if each["result"] == "off"} == CALM & bounds(
        scenario
    ).keys()
    assert (document["rush"] is not None) == SCENARIOS[scenario].rush
    assert re.search(r"^loading \d+ SKUs$", run.stderr, re.MULTILINE)
    [page] = tmp_path.glob(f"{scenario}-*.html")
    assert str(page) in run.stdout


@pytest.mark.slow
def test_workers_of_a_distributed_run_hand_their_records_to_the_master(service: Service, tmp_path: Path) -> None:
    arguments = ("--checkouts", "30", "--users", "4", "--processes", "2")
    run, document = against(service, tmp_path, *arguments)
    assert run.returncode == 0, run.stdout + run.stderr
    assert document["passed"]
    assert (document["workers"], document["checkouts"]) == (2, 30)


@pytest.mark.slow
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


def started(command: list[str], service: Service, output: IO[str]) -> subprocess.Popen[str]:
    """A run in the background, told where the service's secrets are."""
    variables = environment({"STOCKADE_DATA_DIR": str(service.data_dir)})
    # A background job of a shell ignores SIGINT, and so would what it starts.
    command = ["env", "--default-signal=INT", *command]
    return subprocess.Popen(command, env=variables, cwd=ROOT, stdout=output, stderr=output, text=True)


def by_make(directory: Path, command: list[str]) -> list[str]:
    """Have a make run the command, as `make load` does, with words that need a shell."""
    makefile = directory / "Makefile"
    makefile.write_text(f'load:\n\t{shlex.join(command).replace("$", "$$")} --threshold ""\n')
    return ["make", "-f", str(makefile), "load"]


@pytest.mark.parametrize(
    ("processes", "make"),
    [pytest.param("0", False, marks=pytest.mark.slow), pytest.param("0", True, marks=pytest.mark.slow), ("2", True)],
)
def test_an_interrupted_run_is_judged_and_has_not_passed(
    service: Service, tmp_path: Path, processes: str, make: bool
) -> None:
    host, reports = f"http://{service.host}:{service.port}", tmp_path / "reports"
    arguments = ("--scenario", "basket_overlap", "--users", "2", "--time", "60", "--processes", processes)
    command = command_of(reports, "--host", host, *arguments)
    before = sold_from(service)
    with (tmp_path / "output").open("w+") as output:
        run = started(by_make(tmp_path, command) if make else command, service, output)
        try:
            wait_until(lambda: sold_from(service) - before, 40)
            run.send_signal(signal.SIGINT)
            assert run.wait(40) in ((2, -signal.SIGINT) if make else (130,))
        finally:
            run.kill()
            run.wait()
    words = (tmp_path / "output").read_text()
    [path] = reports.glob("*.json")
    document = json.loads(path.read_text())
    assert (document["interrupted"], document["passed"]) == (True, False)
    assert "✗ Interrupted" in path.with_suffix(".html").read_text()
    assert "verdict        interrupted" in words
    assert "Traceback" not in words


@pytest.mark.slow
def test_a_lost_locust_worker_is_the_one_thing_that_is_wrong(service: Service, tmp_path: Path) -> None:
    host, reports = f"http://{service.host}:{service.port}", tmp_path / "reports"
    arguments = ("--scenario", "basket_overlap", "--users", "4", "--time", "15", "--processes", "2")
    before = sold_from(service)
    with (tmp_path / "output").open("w+") as output:
        run = started(command_of(reports, "--host", host, *arguments), service, output)
        try:
            wait_until(lambda: sold_from(service) - before, 40)
            [locust] = psutil.Process(run.pid).children()
            locust.children()[-1].kill()
            assert run.wait(100) == 1
        finally:
            run.kill()
            run.wait()
    words = (tmp_path / "output").read_text()
    lost = "1 of 2 locust workers was lost with the records of their buyers"
    assert re.findall(r"^WRONG: (.*)", words, re.MULTILINE) == [lost]
    assert "lost           not judged   must be 0" in words
    assert "Traceback" not in words
    assert re.search(r"^\d+ s, \d+ s left, \d users, [\d,]+ requests/s, [1-9][\d,]* accepted, ", words, re.MULTILINE)
    [path] = reports.glob("*.json")
    document = json.loads(path.read_text())
    assert document["wrong"] == [lost]
    assert (document["lost"], document["oversold"], document["missing"]) == (None, 0, {"records": lost})


@pytest.mark.slow
def test_a_run_whose_service_is_gone_is_judged_by_what_buyers_know(
    start: Callable[..., Service], tmp_path: Path
) -> None:
    service, reports = start(), tmp_path / "reports"
    host = f"http://{service.host}:{service.port}"
    arguments = ("--scenario", "basket_overlap", "--users", "2", "--time", "60")
    with (tmp_path / "output").open("w+") as output:
        run = started(command_of(reports, "--host", host, *arguments), service, output)
        try:
            wait_until(lambda: sold_from(service), 40)
            service.stop()
            run.send_signal(signal.SIGINT)
            assert run.wait(110) == 130
        finally:
            run.kill()
            run.wait()
    [path] = reports.glob("*.json")
    document = json.loads(path.read_text())
    assert (document["oversold"], document["lost"], document["events"]) == (None, None, None)
    assert document["accepted"] > 0
    assert document["wrong"][0].startswith("counters and ledger could not be read: the service can't be reached")
    assert "verdict        interrupted" in (tmp_path / "output").read_text()


def test_a_wrong_secret_is_told_in_words(service: Service, tmp_path: Path) -> None:
    host = f"http://{service.host}:{service.port}"
    run, _ = load(tmp_path, "--host", host, STOCKADE_JWT_SECRET="x" * 32)
    assert run.returncode == 1
    assert "the secret isn't the service's" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--scenario", "earthquake"), "there is no scenario earthquake"),
        (("--time", "soon"), "soon is no time"),
        (("--users", "0"), "0 is no whole number from 1 on"),
        (("--checkouts", "0"), "0 is no whole number from 1 on"),
        (("--seed", "x"), "x is no whole number"),
        (("--processes", "-1"), "-1 is no whole number"),
        (("--threshold", "foo=1"), "baskets has no threshold foo; it has expiry_lag_p99_ms, reserve_p99_ms"),
        (("--threshold", "turnover=1"), "baskets has no threshold turnover"),
        (("--threshold", "reserve_p99_ms=x"), "reserve_p99_ms wants a number"),
        (("--host", "localhost:8000"), "begin with http://"),
        (("--host", "http://127.0.0.1:1"), "no Stockade is ready at HOST=http://127.0.0.1:1"),
        (("--host", "http://127.0.0.1:1", "--kill", "worker"), "KILL is for a private service"),
    ],
)
def test_what_cannot_be_run_is_refused_in_words(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    run, _ = load(tmp_path, *arguments)
    assert run.returncode != 0
    assert words in run.stderr
    assert "Traceback" not in run.stderr
