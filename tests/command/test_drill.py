"""A drill: a sale is on, something breaks, and whoever follows the runbook, and does nothing else, finds it and mends it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from engine.embedded_postgres import processes
from tests import seed
from tests.command.pages import Shell, commands
from tests.command.quick import installed
from tests.command.service import ROOT, Service, part
from tests.programs import needs
from tests.waiting import wait_until

PAGE = (ROOT / "docs" / "RUNBOOK.md").read_text()
SKU = "sneaker-42"
PAUSE_SECONDS = 0.02
BUYERS = 2

pytestmark = pytest.mark.timeout(180)


class OnCall:
    """Somebody with a shell, who types what the runbook says."""

    def __init__(self, shell: Shell, host: str, port: int) -> None:
        self._shell = shell
        for command in commands(PAGE):
            if command.heading == "Getting in" and command.text.startswith(("export", "OPS", "SKU")):
                shell.run(command.text.replace("127.0.0.1:8000", f"{host}:{port}"))

    def types(self, entry: str, *words: str, but: str = "nothing") -> str:
        """Type the first command of this entry that has all these words, exactly as it stands. Returns: what it prints."""
        [text, *_] = [
            command.text
            for command in commands(PAGE)
            if command.heading == entry and all(word in command.text for word in words) and but not in command.text
        ]
        return self._shell.run(text)


class Drill:
    def __init__(self, service: Service, on_call: OnCall) -> None:
        self.service = service
        self.on_call = on_call
        self.redis: Any = Redis.from_url((service.data_dir / "redis.url").read_text().strip(), decode_responses=True)
        self.seen: Counter[str] = Counter()

    def readiness(self) -> dict[str, str]:
        found: dict[str, str] = self.service.call("GET", "/readyz").document["checks"]
        return found

    def sells(self) -> None:
        """Wait until a buyer has reserved and one has paid, from now on."""
        before = Counter(self.seen)
        wait_until(lambda: self.seen["201"] > before["201"] and self.seen["200"] > before["200"], 20)

    def books_are_right(self) -> None:
        # Whoever was stopped in the middle of a transaction keeps others out for 5 s.
        verify = ("Stock is stuck in reserved", "verify")
        wait_until(lambda: self.on_call.types(*verify).endswith(": 0 problems"), 30)


@pytest.fixture(scope="module")
def drill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drill]:
    needs("curl")
    directory = tmp_path_factory.mktemp("drill")
    (directory / "lua").symlink_to(ROOT / "lua")
    service = Service(seed.plant(directory / "data", tmp_path_factory))
    ops = service.token("olga", "ops")
    try:
        assert service.call("PUT", f"/v1/skus/{SKU}", {"on_hand": 100_000}, token=ops).status == 201
        with installed(directory) as quick:
            shell = Shell(f"{quick}:{Path(sys.executable).parent}:{os.environ['PATH']}", directory, service.data_dir)
            try:
                made = Drill(service, OnCall(shell, service.host, service.port))
                with _buyers(made):
                    yield made
            finally:
                shell.close()
    finally:
        service.stop()


@contextmanager
def _buyers(drill: Drill) -> Iterator[None]:
    over = threading.Event()
    threads = [threading.Thread(target=_buy, args=(drill, f"buyer-{number}", over)) for number in range(BUYERS)]
    for thread in threads:
        thread.start()
    try:
        drill.sells()
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _buy(drill: Drill, user: str, over: threading.Event) -> None:
    """Reserve, and pay for every second one; what fails is tried with the next."""
    customer, payer, turn = drill.service.token(user, "customer"), drill.service.token("till", "payments"), 0
    while not over.wait(PAUSE_SECONDS):
        turn += 1
        with suppress(OSError, http.client.HTTPException):
            body = {"lines": [{"sku": SKU, "quantity": 1}], "hold_seconds": 1 + turn % 20}
            held = drill.service.call("POST", "/v1/reservations", body, token=customer)
            drill.seen[str(held.status)] += 1
            if held.status == 201 and turn % 2:
                path = f"/v1/reservations/{held.document['id']}/commit"
                paid = drill.service.call("POST", path, {"payment_id": f"p-{user}-{turn}"}, token=payer)
                drill.seen[str(paid.status)] += 1


@pytest.mark.slow
def test_a_keeper_that_hangs(drill: Drill) -> None:
    entry, keeper = "No keeper leads", part(drill.service.process, "keeper")
    os.kill(keeper.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: drill.readiness()["keeper"] == "missing")
        assert '"keeper":"missing"' in drill.on_call.types(entry, "curl -s $API/readyz")
        assert drill.on_call.types(entry, "GET $K:keeper") == ""
        drill.on_call.types(entry, "stockade keeper")
        assert '"keeper":"alive"' in drill.on_call.types(entry, "readyz", "sleep")
        drill.books_are_right()
    finally:
        os.kill(keeper.pid, signal.SIGCONT)


@pytest.mark.slow
def test_a_postgres_that_hangs(drill: Drill) -> None:
    entry = "Postgres is down"
    for pid in processes((drill.service.data_dir / "postgres").resolve()):
        os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: drill.readiness()["postgres"] == "unavailable")
    assert '"postgres":"unavailable"' in drill.on_call.types(entry, "curl -s $API/readyz")
    assert re.search(r"^to do +postgres", drill.on_call.types(entry, "stockade doctor"), re.MULTILINE)
    drill.on_call.types(entry, "kill -9")
    assert '"status":"ready"' in drill.on_call.types(entry, "readyz", "sleep")
    drill.sells()
    drill.books_are_right()


def test_stock_that_is_stuck_because_somebody_changed_a_counter(drill: Drill) -> None:
    entry = "Stock is stuck in reserved"
    drill.redis.hincrby(f"stk:{{p0}}:sku:{SKU}", "reserved", -100_000)

    def refused() -> bool:
        page = drill.service.call("GET", "/metrics").document.decode()
        return 'stockade_script_outcomes_total{outcome="inconsistent"' in page

    wait_until(refused, 20)
    looked = drill.on_call.types(entry, "invariants.lua")
    assert re.search(r"^BAD +(conservation|holds)", looked, re.MULTILINE), looked
    assert re.search(rf"(conservation|holds|fold): SKU {SKU}", drill.on_call.types(entry, "verify"))
    assert SKU in drill.on_call.types(entry, "restore", "--dry-run")
    assert "the gate is open" in drill.on_call.types(entry, "restore", but="--dry-run")
    drill.sells()
    drill.books_are_right()


def test_a_user_who_hoards(drill: Drill) -> None:
    entry, token = "A bot hoards", drill.service.token("mallory", "customer")
    for _ in range(10):
        body = {"lines": [{"sku": SKU, "quantity": 1_000}]}
        assert drill.service.call("POST", "/v1/reservations", body, token=token).status == 201
    looked = drill.on_call.types(entry, "holders.lua")
    assert re.search(r"units +holds +user\n +10000 +10 +mallory", looked), looked
    assert json.loads(drill.on_call.types(entry, "limit_per_customer"))["limit_per_customer"] == 2
    assert "10 of 10" in drill.on_call.types(entry, "release", "--dry-run")
    assert "10 of 10" in drill.on_call.types(entry, "release", but="--dry-run")
    assert "mallory" not in drill.on_call.types(entry, "holders.lua")
    again = drill.service.call("POST", "/v1/reservations", {"lines": [{"sku": SKU, "quantity": 3}]}, token=token)
    assert again.document["lines"][0]["verdict"] == "limit_exceeded"
    ops = drill.service.token("olga", "ops")
    drill.service.call("PUT", f"/v1/skus/{SKU}", {"limit_per_customer": None}, token=ops)
    drill.sells()
    drill.books_are_right()


def test_a_redis_that_is_full(drill: Drill) -> None:
    entry = "Redis memory is high"
    used = drill.redis.info("memory")["used_memory"]
    drill.redis.config_set("maxmemory", used)
    before = drill.seen["503"]
    wait_until(lambda: drill.seen["503"] > before, 20)
    wait_until(lambda: drill.readiness()["redis"] == "full")
    looked = drill.on_call.types(entry, "INFO memory")
    assert re.search(r"^maxmemory_human:\d+\.\d+M", looked, re.MULTILINE)
    assert drill.on_call.types(entry, "CONFIG SET maxmemory") == "OK"
    drill.sells()
    drill.books_are_right()
