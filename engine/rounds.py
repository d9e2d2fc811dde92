"""Something costly, made for all who ask for it in the meantime at once, and at most a part of the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar, cast

from greenlet import getcurrent, greenlet

from engine import switch

T = TypeVar("T")

PAUSE = 4
"""Times what a round took, before the next one begins: so rounds take a fifth of a processor at most."""


class Rounds(Generic[T]):
    """`make` is called in a thread. What somebody gets was begun after he asked."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._waiting: list[greenlet] = []
        self._runs = False

    def get(self) -> T:
        loop = switch.current()
        if loop is None:
            return self._make()
        self._waiting.append(getcurrent())
        if not self._runs:
            self._runs = True
            loop.asyncio.call_soon(loop.start, self._work, loop)
        made: T | None
        error: Exception | None
        made, error = loop.wait()
        if error is None:
            return cast(T, made)
        try:
            raise error.with_traceback(None)
        finally:
            del error

    def _work(self, loop: switch.Loop) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            began_s, made, failure = time.monotonic(), None, None
            try:
                made = switch.in_thread(self._make)
            except Exception as error:
                failure = error
            for each in waiting:
                loop.asyncio.call_soon(each.switch, (made, failure))
            loop.asyncio.call_later(PAUSE * (time.monotonic() - began_s), getcurrent().switch)
            loop.wait()
        self._runs = False
