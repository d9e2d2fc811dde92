"""Questions to servers that may hang, and waiting for the answer only so long."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Bounded(Generic[T]):
    """Asks in a thread of its own, one question at a time: whoever comes meanwhile waits for the same answer.

    So a server that hangs costs one thread, however often it is asked. Safe to share between threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answer: Future[T] | None = None

    def begin(self, ask: Callable[[], T]) -> Future[T]:
        """The answer to the question under way; `ask` begins one where there is none."""
        with self._lock:
            if self._answer is None or self._answer.done():
                answer: Future[T] = Future()
                threading.Thread(target=_ask, args=(ask, answer), name="bounded", daemon=True).start()
                self._answer = answer
            return self._answer


def _ask(ask: Callable[[], T], answer: Future[T]) -> None:
    try:
        answer.set_result(ask())
    except BaseException as error:
        answer.set_exception(error)
