"""What is costly is made once for all who ask meanwhile, and begun after each of them has asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop

from engine import switch
from engine.rounds import Rounds


class Site:
    def __init__(self, make: Callable[[], str]) -> None:
        self.loop: Any = uvloop.new_event_loop()
        self.greenlets, self.rounds = switch.run_on(self.loop), Rounds(make)
        self.got: dict[int, Any] = {}

    def ask(self, who: int, wanted: int) -> None:
        try:
            self.got[who] = self.rounds.get()
        except Exception as error:
            self.got[who] = str(error)
        if len(self.got) == wanted:
            self.loop.stop()

    def ask_all(self, who: list[int], wanted: int) -> None:
        for each in who:
            self.greenlets.start(self.ask, each, wanted)

    def run(self, *times_s: float) -> list[Any]:
        """What each of those gets who ask after so many seconds; those with the same time in one turn."""
        for at_s in dict.fromkeys(times_s):
            who = [at for at, other_s in enumerate(times_s) if other_s == at_s]
            self.loop.call_later(at_s, self.ask_all, who, len(times_s))
        give_up = self.loop.call_later(20, self.loop.stop)
        self.loop.run_forever()
        give_up.cancel()
        self.loop.close()
        return [self.got.get(who) for who in range(len(times_s))]


@pytest.fixture(autouse=True)
def no_loop_left() -> Iterator[None]:
    yield
    switch._here.loop = None


def test_those_who_ask_together_get_one_and_who_asks_meanwhile_gets_the_next() -> None:
    made, switch_to_others = list[str](), threading.Event()

    def make() -> str:
        mine = f"round {len(made) + 1}"
        made.append(mine)
        if mine == "round 1":
            # The one in between has asked when this returns.
            switch_to_others.wait(10)
        return mine

    site = Site(make)
    site.loop.call_later(0.1, switch_to_others.set)
    first, second, third = site.run(0, 0, 0.05)
    assert first == second != third
    assert len(made) == 2


def test_nobody_waits_for_the_end_of_a_round_that_hangs() -> None:
    made, go_on = list[str](), threading.Event()

    def make() -> str:
        made.append("a round")
        if len(made) == 1:
            assert go_on.wait(10)
            return "late"
        go_on.set()
        return "in time"

    assert sorted(Site(make).run(0, 0.05)) == ["in time", "late"]


def test_a_failure_is_told_to_those_who_asked_and_the_next_begin_again() -> None:
    answers = iter([ValueError("no"), "yes"])

    def make() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert Site(make).run(0, 0, 0.1) == ["no", "no", "yes"]


def test_without_a_loop_it_is_just_made() -> None:
    assert Rounds(lambda: "now").get() == "now"
