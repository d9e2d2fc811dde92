"""Commands one a line: typed at a prompt, with readline and redis-cli's history, or from standard input."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from engine.redis_cli.formats import Output
from engine.redis_cli.session import Session, write
from engine.redis_cli.words import split

SLOW_S = 0.5
"""A command that took longer says how long."""

MAX_HISTORY = 1_000
HELP = b"""To get help about Redis commands see https://redis.io/docs/latest/commands/
      "COMMAND DOCS <command>" is what the server says about one
      "quit" to exit
"""


class Terminal:
    """Lines that a person types. Those of earlier sessions can be fetched back."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        try:
            import readline
        except ImportError:  # Some builds of Python have none; then a line is typed as it is.
            self._readline = None
        else:
            self._readline = readline
            readline.set_auto_history(False)
        self._file = _history_file(environment)
        for line in _last_lines(self._file):
            self._add(line)

    def read(self, prompt: str) -> bytes | None:
        try:
            return input(prompt).encode(errors="surrogateescape")
        except (EOFError, KeyboardInterrupt):
            write(b"\n")
            return None

    def remember(self, line: bytes) -> None:
        text = line.decode(errors="surrogateescape")
        self._add(text)
        if self._file:
            try:
                self._file.touch(mode=0o600)
                with self._file.open("a", errors="surrogateescape") as file:
                    file.write(text + "\n")
            except OSError:
                # A history that can't be kept is no reason not to work.
                self._file = None

    def _add(self, line: str) -> None:
        if self._readline:
            self._readline.add_history(line)


class StandardInput:
    """Lines of a file or a pipe: no prompt, no history."""

    def read(self, prompt: str) -> bytes | None:
        line = sys.stdin.buffer.readline()
        return line.rstrip(b"\r\n") if line else None

    def remember(self, line: bytes) -> None:
        return


def converse(session: Session, environment: Mapping[str, str]) -> None:
    """Carry out line after line, until there are no more or one says quit."""
    lines = Terminal(environment) if sys.stdin.isatty() else StandardInput()
    while (line := lines.read(session.prompt)) is not None:
        words = split(line)
        if words is None:
            lines.remember(line)
            write(b"Invalid argument(s)\n")
        elif words:
            if not _is_secret(words):
                lines.remember(line)
            if words[0].lower() in (b"quit", b"exit"):
                return
            _carry_out(session, words)


def _carry_out(session: Session, words: list[bytes]) -> None:
    repeat = 1
    if len(words) > 1 and re.fullmatch(rb"[+-]?[0-9]+", words[0]):
        repeat, words = int(words[0]), words[1:]
        if not 0 < repeat < 2**63:
            write(b"Invalid redis-cli repeat command option value.\n")
            return
    match [words[0].lower(), *words[1:]]:
        case [b"help" | b"?", *_]:
            write(HELP)
        case [b"clear"]:
            write(b"\x1b[H\x1b[2J")
        case [b"connect", host, port] if port.isdigit():
            session.move(host.decode(errors="replace"), int(port))
        case [name, *_] if name.startswith(b":"):
            _prefer(words)
        case _:
            begun = time.monotonic()
            session.issue(words, repeat)
            elapsed = time.monotonic() - begun
            if elapsed >= SLOW_S and session.options.output is Output.STANDARD:
                write(b"(%.2fs)\n" % elapsed)


def _prefer(words: list[bytes]) -> None:
    """Settings of redis-cli's hints, which there are none of here."""
    if words[0].lower() != b":set" or len(words) < 2:
        write(b"unknown redis-cli internal command '%b'\n" % words[0])
    elif words[1].lower() not in (b"hints", b"nohints"):
        write(b"unknown redis-cli preference '%b'\n" % words[1])


def _is_secret(words: list[bytes]) -> bool:
    """Whether a line may have a password in it: such lines are not kept."""
    line = b" ".join(words).lower()
    pattern = (
        rb"\bauth2?\b|\bacl setuser\b|\b(masterauth|masteruser|requirepass|\S*-key-file-pass|auth-pass|sentinel-pass)\b"
    )
    return bool(re.search(pattern, line))


def _history_file(environment: Mapping[str, str]) -> Path | None:
    named = environment.get("REDISCLI_HISTFILE")
    if named:
        return None if named == "/dev/null" else Path(named)
    return Path(environment["HOME"]) / ".rediscli_history" if environment.get("HOME") else None


def _last_lines(file: Path | None) -> list[str]:
    try:
        return file.read_text(errors="surrogateescape").splitlines()[-MAX_HISTORY:] if file else []
    except OSError:
        return []
