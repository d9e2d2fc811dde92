"""Whether some order of steps on one counter fits what each of them found there.

After Wing and Gong, and Lowe's just-in-time search ("Testing for linearizability", 2017): go through time, keep every
state that the counter and the steps under way can be in, and have a step happen when its time is up, at the latest. A
state is which of the open steps have happened; the counter follows from that. Of steps with the same effect the one whose
time is up first goes first; a step that changes nothing happens as soon as it fits. Neither can spoil anything later.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from math import inf
from operator import itemgetter

FLOAT_OPENS, BEGINS, ENDS, FLOAT_CLOSES, IS_BACK = range(5)
"""What comes at the same millisecond, in this order: it makes the most things possible."""

COMPARED_AT_ONCE = 8
"""Comparisons of two states that cost as much as coming to one."""

State = tuple[int, int, int, int]
"""Bits of open steps that have happened, the counter, and how many units floats can still give and take."""


@dataclass(frozen=True, slots=True)
class Step:
    """Happens once, between two moments, when the counter is in a range, and changes it. `text` says what it was."""

    from_ms: float
    until_ms: float
    change: int
    low: float
    high: float
    text: str


@dataclass(frozen=True, slots=True)
class Float:
    """Units that may come in any parts between two moments; all of them by the end, if `surely`.

    Below 0 units that may go, in parts; those that went may come back until `back_ms`.
    """

    from_ms: float
    until_ms: float
    change: int
    surely: bool = False
    back_ms: float = 0


class Undecided(Enum):
    """Too many states for the budget."""

    UNDECIDED = "undecided"


def unexplained(start: int, steps: Iterable[Step], floats: Iterable[Float], budget: int) -> Step | Undecided | None:
    """Returns: a step that no order of all until then explains; None if there is one for each; `budget` is in states."""
    moments: list[tuple[float, int, Step | Float]] = []
    for step in steps:
        moments += [(step.from_ms, BEGINS, step), (step.until_ms, ENDS, step)]
    for each in floats:
        moments += [(each.from_ms, FLOAT_OPENS, each), (each.until_ms, FLOAT_CLOSES, each)]
        if each.change < 0:
            moments.append((max(each.until_ms, each.back_ms), IS_BACK, each))
    search = _Search(start, budget)
    for at_ms, kind, what in sorted(moments, key=itemgetter(0, 1)):
        if at_ms == inf:
            break
        if isinstance(what, Float):
            search.floats(what, kind)
        elif kind == BEGINS:
            search.begins(what)
        elif not search.ends(what):
            return what
        if search.budget < 0:
            return Undecided.UNDECIDED
    return None


class _Search:
    def __init__(self, start: int, budget: int) -> None:
        self.budget = budget
        self._states: set[State] = {(0, start, 0, 0)}
        self._open: dict[int, Step] = {}
        self._bits: dict[int, list[int]] = {}
        self._spare: list[int] = []
        self._checks = 0
        self._open_gifts = self._open_takes = 0
        self._doubtful = False

    def begins(self, step: Step) -> None:
        bit = self._spare.pop() if self._spare else 1 << len(self._open)
        self._open[bit] = step
        self._bits.setdefault(id(step), []).append(bit)
        if not step.change:
            self._checks |= bit
            self._states = set(map(self._settled, self._states))

    def ends(self, step: Step) -> bool:
        """Returns: whether there is any state in which the step has happened."""
        bit = self._bits[id(step)].pop()
        found: set[State] = set()
        stack, seen = list(self._states), set(self._states)
        while stack and self.budget >= 0:
            self.budget -= 1
            state = stack.pop()
            if state[0] & bit:
                found.add(state)
                continue
            after = self._happened(state, bit)
            if after:
                found.add(after)
                paid = after[2:] != state[2:]
                if not paid and not self._checks & ~after[0]:
                    continue
            for other in self._candidates(state[0], step.change):
                following = self._happened(state, other)
                if following and following not in seen:
                    seen.add(following)
                    stack.append(following)
        del self._open[bit]
        self._checks &= ~bit
        self._spare.append(bit)
        self._states = self._leading({(mask & ~bit, *rest) for mask, *rest in found})  # type: ignore[misc]
        return bool(found) or self.budget < 0

    def floats(self, units: Float, kind: int) -> None:
        """Count what can float from now on; what can no more has done so by now, in one of the ways it could."""
        gift, take = max(units.change, 0), max(-units.change, 0)
        if kind == FLOAT_OPENS:
            self._open_gifts += gift + take
            self._open_takes += take
            self._doubtful = self._doubtful or not units.surely
            self._states = {(mask, free, give + gift, less + take) for mask, free, give, less in self._states}
            return
        if gift and units.surely and not self._doubtful:
            # Whatever is under way may have happened before the last of them came.
            self._states = self._reachable()
        if kind == FLOAT_CLOSES:
            self._open_gifts -= gift
            self._open_takes -= take
        else:
            self._open_gifts -= take
        # Which units came is not known: beside some that may never come, it isn't sure that these are still to come.
        surely = units.surely and not self._doubtful
        self._doubtful = self._doubtful and self._open_gifts > 0
        ways = {way for state in self._states for way in self._ways(state, surely)}
        self.budget -= len(ways)
        self._states = self._leading(ways)

    def _reachable(self) -> set[State]:
        """Every state that open steps can lead to now."""
        seen, stack = set(self._states), list(self._states)
        while stack and self.budget >= 0:
            self.budget -= 1
            state = stack.pop()
            for bit in self._candidates(state[0], 0):
                following = self._happened(state, bit)
                if following and following not in seen:
                    seen.add(following)
                    stack.append(following)
        return seen

    def _ways(self, state: State, surely: bool) -> Iterator[State]:
        """Every state that this one may have become, with no more to float than is open."""
        mask, free, gifts, takes = state
        takes_over = max(takes - self._open_takes, 0)
        for taken in range(takes_over + 1):
            gifts_over = max(gifts + taken - self._open_gifts, 0)
            for given in range(gifts_over if surely else 0, gifts_over + 1):
                left = gifts + taken - gifts_over
                yield self._settled((mask, free - taken + given, left, takes - takes_over))

    def _happened(self, state: State, bit: int) -> State | None:
        """The state after the step, if it can happen now, floats helping as little as they have to."""
        mask, free, gifts, takes = state
        step = self._open[bit]
        if free < step.low:
            gifts -= int(step.low - free)
            free = int(step.low)
        elif free > step.high:
            takes -= int(free - step.high)
            gifts += int(free - step.high)
            free = int(step.high)
        if gifts < 0 or takes < 0:
            return None
        return self._settled((mask | bit, free + step.change, gifts, takes))

    def _settled(self, state: State) -> State:
        """The state with every check done that fits it as it is."""
        mask, free, gifts, takes = state
        waiting = self._checks & ~mask
        while waiting:
            bit = waiting & -waiting
            waiting ^= bit
            step = self._open[bit]
            if step.low <= free <= step.high:
                mask |= bit
        return mask, free, gifts, takes

    def _candidates(self, mask: int, but: int) -> list[int]:
        """Steps that can happen next: of those with the same change one, and checks that a float may help."""
        first: dict[int, int] = {}
        checks = []
        for bit, step in self._open.items():
            if mask & bit:
                continue
            if not step.change:
                checks.append(bit)
            elif step.change not in first or step.until_ms < self._open[first[step.change]].until_ms:
                first[step.change] = bit
        if but:
            first.pop(but, None)
        floating = self._open_gifts or self._open_takes
        return [*first.values(), *(checks if floating else ())]

    def _leading(self, states: set[State]) -> set[State]:
        """Without states that another one can still become at any moment, with no less explained."""
        if len(states) < 2:
            return states
        kept: dict[int, list[tuple[State, int]]] = {}
        floating = self._open_gifts or self._open_takes
        for state in sorted(states, key=lambda each: (each[0] & ~self._checks).bit_count()):
            base = self._base(state)
            others = kept.setdefault(0 if floating else base, [])
            self.budget -= len(others) // COMPARED_AT_ONCE
            if not any(self._leads(other, state, base - of_other) for other, of_other in others):
                others.append((state, base))
        return {state for each in kept.values() for state, _ in each}

    def _base(self, state: State) -> int:
        """What the counter would be without the open steps."""
        return state[1] - sum(step.change for bit, step in self._open.items() if state[0] & bit)

    def _leads(self, one: State, other: State, more: int) -> bool:
        """`more`: what floats would have to add to one to get to the other."""
        ours, explained = one[0] & ~self._checks, other[0] & self._checks
        if ours & other[0] != ours or one[0] & explained != explained:
            return False
        takes = one[3] - other[3]
        # What one takes it can give again, so it has as many gifts left as the other only if it had enough before.
        return takes >= 0 and more >= -takes and one[2] - more >= other[2]
