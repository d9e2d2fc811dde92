"""Faults that change the record past Stockade, as somebody with the owner's rights might. Nothing dies; it must be told."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import psycopg

from tests.chaos.arena import PLENTY, SOON_SECONDS, Arena, on_hand
from tests.chaos.buyers import SKUS
from tests.waiting import wait_until

MAX_ROWS, NEWEST_ROWS = 100, 300
"""Rows that are hit, at most, and of how many of the newest."""


def ledger_rows_deleted(arena: Arena, pick: random.Random) -> None:
    """Some of the newest rows are deleted from the ledger, up to the last one or some way before it."""
    first, last = _some_rows(arena, pick)
    many = _count(arena, first, last)
    _ask(arena, "DELETE FROM ledger WHERE seq BETWEEN %s AND %s", first, last)
    _watched(arena, f"the loss of {many} rows of the ledger", lambda: _count(arena, first, last) == many)


def ledger_position_lost(arena: Arena, pick: random.Random) -> None:
    """How far the ledger goes is deleted, or set back to one of the newest rows."""
    if pick.random() < 0.5:
        _ask(arena, "DELETE FROM ledger_position")
    else:
        first, _ = _some_rows(arena, pick)
        _ask(
            arena,
            "UPDATE ledger_position SET (epoch, seq, payload_hash, chain_hash) = "
            "(SELECT epoch, seq, payload_hash, chain_hash FROM ledger WHERE seq = %s)",
            first,
        )
    _watched(arena, "the loss of the ledger's position", lambda: _goes_to_its_last_row(arena))


def ledger_table_gone(arena: Arena, pick: random.Random) -> None:
    """A table that a payment needs is gone, until somebody brings it back."""
    table = pick.choice(["ledger", "ledger_position", "payments", "reservations"])
    _ask(arena, f"ALTER TABLE {table} RENAME TO hidden")
    try:
        arena.watch_hurt(f"the loss of the table {table}", lambda: False)
    finally:
        _ask(arena, f"ALTER TABLE hidden RENAME TO {table}")


def counter_changed(arena: Arena, pick: random.Random) -> None:
    """Somebody adds to a counter of a SKU by hand, and takes it back once that is told."""
    sku = pick.choice([name for name in SKUS if on_hand(name) == PLENTY])
    key, name, units = (
        arena.engine.store.keys.sku(sku),
        pick.choice(["available", "reserved", "on_hand"]),
        pick.randint(1, 9),
    )
    redis = arena.redis.master.client
    redis.hincrby(key, name, units)
    arena.watch_hurt(f"{units} more {name} of SKU {sku}", lambda: False)
    redis.hincrby(key, name, -units)
    # The newest one may be of the moment in which that was wrong.
    arena.take_snapshot()


def _watched(arena: Arena, what: str, is_right: Callable[[], bool]) -> None:
    """Wait until it is noticed, and until it is right again by itself."""
    arena.watch_hurt(what, is_right)
    wait_until(is_right, SOON_SECONDS)


def _some_rows(arena: Arena, pick: random.Random) -> tuple[int, int]:
    """The first and the last seq of some of the newest rows."""
    [newest] = _ask(arena, "SELECT coalesce(max(seq), 0) FROM ledger")
    last = newest if pick.random() < 0.5 else newest - pick.randint(0, NEWEST_ROWS)
    last = max(last, 2)
    return max(1, last - pick.randint(0, MAX_ROWS)), last


def _ask(arena: Arena, query: str, *values: object) -> tuple[Any, ...]:
    """The first row, if there is any. Postgres may be hit by another fault meanwhile, so it is asked until it answers."""
    answers: list[tuple[Any, ...]] = []

    def has_answered() -> bool:
        try:
            with psycopg.connect(arena.postgres.url, autocommit=True) as connection:
                done = connection.execute(query, values)
                answers.append((done.fetchone() or ()) if done.description else ())
        except (psycopg.OperationalError, psycopg.InternalError):
            # The second is what it says where the disk under its log is full.
            return False
        return True

    wait_until(has_answered, SOON_SECONDS)
    return answers[-1]


def _count(arena: Arena, first: int, last: int) -> int:
    [count] = _ask(arena, "SELECT count(*) FROM ledger WHERE seq BETWEEN %s AND %s", first, last)
    return int(count)


def _goes_to_its_last_row(arena: Arena) -> bool:
    [same] = _ask(arena, "SELECT (SELECT seq FROM ledger_position) = (SELECT max(seq) FROM ledger)")
    return bool(same)
