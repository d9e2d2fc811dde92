"""What a reservation was between two moments, as the ledger has it: each answer that shows one shows it as it was then."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from engine.states import State
from engine.values import Event

BECOMES = {
    "reserve": State.RESERVED,
    "release": State.RELEASED,
    "expire": State.EXPIRED,
    "commit": State.COMMITTED,
}


@dataclass(frozen=True, slots=True)
class Standing:
    """`deadline_ms` is 0 where the ledger doesn't tell."""

    state: str
    deadline_ms: int


def standings(events: Iterable[Event], from_ms: float, until_ms: float) -> Iterator[Standing]:
    """All that one reservation was, from just before the first moment to the last. A hold is none after its deadline."""
    now = Standing("", 0)
    for event in events:
        if event.at_ms > until_ms:
            break
        if event.at_ms >= from_ms:
            yield now
        # The events of orders say what the order became.
        state = BECOMES.get(event.op) or (event.detail if event.op in ("fulfil", "cancel") else "") or now.state
        now = Standing(state, event.deadline_ms or now.deadline_ms)
    if now.state != State.RESERVED or not 0 < now.deadline_ms < from_ms:
        yield now
