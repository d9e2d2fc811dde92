"""Who asks the same before anything was sent shares an answer; who asks later gets a newer one."""

from __future__ import annotations

import gc
import traceback
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop
from greenlet import getcurrent, greenlet

from engine import switch
from engine.shared import Shared


@dataclass
class Calls:
    """Redis as far as it is needed: greenlets wait until what they asked for is answered."""

    turn: int = 0
    waiting: list[greenlet] = field(default_factory=list)


class Failure(Exception):
    """One that can be seen to be gone."""


class Site:
    def __init__(self, loop: Any) -> None:
        self.loop, self.greenlets, self.calls = loop, switch.run_on(loop), Calls()
        self.shared = Shared(self.calls)  # type: ignore[arg-type]
        self.asked = 0
        self.got: dict[str, Any] = {}

    def ask(self) -> str:
        self.asked += 1
        mine = f"answer {self.asked}"
        self.calls.waiting.append(getcurrent())
        self.greenlets.wait()
        return mine

    def comes(self, who: str, what: str, ask: Callable[[], str] | None = None) -> None:
        """Somebody asks, at once."""

        def work() -> None:
            try:
                self.got[who] = self.shared.once(what, ask or self.ask)
            except Exception as error:
                self.got[who] = error

        self.greenlets.start(work)

    def is_answered(self) -> None:
        """All who asked Redis have their answers."""
        waiting, self.calls.waiting = self.calls.waiting, []
        for each in waiting:
            each.switch()

    def run(self, story: Callable[[], None]) -> None:
        self.loop.call_soon(story)
        self.loop.call_later(0.05, self.loop.stop)
        self.loop.run_forever()


@pytest.fixture
def site() -> Iterator[Site]:
    loop = uvloop.new_event_loop()
    yield Site(loop)
    loop.close()
    switch._here.loop = None


def test_who_asks_the_same_before_it_is_sent_shares_the_answer(site: Site) -> None:
    def story() -> None:
        for who in ("ann", "bob", "eve"):
            site.comes(who, "tee")
        site.comes("dan", "mug")
        site.is_answered()

    site.run(story)
    assert site.got == {"ann": "answer 1", "bob": "answer 1", "eve": "answer 1", "dan": "answer 2"}


def test_who_asks_after_it_was_sent_gets_a_newer_answer(site: Site) -> None:
    def story() -> None:
        site.comes("ann", "tee")
        site.calls.turn += 1
        site.comes("bob", "tee")
        site.comes("eve", "tee")
        site.is_answered()
        site.comes("dan", "tee")
        site.is_answered()

    site.run(story)
    assert site.got == {"ann": "answer 1", "bob": "answer 2", "eve": "answer 2", "dan": "answer 3"}


def test_a_failure_is_everybodys(site: Site) -> None:
    def fail() -> str:
        site.ask()
        raise ValueError("no")

    def story() -> None:
        site.comes("ann", "tee", fail)
        site.comes("bob", "tee", fail)
        site.is_answered()
        site.comes("eve", "tee")
        site.is_answered()

    site.run(story)
    assert site.asked == 2
    assert [str(site.got[who]) for who in ("ann", "bob", "eve")] == ["no", "no", "answer 2"]


def test_a_failure_is_gone_when_everybody_has_been_told(site: Site) -> None:
    gone = list[weakref.ref[Any]]()

    def fail() -> str:
        site.ask()
        error = Failure("no")
        gone.append(weakref.ref(error))
        raise error

    def story() -> None:
        for who in ("ann", "bob", "eve"):
            site.comes(who, "tee", fail)
        site.is_answered()

    gc.disable()
    try:
        site.run(story)
        depths = {len(traceback.extract_tb(error.__traceback__)) for error in site.got.values()}
        assert max(depths) < 10
        site.got.clear()
        assert [each() for each in gone] == [None]
    finally:
        gc.enable()


def test_without_a_loop_everybody_asks(site: Site) -> None:
    assert [site.shared.once("tee", lambda: "now") for _ in range(2)] == ["now", "now"]
