"""What buyers were told of stock: refusals that should not have been, and holds that came back too early, too late or never.

The moment at which a refusal was decided lies somewhere between its call and its answer, so it is called false only if
at every moment between the two there was enough. A hold counts as free from its deadline on, whenever it was ended.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from engine.fold import MOVES
from engine.invariants import Invariant, Violation
from engine.invariants.history import Call
from engine.invariants.windows import Windows
from engine.values import Event, Line

OF_STOCK = ("insufficient", "all_held", "sold_out")
"""Verdicts that say that there are too few units."""


@dataclass
class Live:
    """A hold that hasn't ended. `deadline_ms` is the latest; 0 if neither the ledger nor a buyer knows it."""

    lines: tuple[Line, ...]
    deadline_ms: int


@dataclass
class Free:
    """Units of one SKU that can be had, over time: `after[i]` from `at_ms[i]` on."""

    at_ms: list[int] = field(default_factory=list)
    after: list[int] = field(default_factory=list)

    def least(self, from_ms: float, until_ms: float) -> int:
        """The least there was from just before the first moment to the last."""
        first, last = bisect_left(self.at_ms, from_ms), bisect_right(self.at_ms, until_ms)
        before = self.after[first - 1] if first else 0
        return min(before, *self.after[first:last]) if last > first else before


def free(events: Iterable[Event], deadlines: Mapping[str, int]) -> dict[str, Free]:
    """By SKU. `deadlines` are what buyers were told, for reservations of which the ledger has none."""
    changes: dict[str, list[tuple[int, int]]] = defaultdict(list)
    live: dict[str, Live] = {}
    for event in events:
        hold = live.get(event.reservation_id)
        late = event.op == "commit" and hold is None
        step = MOVES.get("commit late" if late else event.op, (0,))[0]
        at_ms = event.at_ms
        if event.op in ("release", "expire") and hold and hold.deadline_ms:
            at_ms = min(at_ms, hold.deadline_ms)
        if step:
            for line in event.lines:
                changes[line.sku].append((at_ms, step * line.quantity))
        follow(live, event, deadlines)
    for hold in live.values():
        for line in hold.lines if hold.deadline_ms else ():
            changes[line.sku].append((hold.deadline_ms, line.quantity))
    return {sku: _free(sorted(each)) for sku, each in changes.items()}


def follow(live: dict[str, Live], event: Event, deadlines: Mapping[str, int]) -> None:
    """Keep the live holds as they are after the event."""
    reservation_id = event.reservation_id
    if event.op == "reserve":
        live[reservation_id] = Live(event.lines, event.deadline_ms or deadlines.get(reservation_id, 0))
    elif event.op == "extend" and reservation_id in live:
        live[reservation_id].deadline_ms = event.deadline_ms
    elif event.op in ("release", "expire", "commit"):
        live.pop(reservation_id, None)


def _free(changes: list[tuple[int, int]]) -> Free:
    """Within one millisecond what is taken comes first: then the least is never too high."""
    return Free([at_ms for at_ms, _ in changes], list(accumulate(units for _, units in changes)))


def false_refusals(
    calls: Iterable[Call], units_free: Mapping[str, Free], unjudged: Windows, slack_ms: float
) -> Iterator[Violation]:
    """One for each line that was refused for want of stock though there was enough all the time."""
    for call in calls:
        from_ms, until_ms = call.invoked_ms - slack_ms, call.answered_ms + slack_ms
        if not call.refused or unjudged.touch(from_ms, until_ms):
            continue
        for line in call.refused:
            if line.verdict not in OF_STOCK or line.sku not in units_free:
                continue
            words = f"{line.sku} was refused as {line.verdict} to {call.user} at {from_ms:.0f} to {until_ms:.0f} ms"
            least = units_free[line.sku].least(from_ms, until_ms)
            if least >= line.requested:
                text = f"{words}: {line.requested} asked, {least} free or due"
            elif 0 < line.next_release_ms < from_ms:
                text = f"{words}, until a moment that had passed already"
            else:
                continue
            yield Violation(Invariant.NO_FALSE_REFUSAL, text)


def returns(
    events: Sequence[Event],
    deadlines: Mapping[str, int],
    skews: Windows,
    unjudged: Windows,
    bound_ms: float | None,
    read_ms: float,
) -> Iterator[Violation]:
    """Each hold that ran out comes back within the bound after its deadline, or after what `unjudged` it ran out in."""

    def late(hold: Live, at_ms: float) -> bool:
        if bound_ms is None or not hold.deadline_ms or at_ms <= hold.deadline_ms + bound_ms:
            return False
        return at_ms > unjudged.clear_from(hold.deadline_ms, bound_ms) + bound_ms

    live: dict[str, Live] = {}
    for event in events:
        hold = live.get(event.reservation_id)
        if event.op in ("release", "expire", "commit") and hold:
            by_ms, words = event.at_ms - hold.deadline_ms, f"the hold {event.reservation_id} ended by {event.op}"
            if event.op == "expire" and by_ms < 0 and not skews.touch(event.at_ms, hold.deadline_ms):
                yield Violation(Invariant.RETURN_BOUND, f"{words} {-by_ms} ms before its deadline")
            elif late(hold, event.at_ms):
                yield Violation(Invariant.RETURN_BOUND, f"{words} {by_ms} ms after its deadline")
        follow(live, event, deadlines)
    read_ms = max(read_ms, events[-1].at_ms if events else 0)
    for reservation_id, hold in live.items():
        if late(hold, read_ms):
            text = f"the hold {reservation_id} isn't back {read_ms - hold.deadline_ms:.0f} ms after its deadline"
            yield Violation(Invariant.RETURN_BOUND, text)
