"""Pages with commands in them, a shell that follows them, and answers that have the same shape."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.programs import needs

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

MAX_SECONDS = 20
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


class Shell:
    """One bash for a whole page, so that what an entry sets is there in the next. `path` is its PATH."""

    END = "---- end of this command ----"

    def __init__(self, path: str, directory: Path, data_dir: Path) -> None:
        environment = os.environ | {
            "PATH": path,
            "STOCKADE_DATA_DIR": str(data_dir),
            "USER": "olga",
        }
        self._process = subprocess.Popen(
            [needs("bash")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=environment, cwd=directory,
        )  # fmt: skip

    def run(self, command: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{{ {command}\n}} </dev/null\necho; echo '{self.END}'\n")
        self._process.stdin.flush()
        # A command that never ends would take the whole run with it.
        watch = threading.Timer(MAX_SECONDS, self._process.kill)
        watch.start()
        lines: list[str] = []
        while (line := self._process.stdout.readline()) and line.strip() != self.END:
            lines.append(line)
        watch.cancel()
        assert line, f"no end within {MAX_SECONDS} s: {command}"
        return "".join(lines).strip()

    def close(self) -> None:
        """End the shell with what it has left running."""
        with suppress(BrokenPipeError):
            self._process.communicate("kill $(jobs -p) 2>/dev/null\n", timeout=20)
