"""The same service with its stock in Postgres: our Flask front, tokens, schemas and keys, and row locks instead of Redis.

A reservation is one statement, so one round trip and one commit: the SKU's row is locked by the UPDATE that takes the
units, and the hold and the ledger's row go in with it. The primary key of the hold is the idempotency record. Nothing
else is asked unless that statement takes nothing. One line a reservation, which is all that is measured; more would need
their rows locked in order first.

What was tried and kept, for its sake: a connection for each thread of gunicorn, which is cheaper than to borrow one from a
pool; prepared statements; autocommit; room in the SKU's page, so that its updates touch no index (HOT); a partial index
for the sweeper. It is measured with 4, 16 and 32 connections, and the best of them counts: all wait for one row, and a few
that wait are often better for it than many. And with synchronous_commit on, which is the default and keeps every
reservation that was confirmed, and off, which may lose the last ones as Redis may.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from dataclasses import replace
from typing import Any

import psycopg
from flask import Flask
from psycopg import Connection
from redis import Redis

from api.app import create_app
from engine.config import from_environment
from engine.engine import Engine, build
from engine.errors import IdempotencyKeyReused, LinesUnavailable
from engine.reservations import Reservations
from engine.states import State, Verdict
from engine.values import Line, LineVerdict, Reservation

SCHEMA = """
CREATE TABLE sku (
    name text PRIMARY KEY, available bigint NOT NULL CHECK (available >= 0), reserved bigint NOT NULL
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE TABLE hold (
    id text PRIMARY KEY, user_name text NOT NULL, sku text NOT NULL, quantity bigint NOT NULL, state text NOT NULL,
    created_at timestamptz NOT NULL, deadline timestamptz NOT NULL, fingerprint text NOT NULL
);
CREATE INDEX hold_deadline ON hold (deadline) WHERE state = 'reserved';
CREATE TABLE event (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, op text NOT NULL, at timestamptz NOT NULL, actor text NOT NULL,
    user_name text NOT NULL, hold_id text NOT NULL, sku text NOT NULL, quantity bigint NOT NULL,
    request_id text NOT NULL, detail text NOT NULL
);
"""

RESERVE = """
WITH taken AS (
    UPDATE sku SET available = available - %(quantity)s::bigint, reserved = reserved + %(quantity)s::bigint
    WHERE name = %(sku)s AND available >= %(quantity)s::bigint AND NOT EXISTS (SELECT FROM hold WHERE id = %(id)s)
    RETURNING name
), held AS (
    INSERT INTO hold
    SELECT %(id)s, %(user)s, name, %(quantity)s::bigint, 'reserved', now(),
        now() + %(seconds)s::bigint * interval '1 second', %(fingerprint)s
    FROM taken
    RETURNING created_at, deadline
), noted AS (
    INSERT INTO event (op, at, actor, user_name, hold_id, sku, quantity, request_id, detail)
    SELECT 'reserve', created_at, %(actor)s, %(user)s, %(id)s, %(sku)s, %(quantity)s::bigint, %(request_id)s,
        %(fingerprint)s
    FROM held
)
SELECT (extract(epoch FROM created_at) * 1000)::bigint, (extract(epoch FROM deadline) * 1000)::bigint FROM held
"""

KNOWN = """
SELECT fingerprint, (extract(epoch FROM created_at) * 1000)::bigint, (extract(epoch FROM deadline) * 1000)::bigint
FROM hold WHERE id = %s
"""


class PostgresReservations(Reservations):
    """Reserves in Postgres. Nothing else of what it inherits works."""

    def __init__(self, engine: Engine, url: str) -> None:
        self._ours, self._url, self._own = engine.reservations, url, threading.local()
        self._open: list[Connection[Any]] = []

    def reserve(self, *asked: Any, **named: Any) -> Reservation:
        claim = self._ours.claim(*asked, **named)
        origin, [line] = claim.origin, claim.lines
        values = {
            "id": claim.id,
            "user": origin.user,
            "actor": origin.actor,
            "request_id": origin.request_id,
            "sku": line.sku,
            "quantity": line.quantity,
            "seconds": claim.hold_ms // 1000,
            "fingerprint": claim.fingerprint,
        }
        row = None
        # If the same call comes twice at once, the other one may be first.
        with suppress(psycopg.errors.UniqueViolation):
            row = self._connection().execute(RESERVE, values).fetchone()
        replayed = row is None
        created_ms, deadline_ms = row or self._first_answer(claim.id, claim.fingerprint, line)
        return Reservation(claim.id, State.RESERVED, origin.user, claim.lines, created_ms, deadline_ms, replayed)

    def close(self) -> None:
        """Hang up, for all threads."""
        for connection in self._open:
            connection.close()

    def _first_answer(self, id: str, fingerprint: str, line: Line) -> tuple[int, int]:
        known = self._connection().execute(KNOWN, [id]).fetchone()
        if known is None:
            raise LinesUnavailable((LineVerdict(line.sku, line.quantity, 0, Verdict.ALL_HELD, 0, 0),))
        if known[0] != fingerprint:
            raise IdempotencyKeyReused
        return known[1], known[2]

    def _connection(self) -> Connection[Any]:
        """The thread's own."""
        connection: Connection[Any] | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = psycopg.connect(self._url, autocommit=True, prepare_threshold=0)
            self._open.append(connection)
        return connection


def with_commit(url: str, synchronous: str) -> str:
    """The URL of sessions that commit with synchronous_commit `on` or `off`."""
    return f"{url}&options=-c%20synchronous_commit%3D{synchronous}"


def prepare(url: str, sku: str, units: int) -> str:
    """Make the tables, and one SKU. Returns: the server's name and version."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SCHEMA)
        connection.execute("INSERT INTO sku VALUES (%s, %s, 0)", [sku, units])
        return f"PostgreSQL {connection.info.parameter_status('server_version')}"


def app() -> Flask:
    """Our app on its reservations. No Redis is connected to."""
    settings = from_environment(os.environ)
    engine = build(settings, Redis.from_url(settings.redis_url))
    return create_app(replace(engine, reservations=PostgresReservations(engine, settings.database_url)))
