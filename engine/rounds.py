"""Something costly, made at once for all who ask for it meanwhile, ten times a second at most."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar, cast

from greenlet import getcurrent, greenlet

from engine import switch

T = TypeVar("T")

INTERVAL_SECONDS = 0.1
"""Between the beginnings of two rounds. They may overlap: where something hangs, nobody waits for the end of another's round."""


class Rounds(Generic[T]):
    """`make` is called in a thread. What somebody gets was begun after he asked."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._waiting: list[greenlet] = []
        self._planned = False
        self._began_s = 0.0

    def get(self) -> T:
        loop = switch.current()
        if loop is None:
            return self._make()
        self._waiting.append(getcurrent())
        if not self._planned:
            self._planned = True
            begins_in_s = max(0.0, self._began_s + INTERVAL_SECONDS - time.monotonic())
            loop.asyncio.call_later(begins_in_s, loop.start, self._round, loop)
        made: T | None
        error: Exception | None
        made, error = loop.wait()
        if error is None:
            return cast(T, made)
        try:
            raise error.with_traceback(None)
        finally:
            del error

    def _round(self, loop: switch.Loop) -> None:
        self._planned, self._began_s = False, time.monotonic()
        waiting, self._waiting = self._waiting, []
        made, failure = None, None
        try:
            made = switch.in_thread(self._make)
        except Exception as error:
            failure = error
        for each in waiting:
            loop.asyncio.call_soon(each.switch, (made, failure))
