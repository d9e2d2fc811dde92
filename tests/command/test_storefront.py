"""docs/storefront.md and the README's quickstart, run as they stand, in any order, and again, on the same service."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command.quick import installed
from tests.command.service import Service
from tests.programs import needs
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
README, STOREFRONT = "README.md", "docs/storefront.md"
DOCUMENTS = {STOREFRONT: 30, README: 10}
"""And how many commands each has at least."""

WALKS = ([README, STOREFRONT, STOREFRONT, README, README], [STOREFRONT, README])
"""Pages that one person follows on one service. Each page comes first, after itself, and after the other one."""

BETWEEN = "---- next command ----"

CHANGING = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "TIME"),
    (r"\b[0-9A-Za-z]{22}\b", "ID"),
    (r"-1\d{9}\b", "-RUN"),
    (r'"(epoch|seq)":\d+', r'"\1":N'),
    (r"\d+ SKUs, \d+ (.*), \d+ (.*), \d+ (.*), snapshot [\w-]+:", r"N SKUs, N \1, N \2, N \3, snapshot POSITION:"),
)
"""What differs from run to run, and on a service that has sold before."""


def commands_and_answers(text: str) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, answer = part.partition("\n")
            if not command.startswith("make "):
                pairs.append((command, answer.strip()))
    return pairs


def without_what_changes(text: str) -> str:
    for pattern, word in CHANGING:
        text = re.sub(pattern, word, text)
    return text.strip()


def run(commands: list[str], service: Service, directory: Path) -> list[str]:
    """What each command prints, all of them in one shell."""
    api = f"API=http://{service.host}:{service.port}/v1"
    script = f"\necho; echo '{BETWEEN}'\n".join(commands).replace("API=http://127.0.0.1:8000/v1", api)
    directory.mkdir()
    with installed(directory) as quick:
        script = script.replace("$PWD/.venv/bin", f"{quick}:{Path(sys.executable).parent}")
        path = f"{quick}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = os.environ | {"STOCKADE_DATA_DIR": str(service.data_dir), "PATH": path}
        done = subprocess.run(
            [needs("bash"), "-c", script],
            env=environment,
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
    assert done.stderr == ""
    return done.stdout.split(BETWEEN)


@pytest.mark.parametrize(
    "walk", [pytest.param(WALKS[0], marks=pytest.mark.slow), WALKS[1]], ids=lambda walk: f"{walk[0]} first"
)
def test_every_command_of_a_page_answers_as_it_says_whatever_was_followed_before(
    start: Callable[..., Service], tmp_path: Path, walk: list[str]
) -> None:
    for program in ("bash", "curl", "openssl"):
        needs(program)
    service = start()
    for turn, document in enumerate(walk):
        pairs = commands_and_answers((ROOT / document).read_text())
        assert len(pairs) >= DOCUMENTS[document]
        began_s = int(time.time())
        answers = run([command for command, _ in pairs], service, tmp_path / f"turn-{turn}")
        for (command, expected), answer in zip(pairs, answers, strict=True):
            assert without_what_changes(answer) == without_what_changes(expected), (turn, command)
        # A page names its SKUs by the second.
        wait_until(lambda began_s=began_s: time.time() > began_s + 1)


def test_no_command_of_any_page_can_run_for_ever() -> None:
    endless = re.compile(r"\b(until|while)\b")
    pages = [ROOT / README, *sorted((ROOT / "docs").rglob("*.md"))]
    commands = {(page.name, command) for page in pages for command, _ in commands_and_answers(page.read_text())}
    assert len(commands) > 100
    assert [command for command in commands if endless.search(command[1])] == []
