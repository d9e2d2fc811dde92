"""docs/RUNBOOK.md: every command in it, run in the order given against a service with a sale on, answers in the shape it says.

Once with the installed redis-cli, once on a machine that has none.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import psycopg
import pytest
from redis import Redis

from engine.embedded_postgres import processes
from tests.command.pages import Command, Shell, commands, has_shape
from tests.command.quick import installed
from tests.command.service import ROOT, Service, part
from tests.programs import has, needs, without
from tests.waiting import wait_until

PAGE = ROOT / "docs" / "RUNBOOK.md"
SKU = "sneaker-42"


@dataclass
class Sale:
    """A sale that is on, and what the page calls by a name of its reader's."""

    service: Service
    redis: Any
    names: dict[str, str]

    def set_up(self) -> None:
        ops, pay = self.service.token("olga", "ops"), self.service.token("till", "payments")
        self._put(SKU, {"on_hand": 20, "name": "Sneaker size 42"}, ops)
        self._put("last-pair", {"on_hand": 1}, ops)
        gone = self._reserve("carol", "last-pair", 1, hold_seconds=1)
        held = self._reserve("ann", SKU, 2)
        for _ in range(4):
            self._reserve("mallory", SKU, 3)
        paid = self._reserve("bob", SKU, 1)
        assert self._commit(paid, "pay-1", pay) == 200
        wait_until(lambda: self.redis.hget(f"stk:{{p0}}:rsv:{gone}", "state") == "expired")
        self._reserve("dave", "last-pair", 1)
        assert self._commit(gone, "pay-2", pay) == 409
        self.names = {"SKU": SKU, "ID": held, "PAID": paid, "GONE": gone}

    def readiness(self, part: str) -> str:
        return str(self.service.call("GET", "/readyz").document["checks"][part])

    def _put(self, sku: str, attributes: dict[str, Any], token: str) -> None:
        assert self.service.call("PUT", f"/v1/skus/{sku}", attributes, token=token).status == 201

    def _commit(self, held: str, payment: str, token: str) -> int:
        body = {"payment_id": payment}
        return self.service.call("POST", f"/v1/reservations/{held}/commit", body, token=token).status

    def _reserve(self, user: str, sku: str, units: int, **more: int) -> str:
        body = {"lines": [{"sku": sku, "quantity": units}], **more}
        answer = self.service.call("POST", "/v1/reservations", body, token=self.service.token(user, "customer"))
        assert answer.status == 201
        return str(answer.document["id"])


@contextmanager
def keeper_hangs(sale: Sale) -> Iterator[None]:
    keeper = part(sale.service.process, "keeper")
    os.kill(keeper.pid, signal.SIGSTOP)
    wait_until(lambda: sale.readiness("keeper") == "missing")
    yield
    os.kill(keeper.pid, signal.SIGCONT)


@contextmanager
def postgres_hangs(sale: Sale) -> Iterator[None]:
    for pid in processes((sale.service.data_dir / "postgres").resolve()):
        os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: sale.readiness("postgres") == "unavailable")
    yield


@contextmanager
def counter_changed(sale: Sale) -> Iterator[None]:
    sale.redis.hincrby(f"stk:{{p0}}:sku:{SKU}", "reserved", -5)
    yield


@contextmanager
def nearly_full(sale: Sale) -> Iterator[None]:
    sale.redis.config_set("maxmemory", sale.redis.info("memory")["used_memory"] + 1_000_000)
    yield


@contextmanager
def flushed(sale: Sale) -> Iterator[None]:
    sale.redis.flushall()
    yield


@contextmanager
def row_lost(sale: Sale) -> Iterator[None]:
    """Neither Postgres nor the stream has it any more."""
    sale.redis.xtrim("stk:{p0}:ledger", minid="1-8", approximate=False)
    with psycopg.connect((sale.service.data_dir / "postgres.url").read_text().strip()) as connection:
        connection.execute("DELETE FROM ledger WHERE seq = 5")
    wait_until(lambda: sale.readiness("record") != "ok")
    yield


DURING = {
    "The record is damaged": row_lost,
    "No keeper leads": keeper_hangs,
    "Postgres is down": postgres_hangs,
    "Stock is stuck in reserved": counter_changed,
    "Redis memory is high": nearly_full,
    "Restore from nothing": flushed,
}
"""What is wrong while an entry's commands are typed; in the others nothing is."""


