"""Spans of time in which something can't be judged."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from loadtests.checker.history import Down, Loss, Skew


class Windows:
    """Losses and skews, each `before_ms` and `after_ms` wider than it was."""

    def __init__(self, windows: Iterable[Loss | Skew | Down], before_ms: float = 0, after_ms: float = 0) -> None:
        self._from: list[float] = []
        self._until: list[float] = []
        for window in sorted(windows, key=lambda each: each.from_ms):
            from_ms, until_ms = window.from_ms - before_ms, window.until_ms + after_ms
            if self._until and from_ms <= self._until[-1]:
                self._until[-1] = max(self._until[-1], until_ms)
            else:
                self._from.append(from_ms)
                self._until.append(until_ms)

    def touch(self, from_ms: float, until_ms: float) -> bool:
        """Whether any of them has a moment in common with this span."""
        at = bisect_right(self._from, until_ms)
        return at > 0 and self._until[at - 1] >= from_ms

    def clear_from(self, at_ms: float, for_ms: float) -> float:
        """The first moment, not before `at_ms`, after which nothing is touched for so long."""
        at = bisect_right(self._until, at_ms)
        while at < len(self._from) and self._from[at] <= at_ms + for_ms:
            at_ms = max(at_ms, self._until[at])
            at += 1
        return at_ms
