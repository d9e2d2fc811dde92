"""Checks of Postgres: will it keep the record, and may this role change it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from psycopg.conninfo import conninfo_to_dict

from engine.checks import Check, fine, not_asked, to_do
from engine.config import Settings
from engine.database import READERS, SCHEMA, Connection, answering, missing, schema

MIN_VERSION = 14
SLOW_ROUND_TRIP_MS = 20.0
ROUND_TRIPS = 5
WRITERS = 1
KEEPERS = 2 * 6
"""Two keepers; the one that leads has a connection each for writing, projections, recovery, and three for a snapshot."""

MUST_BE_ON = ("fsync", "full_page_writes", "synchronous_commit")
ROLES_FILE = "docs/deploy/postgres-roles.sql"

SETTINGS_ASKED = "SELECT name, setting FROM pg_settings WHERE name = ANY(%s)"
NUMBERS = ("server_version_num", "max_connections", "superuser_reserved_connections")


@dataclass(frozen=True)
class PostgresSeen:
    """What was asked of Postgres. `may` are the statements with which this role could change the record.

    `settings` are those of a session of ours, which asks for `synchronous_commit` itself; a pooler may drop that.
    """

    address: str
    embedded: bool
    role: str
    standby: bool
    settings: dict[str, str]
    revision: str
    missing: tuple[str, ...]
    may: tuple[str, ...] | None
    round_trip_ms: float
    workers: int


def look(connection: Connection, settings: Settings, *, embedded: bool) -> PostgresSeen:
    """Raises: ConfigurationError: this role may not read the schema's revision."""
    parts = conninfo_to_dict(settings.database_url)
    with answering():
        round_trips_ms = []
        for _ in range(ROUND_TRIPS):
            asked_s = time.monotonic()
            connection.execute("SELECT 1")
            round_trips_ms.append((time.monotonic() - asked_s) * 1000)
        asked = dict(connection.execute(SETTINGS_ASKED, [[*MUST_BE_ON, *NUMBERS]]).fetchall())
        role, standby = connection.execute("SELECT current_user, pg_is_in_recovery()").fetchone() or ("", False)
        revision = schema(connection)
        gone = tuple(missing(connection)) if revision == SCHEMA else ()
        return PostgresSeen(
            address=f"{parts.get('host', 'localhost')} database {parts.get('dbname', role)}",
            embedded=embedded,
            role=role,
            standby=standby,
            settings=asked,
            revision=revision,
            missing=gone,
            may=None if gone else _may(connection),
            round_trip_ms=min(round_trips_ms),
            workers=settings.workers,
        )


def checks(seen: PostgresSeen) -> Iterator[Check]:
    yield fine("postgres", f"{seen.address} answers")
    yield _round_trip(seen)
    yield _version(seen)
    yield _schema(seen)
    yield _standby(seen)
    for name in MUST_BE_ON:
        yield _on(seen, name)
    yield _role(seen)
    yield _connections(seen)


def _round_trip(seen: PostgresSeen) -> Check:
    took = f"{seen.round_trip_ms:.1f} ms"
    if seen.round_trip_ms > SLOW_ROUND_TRIP_MS:
        return to_do(
            "postgres round trip", f"takes {took} at best: every payment pays that several times; put it nearer"
        )
    return fine("postgres round trip", took)


def _version(seen: PostgresSeen) -> Check:
    major, minor = divmod(int(seen.settings["server_version_num"]), 10_000)
    if major < MIN_VERSION:
        return to_do("postgres version", f"{major}.{minor} is too old: install {MIN_VERSION} or newer")
    return fine("postgres version", f"{major}.{minor}")


def _schema(seen: PostgresSeen) -> Check:
    if seen.revision == SCHEMA:
        if seen.missing:
            gone = ", ".join(seen.missing)
            return to_do("postgres schema", f"lacks {gone}: bring Postgres back from its standby or its archive")
        return fine("postgres schema", seen.revision)
    if seen.revision > SCHEMA:
        advice = f"is {seen.revision}, made by a newer version; this one knows {SCHEMA}: install that version"
        return to_do("postgres schema", advice)
    return to_do(
        "postgres schema", f"is {seen.revision or 'missing'}, {SCHEMA} is needed: run stockade migrate as its owner"
    )


def _standby(seen: PostgresSeen) -> Check:
    if seen.standby:
        return to_do("postgres role", "is a standby: name the primary in STOCKADE_DATABASE_URL")
    return fine("postgres role", "primary")


def _on(seen: PostgresSeen, name: str) -> Check:
    value = seen.settings.get(name, "")
    # The last one is synchronous_commit's, and stronger.
    if value in ("on", "remote_apply"):
        return fine(f"postgres {name}", value)
    return to_do(f"postgres {name}", f"is {value}, so that a crash loses what was answered: set it to on")


def _role(seen: PostgresSeen) -> Check:
    if seen.may is None:
        return not_asked("postgres rights", "there is no ledger yet")
    if not seen.may:
        return fine("postgres rights", f"{seen.role}, who can't change the ledger")
    if seen.embedded:
        return fine("postgres rights", f"{seen.role}, the owner: this server belongs to stockade up alone")
    advice = f"{seen.role} may {', '.join(seen.may)} the ledger: run {ROLES_FILE}, log in as stockade_service"
    return to_do("postgres rights", advice)


def _connections(seen: PostgresSeen) -> Check:
    most = int(seen.settings["max_connections"]) - int(seen.settings["superuser_reserved_connections"])
    needed = seen.workers * (READERS + WRITERS) + KEEPERS
    sum_up = f"{needed} for {seen.workers} workers and two keepers, {most} allowed"
    if needed > most:
        return to_do("postgres connections", f"{sum_up}: raise max_connections, or set STOCKADE_WORKERS lower")
    return fine("postgres connections", sum_up)


def _may(connection: Connection) -> tuple[str, ...] | None:
    row = connection.execute("SELECT to_regclass('ledger') IS NOT NULL").fetchone()
    if not row or not row[0]:
        return None
    rights = ("UPDATE", "DELETE", "TRUNCATE")
    query = "SELECT privilege FROM unnest(%s::text[]) AS privilege WHERE has_table_privilege('ledger', privilege)"
    return tuple(name for (name,) in connection.execute(query, [list(rights)]))
