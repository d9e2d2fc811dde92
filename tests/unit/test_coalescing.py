"""What threads ask at the same time goes in one round trip, and each gets what it asked for, whatever happens to others."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from hiredis import Reader
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import NoScriptError, ReadOnlyError
from redis.retry import Retry

from engine.coalescing import MOST_SHARED, Coalescer
from tests.waiting import wait_until


class Wire:
    """A connection that answers each command with its last word, when it may. `sent` are its round trips."""

    def __init__(self, failures: Sequence[BaseException]) -> None:
        self.retry = Retry(NoBackoff(), 1)
        self.sent: list[list[list[str]]] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.failures = list(failures)
        self.disconnects = 0
        self.marked = False
        self._answers: list[str] = []

    def send_packed_command(self, chunks: Sequence[bytes]) -> None:
        reader = Reader(encoding="utf-8")
        for chunk in chunks:
            reader.feed(chunk)
        commands = []
        while (command := reader.gets()) is not False:
            commands.append(command)
        self.sent.append(commands)
        self._answers = [command[-1] for command in commands]

    def read_response(self) -> str:
        assert self.may_answer.wait(10)
        if self.failures:
            raise self.failures.pop(0)
        answer = self._answers.pop(0)
        if answer == "unreadable":
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
        if answer == "readonly":
            raise ReadOnlyError("READONLY")
        if answer == "refuse":
            raise NoScriptError("NOSCRIPT")
        return answer

    def should_reconnect(self) -> bool:
        return self.marked

    def disconnect(self) -> None:
        self.disconnects += 1
        self.marked = False
        self._answers.clear()


class Client:
    """Of redis-py's client and its pool, what a Coalescer uses."""

    def __init__(self, *failures: BaseException) -> None:
        self.wires: list[Wire] = []
        self.free = 0
        self.connection_pool = self
        self._failures = failures

    def get_connection(self) -> Wire:
        self.wires.append(Wire(self._failures))
        return self.wires[-1]

    def release(self, wire: Wire) -> None:
        self.free += 1

    def parse_response(self, wire: Wire, name: str) -> Any:
        return wire.read_response()


@dataclass(frozen=True)
class Crowd:
    """A call that waits for its answer, and those that were made meanwhile and go together after it."""

    client: Any
    coalescer: Coalescer
    wire: Wire
    under_way: Future[list[Any]]
    later: list[Future[list[Any]]]


@contextmanager
def asked_together(*calls: Sequence[tuple[str, str]]) -> Iterator[Crowd]:
    """Make the calls while another one is under way, which asks for `slow`. The wire doesn't answer until it's told to."""
    client: Any = Client()
    coalescer = Coalescer(client)
    coalescer.ask(("ECHO", "first"))
    [wire] = client.wires
    wire.may_answer.clear()
    with ThreadPoolExecutor(1 + len(calls)) as pool:
        under_way = pool.submit(coalescer.ask, ("ECHO", "slow"))
        wait_until(lambda: len(wire.sent) == 2)
        later = [pool.submit(coalescer.ask, *call) for call in calls]
        wait_until(lambda: len(coalescer._gathered) == len(calls))
        yield Crowd(client, coalescer, wire, under_way, later)


def test_a_lone_call_gets_an_answer_for_each_command() -> None:
    client: Any = Client()
    assert Coalescer(client).ask(("ECHO", "a"), ("ECHO", 2)) == ["a", "2"]
    assert client.wires[0].sent == [[["ECHO", "a"], ["ECHO", "2"]]]
    assert Coalescer(client).ask() == []


def test_what_is_asked_while_a_call_is_under_way_goes_together() -> None:
    with asked_together(*[[("ECHO", str(number)), ("ECHO", f"{number}!")] for number in range(5)]) as crowd:
        crowd.wire.may_answer.set()
        assert crowd.under_way.result() == ["slow"]
        assert [call.result() for call in crowd.later] == [[str(number), f"{number}!"] for number in range(5)]
    assert [len(commands) for commands in crowd.wire.sent] == [1, 1, 10]
    assert len(crowd.client.wires) == 1


