"""Standard output and error of a process that must not end, or stand still, because nobody takes its log: the disk is full, the reader gone or asleep."""

from __future__ import annotations

import io
import os
import select
import stat
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import orjson

WRITTEN_BYTES = 4_096
"""At a time: so much a pipe takes as a whole or not at all."""

PATIENCE_SECONDS = 0.1
"""How long a reader is waited for. One that was too slow isn't waited for again before it has read."""

REMEMBERED_SECONDS = 30.0
FULL_BYTES = 64 * 1024
"""Less room than this under a log is none: a busy second writes as much."""


class Unfailing(io.RawIOBase):
    """Writes, or loses what nobody takes. Once somebody does again, a line says how many were lost."""

    lost_s: float | None = None
    """When this process last lost a line."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._to = _without_waiting(descriptor)
        self._poll = select.poll()
        self._poll.register(self._to, select.POLLOUT)
        self._lost = 0
        self._torn = False

    @property
    def name(self) -> str:
        return f"<{self._descriptor}>"

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: bytes) -> int:  # type: ignore[override]
        lost = self._lost
        notice = (b"\n" if self._torn else b"") + (_notice(lost) if lost else b"")
        if notice and not self._written(notice):
            self._lost += 1
        else:
            self._lost -= lost
            self._lost += not self._written(data)
        if self._lost:
            Unfailing.lost_s = time.monotonic()
        return len(data)

    def _written(self, data: bytes) -> bool:
        left = memoryview(data)
        try:
            while left:
                if not self._poll.poll(0 if self._lost else PATIENCE_SECONDS * 1000):
                    break
                left = left[os.write(self._to, left[:WRITTEN_BYTES]) :]
        except OSError:
            pass
        if len(left) < len(data):
            self._torn = bool(left)
        return not left


def log_state() -> str:
    """`ok`, or why what this process writes to its log is lost."""
    room = free("/proc/self/fd/2")
    if room is not None and room < FULL_BYTES:
        return "disk full"
    lately = Unfailing.lost_s is not None and time.monotonic() - Unfailing.lost_s < REMEMBERED_SECONDS
    return "lines are lost" if lately else "ok"


def free(log: str) -> int | None:
    """Bytes that are free where a log is written; None if it is no file, or nobody knows."""
    try:
        if not Path(log).is_file():
            return None
        room = os.statvfs(log)
    except OSError:
        return None
    return room.f_bavail * room.f_frsize


def withstand() -> None:
    """Make this process's standard output and error unfailing. Closed ones would go to whatever file is opened next."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if _is_plain(sys.stdout, 1):
        sys.stdout = _text(1)
    if _is_plain(sys.stderr, 2):
        sys.stderr = _text(2)


def _is_plain(stream: object, descriptor: int) -> bool:
    """Whether it is what Python has made of the descriptor; tests have others."""
    if stream is None:
        return True
    try:
        buffer = getattr(stream, "buffer", None)
        return isinstance(buffer, io.BufferedWriter | io.FileIO) and buffer.fileno() == descriptor
    except (OSError, ValueError):
        return False


def _text(descriptor: int) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        Unfailing(descriptor),
        encoding="utf-8",
        errors="backslashreplace",
        line_buffering=True,
        write_through=True,
    )


def _without_waiting(descriptor: int) -> int:
    """Where to write so that no write waits. Of a pipe a way in of our own, as others, who do wait, share the one that was given."""
    try:
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        pass  # Nobody reads it, or there is no /proc.
    return descriptor


def _notice(lost: int) -> bytes:
    document = {"lines": lost, "event": "log_lines_lost", "level": "warning", "timestamp": datetime.now(UTC)}
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
