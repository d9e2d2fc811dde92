"""What all buyers of a run have heard, and the clock by which they heard it."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from loadtests.checker.history import Call, Outcome


@dataclass
class Clock:
    """Unix ms, as Redis's clock is meant to be. It never falls, unless somebody sets `offset_ms` lower."""

    offset_ms: float = 0.0
    _base_ms: float = field(default_factory=lambda: time.time() * 1000 - time.monotonic() * 1000)

    def now_ms(self) -> float:
        return self._base_ms + time.monotonic() * 1000 + self.offset_ms


@dataclass
class Market:
    """What those who trade know of each other: orders to ship, payment ids that were used, and those that somebody is using now."""

    orders: deque[Any] = field(default_factory=lambda: deque(maxlen=200))
    payments: deque[str] = field(default_factory=lambda: deque(maxlen=500))
    rivals: deque[str] = field(default_factory=lambda: deque(maxlen=3))


@dataclass
class History:
    """Of all buyers of a run. `counts` is operation and outcome, `codes` what was refused."""

    clock: Clock = field(default_factory=Clock)
    calls: list[Call] = field(default_factory=list)
    counts: Counter[tuple[str, Outcome]] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    strange: list[str] = field(default_factory=list)
    """Answers that no API should give, whatever happens to its parts."""

    shortened: list[tuple[float, float, str]] = field(default_factory=list)
    """Checkouts of carts that reserved only some of what was put in: when asked, when answered, and both in words."""

    def add(self, call: Call) -> None:
        self.calls.append(call)
        self.counts[call.operation, call.outcome] += 1
        self.codes[call.code] += bool(call.code)

    @property
    def unknown(self) -> int:
        return sum(count for (_, outcome), count in self.counts.items() if outcome is Outcome.UNKNOWN)
