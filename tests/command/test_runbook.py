"""docs/RUNBOOK.md: every command in it, run in the order given against a service with a sale on, answers in the shape it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.command.quick import installed
from tests.command.service import ROOT, Service
from tests.waiting import wait_until

PAGE = ROOT / "docs" / "RUNBOOK.md"
SKU = "sneaker-42"

MASKS = (
    (r"(/[\w.-]+)+/data\b", "DATA"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
    (r"Bearer \S+", "TOKEN"),
    (r"\b[\w.-]+:\d+:[0-9A-Za-z]{6}\b", "KEEPER"),
    (r"\b[0-9A-Za-z]{22}\b", "ID"),
    (r"\b[0-9a-f]{16,40}\b", "HASH"),
    (r"\b\d+ h \d+ min\b|\b\d+ min \d+ s\b|\b\d+(\.\d+)? (ms|s|KiB|MiB|GiB)\b", "AMOUNT"),
    (r"\d+(\.\d+)?", "N"),
    (r"N[KMG]\b", "N"),
    (r"\s+", " "),
)
"""What differs from run to run, and the word that stands for it when shapes are compared."""

ANYTHING = "…"
"""In an answer on the page: whatever stands here."""

BEFORE = {"Restore from nothing": lambda redis: redis.flushall()}
"""What happens to Redis before an entry's commands, which are for when it has happened."""


MOST_SECONDS = 20
"""For one command."""


@dataclass(frozen=True)
class Command:
    heading: str
    text: str
    answer: str


def commands(page: str) -> list[Command]:
    found = []
    for part in re.split(r"^#{2,4} ", page, flags=re.MULTILINE)[1:]:
        heading = part.splitlines()[0]
        for block in re.findall(r"```console\n(.*?)```", part, re.DOTALL):
            for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                text, _, answer = step.partition("\n")
                found.append(Command(heading, text, answer.strip()))
    return found


def masked(text: str) -> str:
    for pattern, word in MASKS:
        text = re.sub(pattern, word, text)
    return text.strip()


def has_shape(answer: str, expected: str) -> bool:
    parts = [re.escape(masked(part)) for part in expected.split(ANYTHING)]
    return re.fullmatch(r"\s*.*?\s*".join(parts), masked(answer), re.DOTALL) is not None


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


class Shell:
    """One bash for a whole page, so that what an entry sets is there in the next."""

    END = "---- end of this command ----"

    def __init__(self, path: Path, directory: Path, data_dir: Path) -> None:
        environment = os.environ | {
            "PATH": f"{path}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "STOCKADE_DATA_DIR": str(data_dir),
            "USER": "olga",
        }
        self._process = subprocess.Popen(
            ["bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=environment, cwd=directory,
        )  # fmt: skip

    def run(self, command: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{{ {command}\n}} </dev/null\necho; echo '{self.END}'\n")
        self._process.stdin.flush()
        # A command that never ends would take the whole run with it.
        watch = threading.Timer(MOST_SECONDS, self._process.kill)
        watch.start()
        lines: list[str] = []
        while (line := self._process.stdout.readline()) and line.strip() != self.END:
            lines.append(line)
        watch.cancel()
        assert line, f"no end within {MOST_SECONDS} s: {command}"
        return "".join(lines).strip()

    def close(self) -> None:
        """End the shell with what it has left running."""
        with suppress(BrokenPipeError):
            self._process.communicate("kill $(jobs -p) 2>/dev/null\n", timeout=20)


def answers(service: Service, directory: Path) -> list[tuple[Command, str]]:
    """What each command of the page prints, and what it should."""
    [url] = [(service.data_dir / "redis.url").read_text().strip()]
    sale = Sale(service, Redis.from_url(url, decode_responses=True), {})
    sale.set_up()
    page = PAGE.read_text()
    for name, value in sale.names.items():
        page = re.sub(rf"\b{name}=[\w-]+", f"{name}={value}", page)
    page = page.replace("API=http://127.0.0.1:8000", f"API=http://{service.host}:{service.port}")
    (directory / "lua").symlink_to(ROOT / "lua")
    found, entry = [], ""
    with installed(directory) as path:
        shell = Shell(path, directory, service.data_dir)
        try:
            for command in commands(page):
                if command.heading != entry:
                    entry = command.heading
                    BEFORE.get(entry, lambda redis: None)(sale.redis)
                found.append((command, shell.run(command.text)))
        finally:
            shell.close()
    return found


def test_every_command_of_the_runbook_answers_as_it_says(start: Callable[..., Service], tmp_path: Path) -> None:
    missing = [program for program in ("bash", "curl") if not shutil.which(program)]
    if not shutil.which("redis-cli") and not shutil.which("valkey-cli"):
        missing.append("redis-cli")
    if missing and not os.environ.get("CI"):
        pytest.skip(f"not installed: {missing}")
    found = answers(start(), tmp_path)
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
