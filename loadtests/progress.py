"""What a run tells on stderr while it goes on: one line that changes on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TextIO

import gevent

SECONDS, TERMINAL_SECONDS = 5.0, 1.0
"""How often a new line is due."""

CLEAR = "\r\x1b[K"


def line(told: Mapping[str, float], elapsed_s: float, seconds: float, checkouts: int, users: int) -> str:
    """How far a run is that ends after so many seconds or checkouts, 0 for no such end."""
    words = [f"{elapsed_s:.0f} s"]
    words += [f"{max(0.0, seconds - elapsed_s):.0f} s left"] if seconds else []
    words += [f"{told.get('checkouts', 0):,.0f} of {checkouts:,} checkouts"] if checkouts else []
    words += [f"{users} users", f"{told.get('requests_per_s', 0):,.0f} requests/s"]
    return ", ".join(words + [f"{told.get(name, 0):,.0f} {name}" for name in ("accepted", "refused", "errors")])


class Rate:
    """How fast a total grows, a second, from one look at it to the next."""

    def __init__(self) -> None:
        self._total, self._at_s = 0.0, time.monotonic()

    def now(self, total: float) -> float:
        at_s = time.monotonic()
        grown, took_s = total - self._total, max(at_s - self._at_s, 1e-6)
        self._total, self._at_s = total, at_s
        return grown / took_s


class Progress:
    """`silent` says nothing: that of a locust worker, or where locust has tables of its own."""

    def __init__(self, stream: TextIO | None = None, *, silent: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._silent = silent
        self._terminal = self._stream.isatty()
        self._teller: gevent.Greenlet | None = None

    def say(self, doing: str) -> None:
        """Tell what is being done now, at once and then with the seconds that it takes."""
        began_s = time.monotonic()
        self.write(doing)
        self.follow(lambda: f"{doing}, {time.monotonic() - began_s:.0f} s")

    def follow(self, line: Callable[[], str]) -> None:
        """Tell this line anew every few seconds, instead of what was told before."""
        self._stop()
        if not self._silent:
            self._teller = gevent.spawn(self._tell, line)

    def end(self) -> None:
        """Tell no more, and leave the terminal's line to others."""
        self._stop()
        if self._terminal:
            self._put(CLEAR)

    def write(self, line: str) -> None:
        self._put(f"{CLEAR}{line}" if self._terminal else f"{line}\n")

    def _tell(self, line: Callable[[], str]) -> None:
        while True:
            gevent.sleep(TERMINAL_SECONDS if self._terminal else SECONDS)
            self.write(line())

    def _stop(self) -> None:
        if self._teller is not None:
            self._teller.kill()
            self._teller = None

    def _put(self, text: str) -> None:
        """A run doesn't end because nobody reads how far it is."""
        if not self._silent:
            with suppress(OSError, ValueError):
                self._stream.write(text)
                self._stream.flush()
