"""The Redis and the Postgres under attack, private to the run. Each is killed, filled and started by the faults alone."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
from redis import Redis
from redis.exceptions import RedisError

from engine.data_dir import DataDir
from engine.embedded_postgres import POSTGRES, processes
from tests.chaos.makeup import Makeup
from tests.waiting import wait_until

OPTIONS = ["--port", "0", "--save", "", "--appendonly", "yes", "--appendfsync", "everysec", "--loglevel", "warning"]
OPTIONS += ["--notify-keyspace-events", "Ex", "--hash-max-listpack-value", "1024", "--unixsocketperm", "777"]
OPTIONS += ["--replica-announce-ip", "127.0.0.1", "--repl-diskless-sync-delay", "0"]

START_SECONDS = 60.0
UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)

LIBRARIES = ("/usr/lib", "/usr/local/lib", "/opt/homebrew/lib")
FAKETIME = next((str(path) for root in LIBRARIES for path in Path(root).rglob("libfaketime.so.1")), "")
"""libfaketime, of Debian's package of that name; '' where it isn't installed."""


class CantStart(Exception):
    """The server ended instead of starting: what it has on its disk is of no use to it."""


class Server:
    """One Redis in a directory of its own. Its clock is `offset_s` off, where libfaketime is there."""

    def __init__(self, directory: Path, makeup: Makeup, *, offset_s: int = 0) -> None:
        self.directory = directory
        self._makeup = makeup
        directory.mkdir(parents=True, exist_ok=True)
        self.socket = directory / "redis.sock"
        self._clock = directory / "clock"
        self.process: subprocess.Popen[bytes] | None = None
        self.move_clock(offset_s)
        self.start()

    def start(self) -> None:
        """Raises CantStart: it doesn't with the files it has."""
        command = [self._makeup.program, *OPTIONS, "--unixsocket", str(self.socket), "--dir", str(self.directory)]
        command += self._makeup.options(self.directory)
        # libc goes first for malloc, too: jemalloc, asked by libfaketime as it begins, asks that for the time, and both wait for ever.
        clock = {
            "LD_PRELOAD": f"{FAKETIME} libc.so.6",
            "FAKETIME_TIMESTAMP_FILE": str(self._clock),
            "FAKETIME_CACHE_DURATION": "1",
        }
        clock |= {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_RESET": "1"}
        with (self.directory / "log").open("ab") as log:
            # Signals stay as Python has them: a file that may not grow is then an error, as on a full disk, not a death.
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                restore_signals=False,
                env=os.environ | (clock if FAKETIME else {}),
            )
        try:
            wait_until(lambda: self._answers() or self.ended, START_SECONDS)
        except AssertionError:
            self.kill()
            raise
        if self.ended:
            raise CantStart(self.directory)

    @property
    def ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def send(self, how: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(how)

    def has_clock(self, offset_s: int) -> bool:
        """Whether its clock is that far off by now; one that can't be asked has no other when it starts."""
        try:
            seconds, microseconds = self.client.time()
        except RedisError:
            return True
        return abs(float(seconds) + float(microseconds) / 1e6 - time.time() - offset_s) < CLOCK_MAY_BE_OFF_SECONDS

    def move_clock(self, offset_s: int) -> None:
        """It is so within some seconds: see `has_clock`."""
        self._clock.with_suffix(".new").write_text(f"{offset_s:+d}\n")
        self._clock.with_suffix(".new").replace(self._clock)

    def allow_files_of(self, size: int | None) -> None:
        """Let no file grow beyond that many bytes; None: any."""
        assert self.process is not None
        limit = UNLIMITED if size is None else (size, resource.RLIM_INFINITY)
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, limit)

    @property
    def client(self) -> Redis:
        return self._makeup.client(self.socket)

    @property
    def tail(self) -> Path:
        """The file that the latest commands were appended to."""
        return max((self.directory / "appendonlydir").glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except RedisError:
            return False


CLOCK_MAY_BE_OFF_SECONDS = 0.05


class RedisPair:
    """A master, and at times its replica. `address` is one for whichever is in use, as a floating IP would be."""

    def __init__(self, directory: Path, makeup: Makeup = Makeup()) -> None:  # noqa: B008
        self._directory = directory
        self._makeup = makeup
        self._number = 0
        self.offset_s = self.times_empty = 0
        self.address = directory / "in-use.sock"
        self.master = self._new()
        self.replica: Server | None = None
        self._use(self.master)

    def replicate(self) -> Server:
        """Give the master a replica that has everything."""
        if self.replica:
            self.replica.kill()
        if self.master.client.config_get("port")["port"] == "0":
            self.master.client.config_set("bind", "127.0.0.1")
            self.master.client.config_set("port", free_port())
        port = int(self.master.client.config_get("port")["port"])
        self.replica = replica = self._new()
        replica.client.replicaof("127.0.0.1", port)
        wait_until(lambda: replica.client.info("replication").get("master_link_status") == "up", START_SECONDS)
        return replica

    def promote(self) -> Server:
        """The replica becomes the master, as it is. Returns: who was it before, and isn't looked after any more."""
        assert self.replica is not None
        self._use(self.replica)
        before, self.master, self.replica = self.master, self.replica, None
        return before

    def start(self) -> None:
        """Start the master again; empty, as an operator would have it, if it doesn't with the files it has."""
        try:
            self.master.start()
        except CantStart:
            self.start_empty()

    def start_empty(self) -> None:
        """A new machine with nothing on it."""
        self.times_empty += 1
        shutil.rmtree(self.master.directory / "appendonlydir", ignore_errors=True)
        self.master.start()

    def move_clock(self, offset_s: int) -> None:
        self.offset_s = offset_s
        for server in (self.master, self.replica):
            if server:
                server.move_clock(offset_s)

    def has_clock(self) -> bool:
        """Whether every server's clock is where it was moved to."""
        return all(server.has_clock(self.offset_s) for server in (self.master, self.replica) if server)

    def stop(self) -> None:
        for server in (self.master, self.replica):
            if server and not server.ended:
                server.kill()

    def _new(self) -> Server:
        self._number += 1
        return Server(self._directory / f"redis-{self._number}", self._makeup, offset_s=self.offset_s)

    def _use(self, server: Server) -> None:
        link = self.address.with_suffix(".new")
        link.symlink_to(server.socket)
        link.replace(self.address)


class Postgres:
    """The embedded Postgres, careful with its data as `stockade up` has it, but nobody starts it again by itself."""

    def __init__(self, data_dir: Path) -> None:
        data_dir.mkdir(mode=0o755)
        self._data_dir = DataDir(data_dir)
        self.socket = self._data_dir.socket_path(POSTGRES.socket)
        self.url = POSTGRES.url(self.socket)
        self.start()

    def start(self) -> None:
        self._child = POSTGRES.child(self._data_dir, self.socket, ())
        self._child.command = [*self._child.command, "-c", "logging_collector=on"]
        self._child.before_restart()
        self._child.start()
        wait_until(lambda: POSTGRES.answers(self.url), START_SECONDS)

    def ensure(self) -> None:
        """Start it if it has ended; wait until it answers."""
        assert self._child.process is not None
        if not wait_for(lambda: POSTGRES.answers(self.url), self._child.process):
            self.kill()
            self.start()

    @property
    def pids(self) -> list[int]:
        return processes(self._data_dir.postgres_dir.resolve())

    def send(self, how: signal.Signals) -> None:
        """To the postmaster and every process that it has."""
        for pid in self.pids:
            _send(pid, how)

    def kill(self) -> None:
        """All of it. It may be that a backend is just being born."""
        wait_until(lambda: self.send(signal.SIGKILL) or not self.pids)
        if self._child.process:
            self._child.process.kill()
            self._child.process.wait()

    def allow_files_of(self, size: int | None) -> None:
        """Let no file be written beyond that many bytes, by any of its processes; None: any."""
        limit = UNLIMITED if size is None else (size, resource.RLIM_INFINITY)
        for pid in self.pids:
            try:
                resource.prlimit(pid, resource.RLIMIT_FSIZE, limit)
            except ProcessLookupError:
                continue

    def url_through(self, socket: Path) -> str:
        """The same database, by another directory for its socket."""
        return re.sub(r"host=[^&]*", f"host={socket.parent}", self.url)

    def dump(self, path: Path) -> None:
        """The ledger as CSV."""
        with psycopg.connect(self.url) as connection, path.open("wb") as file:
            query = "COPY (SELECT * FROM ledger ORDER BY epoch, seq) TO STDOUT WITH (FORMAT csv, HEADER)"
            with connection.cursor().copy(query) as copy:
                for piece in copy:
                    file.write(piece)

    def stop(self) -> None:
        self._child.stop_signal = signal.SIGQUIT
        self._child.stop()
        self._data_dir.remove_socket(self.socket)


def wait_for(answers: Callable[[], bool], process: subprocess.Popen[bytes]) -> bool:
    """Whether it answers before it ends."""
    wait_until(lambda: process.poll() is not None or answers(), START_SECONDS)
    return process.poll() is None


def _send(pid: int, how: signal.Signals) -> None:
    try:
        os.kill(pid, how)
    except ProcessLookupError:
        return


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
