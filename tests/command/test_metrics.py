"""Counts of several processes, over the death of one; and how one grep tells a buyer's story."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from tests.command.service import ROOT, Service, environment, fails_in_one_line, stockade, workers
from tests.waiting import wait_until

LINE = {"lines": [{"sku": "tee", "quantity": 1}]}


def sample(service: Service, name: str, **labels: str) -> float:
    """One metric, as any worker shows it."""
    page = service.call("GET", "/metrics").document.decode()
    for family in text_string_to_metric_families(page):
        for each in family.samples:
            if each.name == name and all(each.labels.get(label) == value for label, value in labels.items()):
                return float(each.value)
    return 0.0


def test_workers_and_keeper_count_together_and_nothing_is_lost_with_one_of_them(
    start: Callable[..., Service],
) -> None:
    service = start(workers=2)
    ops, ann = service.token("olga", "ops"), service.token("ann", "customer")
    service.call("PUT", "/v1/skus/tee", {"on_hand": 1_000}, token=ops)

    def reserve(times: int) -> None:
        for _ in range(times):
            assert service.call("POST", "/v1/reservations", LINE | {"hold_seconds": 1}, token=ann).status == 201

    def reserved() -> float:
        return sample(service, "stockade_requests_total", route="/v1/reservations", code="ok")

    reserve(20)
    wait_until(lambda: reserved() == 20)
    wait_until(lambda: sample(service, "stockade_script_outcomes_total", script="expire", outcome="expired") == 20)
    killed = workers(service.process)[0]
    os.kill(killed.pid, signal.SIGKILL)
    wait_until(lambda: not killed.alive and len(workers(service.process)) == 2)
    reserve(5)
    wait_until(lambda: reserved() == 25)
    service.process.send_signal(signal.SIGHUP)
    before = {process.pid for process in workers(service.process)}
    wait_until(lambda: not before & {process.pid for process in workers(service.process)})
    assert reserved() == 25

    def told() -> int:
        return sum(service.call("GET", "/v1/overview", token=ops).document["rates"]["reserve"])

    wait_until(lambda: told() == 25)


def test_a_grep_for_a_request_finds_it_in_the_log_and_in_the_ledger(service: Service) -> None:
    ops, ann = service.token("olga", "ops"), service.token("ann", "customer")
    service.call("PUT", "/v1/skus/told", {"on_hand": 5}, token=ops)
    answer = service.call("POST", "/v1/reservations", {"lines": [{"sku": "told", "quantity": 2}]}, token=ann)
    request_id, held = answer.headers["X-Request-Id"], answer.document["id"]

    def line() -> str:
        return next((line for line in service.stderr.splitlines() if request_id in line), "")

    logged = json.loads(wait_until(line))
    assert (logged["reservation_id"], logged["code"], logged["status"]) == (held, "ok", 201)
    assert ann not in service.stderr
    known = stockade("known-as", "ann", "--data-dir", service.data_dir)
    assert known.stdout.strip() == logged["user"]
    story = stockade("explain", held, "--data-dir", service.data_dir)
    assert [request_id in event for event in story.stdout.splitlines()] == [True]


def test_a_keeper_alone_shows_what_it_counts(service: Service) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "engine.cli",
        "keeper",
        "--metrics-port",
        str(port),
        "--data-dir",
        service.data_dir,
    ]
    keeper = subprocess.Popen(command, cwd=ROOT, env=environment(), stderr=subprocess.DEVNULL)

    def page() -> str:
        try:
            return urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
        except OSError:
            return ""

    try:
        assert "stockade_script_seconds" in wait_until(page)
        refused = fails_in_one_line(stockade("keeper", "--metrics-port", port, "--data-dir", service.data_dir))
        assert f"port {port}" in refused
    finally:
        keeper.terminate()
        assert keeper.wait(10) == 0
