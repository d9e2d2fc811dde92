"""Real servers for tests: those of the load kit. A kind that isn't installed skips the test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

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


def one_and_the_other_slowly() -> list[Any]:
    """Parameters of a fixture: a kind of server that is here, and the others among the longest proofs."""
    quick = next(kind for kind in KINDS if binary(kind))
    return [quick, *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS if kind != quick)]
