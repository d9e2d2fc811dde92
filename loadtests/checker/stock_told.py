"""What buyers were told of stock and limits: refusals that should not have been, and holds that came back too early, too late or never.

The moment at which a refusal was decided lies somewhere between its call and its answer, so it is called false only if
at every moment between the two there was enough. A hold counts as free from its deadline on, whenever it was ended.
"""

from __future__ import annotations

import json
import sys
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from engine.fold import LIMITS, MOVES
from engine.invariants import Invariant, Violation
from engine.values import Event, Line
from loadtests.checker.attempts import Refusal
from loadtests.checker.windows import Windows

OF_STOCK = ("insufficient", "all_held", "sold_out")
"""Verdicts that say that there are too few units."""


@dataclass
class Live:
    """A hold that hasn't ended. `deadline_ms` is the latest; 0 if neither the ledger nor a buyer knows it."""

    user: str
    lines: tuple[Line, ...]
    deadline_ms: int


@dataclass
class Free:
    """A number over time, such as the units of one SKU that can be had: `after[i]` from `at_ms[i]` on."""

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
    for at_ms, effect, _, lines in _effects(events, deadlines):
        if step := MOVES.get(effect, (0,))[0]:
            for line in lines:
                changes[line.sku].append((at_ms, step * line.quantity))
    return {sku: _free(sorted(each)) for sku, each in changes.items()}


def _effects(events: Iterable[Event], deadlines: Mapping[str, int]) -> Iterator[tuple[int, str, str, tuple[Line, ...]]]:
    """Time, effect, user and lines of each event. A hold ends at its deadline at the latest, whenever it was ended."""
    live: dict[str, Live] = {}
    for event in events:
        hold = live.get(event.reservation_id)
        late = event.op == "commit" and hold is None
        at_ms = event.at_ms
        if event.op in ("release", "expire") and hold and hold.deadline_ms:
            at_ms = min(at_ms, hold.deadline_ms)
        yield at_ms, "commit late" if late else event.op, event.user, event.lines
        follow(live, event, deadlines)
    for hold in live.values():
        if hold.deadline_ms:
            yield hold.deadline_ms, "expire", hold.user, hold.lines


def follow(live: dict[str, Live], event: Event, deadlines: Mapping[str, int]) -> None:
    """Keep the live holds as they are after the event."""
    reservation_id = event.reservation_id
    if event.op == "reserve":
        live[reservation_id] = Live(event.user, event.lines, event.deadline_ms or deadlines.get(reservation_id, 0))
    elif event.op == "extend" and reservation_id in live:
        live[reservation_id].deadline_ms = event.deadline_ms
    elif event.op in ("release", "expire", "commit"):
        live.pop(reservation_id, None)


def _free(changes: list[tuple[int, int]]) -> Free:
    """Within one millisecond what is taken comes first: then the least is never too high."""
    return Free([at_ms for at_ms, _ in changes], list(accumulate(units for _, units in changes)))


def false_refusals(
    refusals: Iterable[Refusal], units_free: Mapping[str, Free], unjudged: Windows, slack_ms: float
) -> Iterator[Violation]:
    """One for each line that was refused for want of stock though there was enough all the time."""
    for refusal in refusals:
        call, from_ms, until_ms = refusal.call, refusal.from_ms - slack_ms, refusal.until_ms + slack_ms
        if unjudged.touch(from_ms, until_ms):
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


def false_limits(
    refusals: Iterable[Refusal],
    events: Sequence[Event],
    deadlines: Mapping[str, int],
    unjudged: Windows,
    slack_ms: float,
) -> Iterator[Violation]:
    """One for each line that was refused for its limit though at no moment of the call it was above what its customer might have.

    SKUs of whose limit the events say nothing aren't judged.
    """
    limits, changes = _limits(events), defaultdict(list)
    for at_ms, effect, user, lines in _effects(events, deadlines):
        if step := LIMITS.get(effect):
            for each in lines:
                changes[each.sku, user].append((at_ms, -step * each.quantity))
    below: dict[tuple[str, str], Free] = {}
    for refusal in refusals:
        call, from_ms, until_ms = refusal.call, refusal.from_ms - slack_ms, refusal.until_ms + slack_ms
        if unjudged.touch(from_ms, until_ms):
            continue
        for line in call.refused:
            if line.verdict != "limit_exceeded" or line.sku not in limits:
                continue
            name = (line.sku, call.user)
            if name not in below:
                below[name] = _free(sorted(changes[name]))
            had = -below[name].least(from_ms, until_ms)
            limit = limits[line.sku].least(from_ms, until_ms)
            if had + line.requested <= limit:
                text = (
                    f"{line.sku} was refused as limit_exceeded to {call.user} at {from_ms:.0f} to {until_ms:.0f} ms: "
                    f"{line.requested} asked, {had} held and bought, the limit is {limit}"
                )
                yield Violation(Invariant.NO_FALSE_REFUSAL, text)


def _limits(events: Iterable[Event]) -> dict[str, Free]:
    """The limit of each SKU that ever had one, over time."""
    found: dict[str, Free] = defaultdict(Free)
    for event in events:
        for name, value in json.loads(event.detail or "[]") if event.op in ("recount", "configure") else ():
            if name == "limit_per_customer":
                limit = found[event.lines[0].sku]
                limit.at_ms.append(event.at_ms)
                limit.after.append(int(value) if value else sys.maxsize)
    return found


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
