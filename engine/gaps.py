"""Gaps in the ledger that a person has accepted: the events in them are lost, and everybody walks over them.

What the ledger tells after a gap may need what was lost in it. So from the gap's beginning until it was settled the fold is
lenient (`engine.lenience`) and the judge silent; settled is the event with which all that Redis held had been adopted
(`engine.adoption`). A gap without events lies before an event that can't follow those before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.database import Connection

if TYPE_CHECKING:
    from engine.ledger import Position

READ = """
    SELECT after_epoch, after_seq, epoch, seq, payload_hash, chain_hash, settled_seq FROM acknowledged
    WHERE partition = %s AND kind = 'gap' ORDER BY after_seq, id
"""


@dataclass(frozen=True)
class Gap:
    """Events after one entry id, up to another, whose chain hash the ledger goes on from. `settled_seq` is None until it is settled.

    Rows that are still there in between are what was written, but nothing chains them to those before.
    """

    after_epoch: int
    after_seq: int
    epoch: int
    seq: int
    payload_hash: bytes
    chain_hash: bytes
    settled_seq: int | None = None

    def has(self, seq: int) -> bool:
        """Whether the event after this one is in the gap."""
        return self.after_seq <= seq < self.seq

    def reaches(self, seq: int) -> bool:
        """Whether an event may need what was lost."""
        return self.after_seq < seq and (self.settled_seq is None or seq <= self.settled_seq)


Gaps = Sequence[Gap]


def read(connection: Connection, partition: str) -> tuple[Gap, ...]:
    """All that were accepted, in order."""
    return tuple(Gap(*row) for row in connection.execute(READ, [partition]))


def after(gaps: Gaps, position: Position) -> Gap | None:
    """The gap in which the next event after a position would be."""
    return next((gap for gap in gaps if gap.has(position.seq)), None)


def reach(gaps: Gaps, seq: int) -> bool:
    """Whether an event may need what was lost in one of them."""
    return any(gap.reaches(seq) for gap in gaps)


def unsettled(gaps: Gaps) -> list[Gap]:
    return [gap for gap in gaps if gap.settled_seq is None]
