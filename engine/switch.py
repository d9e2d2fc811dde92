"""Where synchronous code and an event loop meet: whoever waits on the loop's thread gives it to others meanwhile.

Each request runs in a greenlet of its own. Where it has to wait it switches to the loop, and the loop switches back when what it
waits for is there. In any other thread, and where no loop runs, the same calls simply block.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, TypeVar

import structlog
from greenlet import getcurrent, greenlet

T = TypeVar("T")

log = structlog.get_logger()


class Loop:
    """The event loop of this thread, made in the greenlet that runs it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.asyncio = loop
        self._hub = getcurrent()

    def start(self, work: Callable[..., object], *arguments: object) -> None:
        """Run `work` at once in a greenlet of its own. Returns when it has ended, or waits for the first time.

        What it raises is logged: it would come out where somebody else is given an answer.
        """
        greenlet(_logged, self._hub).switch(work, *arguments)

    def wait(self) -> Any:
        """Give the thread to others until somebody switches back to this greenlet. Returns: what it was given."""
        return self._hub.switch()


def _logged(work: Callable[..., object], *arguments: object) -> None:
    try:
        work(*arguments)
    except Exception as error:
        log.error("greenlet_failed", exc_info=error)


_here = threading.local()


def run_on(loop: asyncio.AbstractEventLoop) -> Loop:
    """Let this thread's greenlets wait on this loop, which is to run in the present greenlet."""
    _here.loop = made = Loop(loop)
    return made


def current() -> Loop | None:
    """The loop on which the caller has to wait; None where it may block."""
    loop: Loop | None = getattr(_here, "loop", None)
    return loop if loop is not None and getcurrent() is not loop._hub else None


def in_thread(work: Callable[..., T], *arguments: object) -> T:
    """Do what may take long or stand still, such as a look at a disk, where it holds up nobody else."""
    if current() is None:
        return work(*arguments)
    answer: Future[T] = Future()

    def do() -> None:
        try:
            answer.set_result(work(*arguments))
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=do, name="beside", daemon=True).start()
    return result(answer)


def result(answer: Future[T], timeout_s: float | None = None) -> T:
    """What a thread has found.

    Raises:
        TimeoutError: it isn't there in time.
    """
    loop = current()
    if loop is None or answer.done():
        return answer.result(timeout_s)
    waits, me = loop.asyncio, getcurrent()
    over = False

    def resume() -> None:
        nonlocal over
        if not over:
            over = True
            me.switch()

    timer = waits.call_later(timeout_s, resume) if timeout_s is not None else None
    answer.add_done_callback(lambda _: waits.call_soon_threadsafe(resume))
    loop.wait()
    if timer:
        timer.cancel()
    if not answer.done():
        raise FutureTimeout
    return answer.result()
