"""What each part of the service is found to be, in words: for /readyz, the console, and whoever reads the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine import disk
from engine.config import Settings
from engine.database import DISK_FULL
from engine.store import Glance
from engine.unfailing import log_state

if TYPE_CHECKING:
    from engine.overview import Now

SOLD_WITH = {"redis": "ok", "gate": "open", "postgres": "ok", "keeper": "alive", "record": "ok"}
"""The parts without which a reservation, its payment or its record isn't safe, as they should be."""

WARNED_OF = {"clock": "ok", "aof": "ok", "snapshot": "ok", "log": "ok"}
"""The parts that stop no sale. Who is on call should look at one that is off."""

READY = SOLD_WITH | WARNED_OF

CLOCK_OFF_MS = 2_000
CLOCK_AHEAD_MS = 1_000
SNAPSHOT_OLD_MS = 1_800_000
"""As in docs/deploy/alerts.yml."""

UNCHECKED_MS = 15_000
"""A record that nobody has checked for so long is not known to be whole."""


def readiness(now: Now | None, postgres: str, settings: Settings) -> dict[str, str]:
    """`now` is None if Redis doesn't answer; `postgres` is `ok`, or why no commit could be written. `gate` has the reason why it is closed."""
    found = dict.fromkeys(READY, "unknown") | {"redis": "unavailable", "postgres": postgres, "log": log_state()}
    room = disk.look(settings)
    full = room if room and room.is_full else None
    if postgres == "ok" and (DISK_FULL.lately or (full and full.postgres)):
        found["postgres"] = "disk full"
    if now:
        glance = now.glance
        found |= {
            "redis": "full" if glance.is_full else "ok",
            "gate": now.gate,
            "keeper": "alive" if glance.keeper else "missing",
            "record": record(glance),
            "clock": _clock(glance),
            "aof": _aof(glance),
            "snapshot": _snapshot(now),
        }
        if not glance.writes or (full and full.redis):
            found["redis"] = "disk full"
    return found


def record(glance: Glance) -> str:
    """`ok`, or what the record check found last, or that it finds nothing any more."""
    found = glance.problems
    if found is None:
        return "unchecked"
    if (silent_ms := glance.now_ms - found.as_of_ms) > UNCHECKED_MS:
        return f"unchecked for {silent_ms // 1000} s"
    if not found.count:
        return "ok"
    more = f" ({found.count - 1} more)" if found.count > 1 else ""
    return f"damaged: {found.first[0] if found.first else 'see the log of the keeper'}{more}"


def _clock(glance: Glance) -> str:
    if abs(glance.clock_off_ms) > CLOCK_OFF_MS:
        return f"Redis's is {glance.clock_off_ms / 1000:+.0f} s off"
    if glance.clock_ahead_ms > CLOCK_AHEAD_MS:
        return f"stands still for {glance.clock_ahead_ms / 1000:.0f} s"
    return "ok"


def _aof(glance: Glance) -> str:
    if glance.problems is None:
        return "unchecked"
    return glance.problems.aof or "ok"


def _snapshot(now: Now) -> str:
    if now.record is None:
        return "unknown"
    if now.record.snapshot_problems:
        return "differs"
    return "old" if now.record.snapshot_lag_ms > SNAPSHOT_OLD_MS else "ok"
