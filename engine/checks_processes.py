"""Checks of this Stockade's own processes. Redis and Postgres aren't asked, as they may hang: whoever must end one has its id."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from engine.checks import Check, fine, size, to_do
from engine.processes import Process
from engine.unfailing import FULL_BYTES

STARTED = ("api", "api worker", "keeper")
"""What `up` runs wherever Redis and Postgres are."""


def checks(found: Sequence[Process], noted_redis: str) -> Iterator[Check]:
    """`noted_redis`: which process Redis was on its own machine, as it has said last; '' if it is embedded, or nobody knows."""
    if noted_redis:
        yield fine("redis process", f"{noted_redis}, as it said last")
    named = ", ".join(
        f"{part} {' '.join(str(process.pid) for process in processes)}"
        for part, processes in groupby(found, key=lambda process: process.part)
    )
    stopped = [process for process in found if process.stopped]
    parts = {process.part for process in found}
    missing = [part for part in STARTED if part not in parts] if "up" in parts else []
    if stopped:
        which = ", ".join(f"{process.part} {process.pid}" for process in stopped)
        yield to_do("processes", f"{named}; stopped: {which}: kill -CONT it, or kill -9 it to have another one started")
    elif missing:
        yield to_do(
            "processes", f"{named}; no {', no '.join(missing)}: up starts it again, or says in its log why it can't"
        )
    else:
        yield fine("processes", named or "none of this Stockade's that this user may see")
    yield from _log(found)


def _log(found: Sequence[Process]) -> Iterator[Check]:
    """Of all that log into a file, the one with the least room."""
    room = [(process.log_free, process) for process in found if process.log_free is not None]
    if not room:
        return
    free, process = min(room, key=lambda each: each[0])
    said = f"{size(free)} free where {process.part} {process.pid} logs"
    if free < FULL_BYTES:
        yield to_do("log", f"{said}, so that lines are lost: make room, nothing has to be restarted")
    else:
        yield fine("log", said)
