"""Which core does what: the service under test has the first one to itself, everything else is on the others."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TypeVar

T = TypeVar("T")

ALL = tuple(sorted(os.sched_getaffinity(0)))
SERVICE = ALL[:1]
REST = ALL[1:] or ALL
"""Callers, Redis and Postgres. On a machine of one core it's the same as the service's."""


@contextmanager
def on(cores: Iterable[int]) -> Iterator[None]:
    """Keep this thread, and the processes that it starts meanwhile with all their threads, on `cores`."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def starting_on(cores: Iterable[int], server: AbstractContextManager[T]) -> Iterator[T]:
    """A server on `cores`, while whoever uses it goes on where it was."""
    with ExitStack() as stack:
        with on(cores):
            started = stack.enter_context(server)
        yield started
