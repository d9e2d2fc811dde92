"""Real servers for tests: those of the load kit. A kind that isn't installed skips the test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from loadtests import servers
from loadtests.servers import KINDS, binary, running_postgres
from tests.programs import needs

__all__ = ["KINDS", "binary", "running", "running_postgres"]


@contextmanager
def running(kind: str, *options: str) -> Iterator[str]:
    """Run a private server of `kind`, and give its URL."""
    if kind == "redis":
        needs("redis-server")
    with servers.running(kind, *options) as url:
        yield url
