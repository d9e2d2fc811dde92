"""What a person has acknowledged: gaps in the ledger, rows taken out of it, problems that lie in its past."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from engine.database import Connection
from engine.gaps import Gap

NOTE = """
    INSERT INTO acknowledged (partition, kind, at_ms, actor, reason, what, after_epoch, after_seq, epoch, seq, payload_hash, chain_hash)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
SETTLE = (
    "UPDATE acknowledged SET settled_seq = %s WHERE partition = %s AND kind = 'gap' AND settled_seq IS NULL "
    "AND (after_seq, seq) IN (SELECT * FROM unnest(%s::bigint[], %s::bigint[]))"
)


class Kind(StrEnum):
    GAP = "gap"
    ROW = "row"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Acknowledgement:
    """By whom, and why."""

    actor: str
    reason: str


def note(
    connection: Connection, partition: str, kind: Kind, what: str, by: Acknowledgement, gap: Gap | None = None
) -> None:
    """`what` is the text of a problem, the row that was taken out, or the gap in words."""
    words: list[object] = [None] * 6
    if gap:
        words = [gap.after_epoch, gap.after_seq, gap.epoch, gap.seq, gap.payload_hash, gap.chain_hash]
    at_ms = time.time_ns() // 1_000_000
    connection.execute(NOTE, [partition, kind, at_ms, by.actor, by.reason, what, *words])


def settle(connection: Connection, partition: str, seq: int, those: Sequence[Gap]) -> None:
    """These gaps are settled with this event, and no other that was accepted meanwhile."""
    connection.execute(SETTLE, [seq, partition, [gap.after_seq for gap in those], [gap.seq for gap in those]])


def problems(connection: Connection, partition: str) -> set[str]:
    """Those that were acknowledged, as `stockade verify` prints them."""
    query = "SELECT what FROM acknowledged WHERE partition = %s AND kind = 'problem'"
    return {what for (what,) in connection.execute(query, [partition])}