def test_a_refusal_stands_where_it_belongs_and_the_answers_after_it_too() -> None:
    client: Any = Client()
    first, refusal, last = Coalescer(client).ask(("ECHO", "a"), ("EVALSHA", "refuse"), ("ECHO", "b"))
    assert (first, last) == ("a", "b")
    assert isinstance(refusal, NoScriptError)


def test_a_lost_answer_is_asked_for_again() -> None:
    client: Any = Client(Disconnected("gone"))
    assert Coalescer(client).ask(("ECHO", "a")) == ["a"]
    assert client.wires[0].disconnects == 1
    assert len(client.wires[0].sent) == 2


def test_when_no_answer_comes_all_who_asked_are_told_and_the_next_call_works() -> None:
    with asked_together(*[[("ECHO", "x")]] * 3) as crowd:
        crowd.wire.failures = [Disconnected("gone"), Disconnected("gone")]
        crowd.wire.may_answer.set()
        for call in [crowd.under_way, *crowd.later]:
            with pytest.raises(Disconnected):
                call.result()
    assert crowd.coalescer.ask(("ECHO", "again")) == ["again"]


def test_an_answer_that_cannot_be_read_fails_one_call_alone() -> None:
    with asked_together(*[[("ECHO", word)] for word in ("a", "unreadable", "b")]) as crowd:
        crowd.wire.may_answer.set()
        before, broken, after = crowd.later
        assert crowd.under_way.result() == ["slow"]
        assert [before.result(), after.result()] == [["a"], ["b"]]
        with pytest.raises(UnicodeDecodeError):
            broken.result()


def test_a_master_that_has_become_a_replica_is_connected_to_anew() -> None:
    client: Any = Client()
    [refusal] = Coalescer(client).ask(("EVALSHA", "readonly"))
    assert isinstance(refusal, ReadOnlyError)
    assert client.wires[0].disconnects == 1


def test_a_connection_that_was_marked_is_made_anew_before_the_next_command() -> None:
    client: Any = Client()
    coalescer = Coalescer(client)
    coalescer.ask(("ECHO", "a"))
    [wire] = client.wires
    wire.marked = True
    assert coalescer.ask(("ECHO", "b")) == ["b"]
    assert coalescer.ask(("ECHO", "c")) == ["c"]
    assert wire.disconnects == 1


class Interrupted(BaseException):
    pass


def test_who_is_interrupted_leaves_nobody_waiting_and_no_answer_behind() -> None:
    client: Any = Client()
    coalescer = Coalescer(client)
    coalescer.ask(("ECHO", "first"))
    [wire] = client.wires
    wire.failures = [Interrupted()]
    with pytest.raises(Interrupted):
        coalescer.ask(("ECHO", "lost"))
    assert wire.disconnects >= 1
    assert coalescer.ask(("ECHO", "next")) == ["next"]


def test_what_cannot_be_packed_harms_nobody_else() -> None:
    client: Any = Client()
    coalescer = Coalescer(client)
    with pytest.raises(UnicodeEncodeError):
        coalescer.ask(("ECHO", "\ud800"))
    assert coalescer.ask(("ECHO", "a")) == ["a"]


def test_a_long_call_has_a_connection_of_its_own_and_gives_it_back() -> None:
    client: Any = Client()
    coalescer = Coalescer(client)
    words = [str(number) for number in range(MOST_SHARED + 1)]
    assert coalescer.ask(*[("ECHO", word) for word in words]) == words
    assert coalescer.ask(("ECHO", "a")) == ["a"]
    assert len(client.wires) == 2
    assert client.free == 1


def test_in_a_crowd_everybody_gets_his_own_answers(fake_redis: Redis) -> None:
    coalescer = Coalescer(fake_redis)

    def crowd(number: int) -> None:
        for turn in range(40):
            words = [f"{number}-{turn}-{part}" for part in range(1 + (number + turn) % 3)]
            assert coalescer.ask(*[("ECHO", word) for word in words]) == words

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(crowd, range(16)))
