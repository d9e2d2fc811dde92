"""One answer for all who ask the same of an event loop before the question is sent."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet

from engine import switch
from engine.redis_calls import RedisCalls

T = TypeVar("T")


class _Question:
    def __init__(self, turn: int) -> None:
        self.turn = turn
        self.waiting: list[greenlet] = []
        self.answer: Any = None
        self.error: BaseException | None = None


class Shared:
    """For questions to Redis that are the same whoever asks. Not shared between loops."""

    def __init__(self, calls: RedisCalls) -> None:
        self._calls = calls
        self._open: dict[Hashable, _Question] = {}

    def once(self, what: Hashable, ask: Callable[[], T]) -> T:
        """What `ask` gives, or gave to another who asked for `what` when nothing had been sent since: so it is never older than the request."""
        loop = switch.current()
        if loop is None:
            return ask()
        question = self._open.get(what)
        if question is not None and question.turn == self._calls.turn:
            question.waiting.append(getcurrent())
            loop.wait()
        else:
            question = self._open[what] = _Question(self._calls.turn)
            try:
                question.answer = ask()
            except BaseException as error:
                question.error = error
            if self._open.get(what) is question:
                del self._open[what]
            for each in question.waiting:
                loop.asyncio.call_soon(each.switch)
        if question.error is not None:
            raise question.error
        answer: T = question.answer
        return answer
