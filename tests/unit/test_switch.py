"""Synchronous code on a loop: who waits lets others go on, and gets what it waited for; elsewhere it just blocks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout

import pytest
import uvloop
from greenlet import getcurrent, greenlet

from engine import switch


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = uvloop.new_event_loop()
    yield made
    made.close()
    switch._here.loop = None


def test_who_waits_for_a_thread_lets_others_go_on(loop: asyncio.AbstractEventLoop) -> None:
    greenlets, said, go = switch.run_on(loop), list[str](), threading.Event()

    def slow() -> str:
        assert go.wait(10)
        return "slow"

    def first() -> None:
        said.append(switch.in_thread(slow))
        loop.stop()

    def second() -> None:
        said.append("quick")
        go.set()

    loop.call_soon(greenlets.start, first)
    loop.call_soon(greenlets.start, second)
    loop.run_forever()
    assert said == ["quick", "slow"]


def test_what_a_greenlet_raises_disturbs_nobody_who_starts_or_wakes_it(loop: asyncio.AbstractEventLoop) -> None:
    greenlets, said = switch.run_on(loop), list[str]()
    waiting = list[greenlet]()

    def fail() -> None:
        waiting.append(getcurrent())
        greenlets.wait()
        raise ValueError("no")

    def story() -> None:
        greenlets.start(fail)
        waiting[0].switch()
        said.append("went on")
        loop.stop()

    loop.call_soon(story)
    loop.run_forever()
    assert said == ["went on"]


def test_a_failure_in_a_thread_is_raised_where_it_is_waited_for(loop: asyncio.AbstractEventLoop) -> None:
    greenlets, caught = switch.run_on(loop), list[Exception]()

    def fail() -> None:
        raise ValueError("no")

    def wait() -> None:
        try:
            switch.in_thread(fail)
        except ValueError as error:
            caught.append(error)
        loop.stop()

    loop.call_soon(greenlets.start, wait)
    loop.run_forever()
    assert [str(error) for error in caught] == ["no"]


def test_who_waits_in_vain_is_told_and_a_late_answer_harms_nobody(loop: asyncio.AbstractEventLoop) -> None:
    greenlets, answer, said = switch.run_on(loop), Future[str](), list[str]()

    def wait() -> None:
        try:
            switch.result(answer, 0.01)
        except FutureTimeout:
            said.append("in vain")
        answer.set_result("late")
        said.append(switch.result(answer))
        loop.call_later(0.01, loop.stop)

    loop.call_soon(greenlets.start, wait)
    loop.run_forever()
    assert said == ["in vain", "late"]


def test_off_the_loop_it_blocks(loop: asyncio.AbstractEventLoop) -> None:
    switch.run_on(loop)
    assert switch.current() is None, "the greenlet that runs the loop must not wait for it"
    assert switch.in_thread(lambda: threading.get_ident()) == threading.get_ident()
    found = list[object]()
    other = threading.Thread(target=lambda: found.append(switch.current()))
    other.start()
    other.join()
    assert found == [None]
