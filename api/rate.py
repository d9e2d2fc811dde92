"""A limit on the requests of one user, in this process."""

from __future__ import annotations

import threading
import time

MAX_REMEMBERED = 10_000
"""Users whose requests are remembered. A full memory forgets who is idle; if nobody is, everybody."""


class Rate:
    """So many requests a second for each user, and at most a second's worth at once. 0: no limit.

    A user's requests are taken as if each had its own moment, evenly spread; what is kept of a user is the next such
    moment (the "generic cell rate algorithm").
    """

    def __init__(self, most_per_second: int) -> None:
        self.limits = most_per_second > 0
        self._interval_s = 1 / most_per_second if most_per_second else 0.0
        self._next_s: dict[str, float] = {}
        self._lock = threading.Lock()

    def seconds_to_wait(self, user: str) -> float:
        """Count a request. Returns: 0, or how long the user must wait until one is counted again; this one wasn't."""
        if not self._interval_s:
            return 0.0
        with self._lock:
            now_s = time.monotonic()
            next_s = max(self._next_s.get(user, 0.0), now_s) + self._interval_s
            if next_s - now_s > 1 + self._interval_s / 2:
                return next_s - now_s - 1
            if len(self._next_s) >= MAX_REMEMBERED and user not in self._next_s:
                self._forget(now_s)
            self._next_s[user] = next_s
        return 0.0

    def _forget(self, now_s: float) -> None:
        self._next_s = {user: next_s for user, next_s in self._next_s.items() if next_s > now_s}
        if len(self._next_s) >= MAX_REMEMBERED:
            self._next_s.clear()