OWN = pytest.param("own", marks=pytest.mark.slow if has("redis-cli") else ())
"""Where redis-cli isn't installed this is the only walk."""


def answers(service: Service, directory: Path, path: str) -> list[tuple[Command, str]]:
    """What each command of the page prints with the programs of `path`, and what it should."""
    [url] = [(service.data_dir / "redis.url").read_text().strip()]
    sale = Sale(service, Redis.from_url(url, decode_responses=True), {})
    sale.set_up()
    page = PAGE.read_text()
    for name, value in sale.names.items():
        page = re.sub(rf"\b{name}=[\w-]+", f"{name}={value}", page)
    page = page.replace("API=http://127.0.0.1:8000", f"API=http://{service.host}:{service.port}")
    (directory / "lua").symlink_to(ROOT / "lua")
    found = []
    with installed(directory) as quick:
        shell = Shell(f"{quick}:{Path(sys.executable).parent}:{path}", directory, service.data_dir)
        try:
            for heading, typed in groupby(commands(page), lambda command: command.heading):
                with DURING.get(heading, lambda sale: nullcontext())(sale):
                    found += [(command, shell.run(command.text)) for command in typed]
        finally:
            shell.close()
    return found


@pytest.mark.parametrize("redis_cli", ["installed", OWN])
def test_every_command_of_the_runbook_answers_as_it_says(
    start: Callable[..., Service], tmp_path: Path, redis_cli: str
) -> None:
    for program in ("bash", "curl"):
        needs(program)
    if redis_cli == "installed":
        needs("redis-cli")
        path = os.environ["PATH"]
    else:
        path = without(tmp_path / "programs", "redis-cli", "valkey-cli")
    found = answers(start(), tmp_path, path)
    assert len(found) > 60
    wrong = [
        f"{command.heading}\n$ {command.text}\n{answer}\n-- but the page says\n{command.answer}\n"
        for command, answer in found
        if not has_shape(answer, command.answer)
    ]
    assert not wrong, "\n".join(wrong)


def test_every_entry_says_what_to_look_at_do_check_and_never_do() -> None:
    entries = re.split(r"^## ", _between(PAGE.read_text(), "# The incidents", "# Tables"), flags=re.MULTILINE)[1:]
    assert len(entries) > 15
    for entry in entries:
        heading = entry.splitlines()[0]
        for word in ("Look", "Act", "Never"):
            assert re.search(rf"^\*\*(\w+ and )?{word}\b", entry, re.MULTILINE | re.IGNORECASE), (heading, word)


def test_no_page_looks_for_processes_by_a_pattern() -> None:
    """It would find those of other Stockades, and the shell that looks."""
    pages = [*(ROOT / "docs").glob("**/*.md"), ROOT / "README.md"]
    assert PAGE in pages
    assert not [page for page in pages if re.search(r"\b(pgrep|pkill|killall|pidof)\b", page.read_text())]


def test_the_log_has_the_process_of_the_keeper_that_led_last(service: Service) -> None:
    def led_last() -> str:
        said = [json.loads(line) for line in service.stderr.splitlines() if line.startswith("{")]
        return str([line["keeper"] for line in said if line.get("event") == "leading"][-1])

    host, pid, _ = led_last().split(":")
    assert (host, int(pid)) == (socket.gethostname(), part(service.process, "keeper").pid)


def _between(text: str, first: str, last: str) -> str:
    return text.partition(f"\n{first}\n")[2].partition(f"\n{last}\n")[0]


@pytest.mark.parametrize(
    ("answer", "expected", "same"),
    [
        ("available 3", "available 17", True),
        ("available 3", "reserved 3", False),
        ("gate open at 2026-01-01T00:00:00Z", "gate open at 2027-02-03T04:05:06Z", True),
        ("a\nb\nc\nd", "a\n…\nd", True),
        ("a\nb", "a\n…\nd", False),
        ("line", "line\nmore", False),
        ("", "something", False),
    ],
)
def test_a_shape_is_all_but_numbers_times_and_ids(answer: str, expected: str, same: bool) -> None:
    assert has_shape(answer, expected) is same
