"""The processes of this Stockade on this machine, as /proc has them: also while none of its servers answers, and nobody else's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

from engine.data_dir import DataDir
from engine.unfailing import free

PARTS = ("up", "api", "api worker", "keeper", "redis", "postgres")


@dataclass(frozen=True)
class Process:
    """`part` is one of `PARTS`. `stopped`: somebody has sent it SIGSTOP. `log_free`: bytes that are free where it logs into a file."""

    pid: int
    part: str
    stopped: bool
    log_free: int | None = None


def find(data_dir: Path, redis_url: str) -> list[Process]:
    """Those that this user may look at, in the order of `PARTS`.

    Embedded servers work in their directory under `data_dir`, `up` has its lock open, and API and keeper have the address of our Redis in their environment.
    """
    here = DataDir(data_dir.resolve())
    servers = {here.redis_dir: ("redis", "valkey"), here.postgres_dir: ("postgres", "postgres")}
    found = []
    for process in _everybody():
        server = next((part for place, (part, name) in servers.items() if process.works_in(place, name)), None)
        if (
            part := server
            or process.serves(here.path, redis_url)
            or ("up" if process.has_open(here.lock_file) else None)
        ):
            found.append((process, part))
    masters = {process.pid for process, part in found if part == "api"}
    postmasters = {process.pid for process, part in found if part == "postgres"}
    shown = [
        Process(
            process.pid,
            "api worker" if process.parent in masters else part,
            process.state == "T",
            free(f"{process.path}/fd/2"),
        )
        for process, part in found
        # Postgres has a process for each connection. They end with it.
        if not (part == "postgres" and process.parent in postmasters)
    ]
    return sorted(shown, key=lambda process: (PARTS.index(process.part), process.pid))


@dataclass(frozen=True)
class _Entry:
    """What /proc has of a process."""

    path: Path
    parent: int
    state: str
    name: str

    @property
    def pid(self) -> int:
        return int(self.path.name)

    def works_in(self, directory: Path, name: str) -> bool:
        return self.name.startswith(name) and _link(self.path / "cwd") == str(directory)

    def serves(self, data_dir: Path, redis_url: str) -> str | None:
        """`api` or `keeper`, if it is one of this Redis's."""
        words = [os.fsdecode(word) for word in _bytes(self.path / "cmdline").split(b"\0")]
        if not Path(words[0]).name.startswith("python"):
            return None
        part = "keeper" if "keeper" in words else "api" if "python:api.gunicorn_config" in words else None
        if part is None:
            return None
        given = dict(pair.partition(b"=")[::2] for pair in _bytes(self.path / "environ").split(b"\0"))
        url = os.fsdecode(given.get(b"STOCKADE_REDIS_URL", b""))
        if url:
            return part if _place(url) == _place(redis_url) else None
        # It has found its Redis by way of the data directory.
        named = words[words.index("--data-dir") + 1] if "--data-dir" in words[:-1] else ""
        place = named or os.fsdecode(given.get(b"STOCKADE_DATA_DIR", b".stockade"))
        return part if Path(_link(self.path / "cwd"), place).resolve() == data_dir else None

    def has_open(self, file: Path) -> bool:
        with suppress(OSError):
            return any(_link(descriptor) == str(file) for descriptor in (self.path / "fd").iterdir())
        return False


def _everybody() -> Iterator[_Entry]:
    for path in Path("/proc").glob("[0-9]*"):
        name, _, fields = _bytes(path / "stat").decode(errors="replace").rpartition(") ")
        state, parent = [*fields.split(), "X", "0"][:2]
        if name and state not in ("Z", "X"):
            yield _Entry(path, int(parent), state, name.partition("(")[2])


def _place(url: str) -> tuple[object, ...]:
    """Where a URL leads, whoever logs in there."""
    try:
        found = urlparse(url)
        return found.scheme, found.hostname, found.port, found.path
    except ValueError:
        # Somebody else's process may have been given anything.
        return (url,)


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
