"""One answer for all who ask the same of an event loop before the question is sent."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar, cast

from greenlet import getcurrent, greenlet

from engine import switch
from engine.redis_calls import RedisCalls
from engine.switch import Loop

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
        if question is None or question.turn != self._calls.turn:
            return self._asked(loop, what, ask)
        question.waiting.append(getcurrent())
        loop.wait()
        answer, error = question.answer, question.error
        # What is raised has this frame in its traceback, and must not be found from it: only the garbage collector would end that.
        del question
        if error is None:
            return cast(T, answer)
        try:
            raise error.with_traceback(None)
        finally:
            del error

    def _asked(self, loop: Loop, what: Hashable, ask: Callable[[], T]) -> T:
        question = self._open[what] = _Question(self._calls.turn)
        try:
            question.answer = answer = ask()
        except BaseException as error:
            question.error = error
            raise
        finally:
            if self._open.get(what) is question:
                del self._open[what]
            for each in question.waiting:
                loop.asyncio.call_soon(each.switch)
            del question
        return answer
