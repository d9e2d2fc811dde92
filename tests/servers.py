"""Real servers for tests: those of the load kit, and what to do where one isn't installed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from loadtests import servers
from loadtests.servers import KINDS, binary, running_postgres

__all__ = ["KINDS", "binary", "running", "running_postgres"]


@contextmanager
def running(kind: str, *options: str) -> Iterator[str]:
    """Run a private server of `kind`, and give its URL. One that isn't installed skips the test, in CI it fails it."""
    if binary(kind) is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have redis-server")
        pytest.skip("redis-server is not installed")
    with servers.running(kind, *options) as url:
        yield url
