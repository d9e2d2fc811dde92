"""docs/storefront.md and the README's quickstart, run as they stand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command.quick import installed
from tests.command.service import Service

ROOT = Path(__file__).parents[2]
DOCUMENTS = {"docs/storefront.md": 30, "README.md": 10}
"""And how many commands each has at least."""

BETWEEN = "---- next command ----"

CHANGING = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "TIME"),
    (r"\b[0-9A-Za-z]{22}\b", "ID"),
    (r"snapshot \d+-\d+", "snapshot POSITION"),
)
"""What differs from run to run."""


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
    with installed(directory) as quick:
        script = script.replace("$PWD/.venv/bin", f"{quick}:{Path(sys.executable).parent}")
        path = f"{quick}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = os.environ | {"STOCKADE_DATA_DIR": str(service.data_dir), "PATH": path}
        done = subprocess.run(
            ["bash", "-c", script],
            env=environment,
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    assert done.stderr == ""
    return done.stdout.split(BETWEEN)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_of_a_page_answers_as_it_says(
    start: Callable[..., Service], tmp_path: Path, document: str
) -> None:
    missing = [program for program in ("bash", "curl", "openssl") if not shutil.which(program)]
    if missing and not os.environ.get("CI"):
        pytest.skip(f"not installed: {missing}")
    pairs = commands_and_answers((ROOT / document).read_text())
    assert len(pairs) >= DOCUMENTS[document]
    answers = run([command for command, _ in pairs], start(), tmp_path)
    for (command, expected), answer in zip(pairs, answers, strict=True):
        assert without_what_changes(answer) == without_what_changes(expected), command
