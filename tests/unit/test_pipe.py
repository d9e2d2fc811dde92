"""One connection to Redis for all greenlets of a loop: each gets what it asked for, whatever happens to others."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest
import uvloop
from hiredis import Reader
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import DataError, NoScriptError, ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as TimedOut
from redis.retry import Retry

from engine import switch
from engine.pipe import MAX_BYTES_TOGETHER, Pipe
from engine.store import NotCertified

RETRIES = 2

Answers = Callable[[list[str]], bytes | None]
"""What the server says to a command; None: it hangs up."""


def echo(command: list[str]) -> bytes | None:
    last = command[-1]
    if last == "hang up":
        return None
    return {"unreadable": b"$1\r\n\xff\r\n", "readonly": b"-READONLY no\r\n", "refuse": b"-NOSCRIPT no\r\n"}.get(
        last, b"$%d\r\n%s\r\n" % (len(last.encode()), last.encode())
    )


class Connection:
    """Of redis-py's connection, what a pipe uses. The other end is a thread that answers."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.retry: Any = None
        self.encoder = self
        self.encoding, self.encoding_errors, self.decode_responses = "utf-8", "strict", True
        self._parser = self
        self._marked = False
        self._sock: Any = None

    def connect(self) -> None:
        if self.server.refusals:
            raise self.server.refusals.pop(0)
        self._sock, theirs = socket.socketpair()
        threading.Thread(target=self.server.serve, args=(theirs,), daemon=True).start()

    def disconnect(self) -> None:
        self._sock.close()

    def mark_for_reconnect(self) -> None:
        self._marked = True

    def should_reconnect(self) -> bool:
        return self._marked

    def parse_error(self, text: str) -> Exception:
        kinds = {"READONLY": ReadOnlyError, "NOSCRIPT": NoScriptError}
        return kinds.get(text.split()[0], ResponseError)(text)


class Server:
    """`writes` are the commands that came together, `refusals` what the next connections fail with."""

    def __init__(self, answers: Answers = echo) -> None:
        self.answers = answers
        self.connections: list[Connection] = []
        self.writes: list[list[list[str]]] = []
        self.refusals: list[Exception] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.connection_pool = self
        self.connection_kwargs = {"retry": Retry(NoBackoff(), RETRIES), "socket_timeout": 0.3}
        self.response_callbacks: dict[str, Callable[[Any], Any]] = {"UPPER": str.upper}

    def connection_class(self, **_: Any) -> Connection:
        self.connections.append(Connection(self))
        return self.connections[-1]

    def serve(self, client: socket.socket) -> None:
        reader = Reader(encoding="utf-8")
        with client, suppress(OSError):
            while data := client.recv(1_000_000):
                reader.feed(data)
                commands: list[list[str]] = []
                while (command := reader.gets()) is not False:
                    commands.append(command)
                self.writes.append(commands)
                self.may_answer.wait(10)
                for command in commands:
                    answer = self.answers(command)
                    if answer is None:
                        return
                    client.sendall(answer)


class Site:
    """A loop with a pipe to a server, in this thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, server: Server) -> None:
        self.loop, self.server = loop, server
        self.greenlets = switch.run_on(loop)
        self.pipe = Pipe(server, self.greenlets)  # type: ignore[arg-type]

    def ask_all(self, *calls: Sequence[tuple[str, ...]]) -> list[Any]:
        """What each call is answered, or fails with; all are asked in one turn."""
        found: list[Any] = [None] * len(calls)

        def one(at: int) -> None:
            try:
                found[at] = self.pipe.ask(calls[at])
            except Exception as error:
                found[at] = error
            if all(each is not None for each in found):
                self.loop.stop()

        def begin() -> None:
            for at in range(len(calls)):
                self.greenlets.start(one, at)

        self.loop.call_soon(begin)
        give_up = self.loop.call_later(20, self.loop.stop)
        self.loop.run_forever()
        give_up.cancel()
        return found


@pytest.fixture
def site() -> Iterator[Site]:
    loop = uvloop.new_event_loop()
    made = Site(loop, Server())
    yield made
    made.server.may_answer.set()
    made.pipe.close()
    loop.close()
    switch._here.loop = None


def test_what_is_asked_in_one_turn_goes_together_and_each_gets_its_own(site: Site) -> None:
    assert site.ask_all([("ECHO", "warm")]) == [["warm"]]
    calls = [[("ECHO", f"{number}"), ("ECHO", f"and {number}")] for number in range(50)]
    assert site.ask_all(*calls) == [[f"{number}", f"and {number}"] for number in range(50)]
    assert len(site.server.writes) == 2
    assert len(site.server.connections) == 1


def test_redis_py_makes_of_an_answer_what_its_own_methods_return(site: Site) -> None:
    assert site.ask_all([("UPPER", "a"), ("EVALSHA", "b")]) == [["A", "b"]]


def test_a_refusal_stands_where_it_belongs_and_the_answers_after_it_too(site: Site) -> None:
    [answers], others = site.ask_all([("ECHO", "refuse")], [("ECHO", "a"), ("ECHO", "b")])
    assert isinstance(answers, NoScriptError)
    assert others == ["a", "b"]


def test_an_answer_that_cannot_be_read_fails_one_call_alone(site: Site) -> None:
    before, failed, after = site.ask_all(
        [("ECHO", "a")], [("ECHO", "x"), ("ECHO", "unreadable"), ("ECHO", "y")], [("ECHO", "b")]
    )
    assert isinstance(failed, UnicodeDecodeError)
    assert (before, after) == (["a"], ["b"])


def test_what_cannot_be_packed_harms_nobody_else(site: Site) -> None:
    good, bad = site.ask_all([("ECHO", "a")], [("ECHO", object())])  # type: ignore[arg-type]
    assert good == ["a"]
    assert isinstance(bad, TypeError | DataError)


def test_a_lost_answer_is_asked_for_again_on_another_connection(site: Site) -> None:
    heard: list[str] = []

    def once(command: list[str]) -> bytes | None:
        heard.append(command[-1])
        return None if heard.count("b") == 1 and command[-1] == "b" else echo(command)

    site.server.answers = once
    assert site.ask_all([("ECHO", "a")], [("ECHO", "b"), ("ECHO", "c")]) == [["a"], ["b", "c"]]
    assert heard == ["a", "b", "b", "c"]
    assert len(site.server.connections) == 2


def test_behind_what_is_no_protocol_everything_is_asked_again(site: Site) -> None:
    heard: list[str] = []

    def once(command: list[str]) -> bytes | None:
        heard.append(command[-1])
        return b"?rubbish\r\n" if len(heard) == 2 else echo(command)

    site.server.answers = once
    assert site.ask_all([("ECHO", "a")], [("ECHO", "b")], [("ECHO", "c")]) == [["a"], ["b"], ["c"]]
    assert len(site.server.connections) == 2


def test_when_no_answer_comes_all_who_wait_are_told_and_the_next_call_works(site: Site) -> None:
    site.server.may_answer.clear()
    failures = site.ask_all([("ECHO", "a")], [("ECHO", "b")])
    assert [type(failure) for failure in failures] == [TimedOut, TimedOut]
    assert len(site.server.connections) == 3
    site.server.may_answer.set()
    assert site.ask_all([("ECHO", "c")]) == [["c"]]


def test_who_cannot_connect_tries_again_and_a_server_that_is_not_certified_is_told_at_once(site: Site) -> None:
    site.server.refusals = [Disconnected("away"), Disconnected("away")]
    assert site.ask_all([("ECHO", "a")]) == [["a"]]
    site.server.connections[-1].mark_for_reconnect()
    site.server.refusals = [NotCertified()]
    [failure] = site.ask_all([("ECHO", "b")])
    assert isinstance(failure, NotCertified)
    assert site.ask_all([("ECHO", "c")]) == [["c"]]


@pytest.mark.parametrize("how", ["readonly", "marked"])
def test_a_server_that_was_demoted_or_replaced_is_left_before_the_next_command(site: Site, how: str) -> None:
    [[answer], others] = site.ask_all([("ECHO", "readonly" if how == "readonly" else "a")], [("ECHO", "b")])
    assert isinstance(answer, ReadOnlyError) == (how == "readonly")
    assert others == ["b"]
    if how == "marked":
        site.pipe.mark()
    assert site.ask_all([("ECHO", "c")]) == [["c"]]
    assert len(site.server.connections) == 2


def test_a_thread_that_can_not_be_started_fails_the_call_and_not_those_after_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, refused = threading.Thread.start, list[str]()

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "redis" and len(refused) <= RETRIES:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    [error] = site.ask_all([("ECHO", "a")])
    assert "can't start new thread" in str(error)
    assert site.ask_all([("ECHO", "b")]) == [["b"]]


class Dying(Server):
    """Its first connection answers one call and dies with another's command unread, as by CLIENT KILL."""

    def __init__(self, family: str) -> None:
        super().__init__()
        self.family = family
        self.connection_kwargs = {"retry": Retry(NoBackoff(), RETRIES), "socket_timeout": 60.0}

    def connection_class(self, **_: Any) -> Connection:
        self.connections.append(Reset(self) if self.family == "tcp" else Connection(self))
        return self.connections[-1]

    def serve(self, client: socket.socket) -> None:
        if len(self.connections) > 1:
            super().serve(client)
            return
        client.recv(1_000)
        assert self.may_answer.wait(10)
        client.sendall(b"$1\r\na\r\n")
        client.close()
        self.is_dead.set()

    is_dead = threading.Event()


class Reset(Connection):
    def connect(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self._sock = socket.create_connection(listener.getsockname())
            theirs, _ = listener.accept()
        threading.Thread(target=self.server.serve, args=(theirs,), daemon=True).start()


@pytest.mark.parametrize("family", ["unix", "tcp"])
@pytest.mark.parametrize("size", [1, 10_000])
def test_a_connection_that_is_reset_behind_an_answer_is_made_anew_at_once(family: str, size: int) -> None:
    """uvloop tells of a socket's error once. Whoever doesn't read to the end then finds out when the time is up."""
    loop, server = uvloop.new_event_loop(), Dying(family)
    server.is_dead.clear()
    server.may_answer.clear()
    site, found = Site(loop, server), list[list[str]]()

    def one(word: str) -> None:
        found.append(site.pipe.ask([("ECHO", word)]))
        if word == "b":
            # Both an answer and the reset were there when the loop looked.
            site.greenlets.asyncio.call_later(0.05, site.greenlets.start, one, "c" * size)
        if word[0] == "c":
            loop.stop()

    def stand_still() -> None:
        server.may_answer.set()
        assert server.is_dead.wait(10)

    def second() -> None:
        site.greenlets.start(one, "b")
        # After it was sent.
        loop.call_later(0.05, stand_still)

    loop.call_soon(site.greenlets.start, one, "a")
    loop.call_later(0.1, second)
    give_up = loop.call_later(20, loop.stop)
    loop.run_forever()
    give_up.cancel()
    site.pipe.close()
    loop.close()
    switch._here.loop = None
    assert found == [["a"], ["b"], ["c" * size]]


def test_a_long_call_goes_in_parts_and_lets_others_in_between(site: Site) -> None:
    assert site.ask_all([("ECHO", "warm")]) == [["warm"]]
    # A third each, and what belongs to a command.
    many = [("ECHO", f"{number}" * (MAX_BYTES_TOGETHER // 3 - 40)) for number in range(7)]
    assert site.ask_all(many, [("ECHO", "short")]) == [[word for _, word in many], ["short"]]
    sent = [command[-1] for write in site.server.writes for command in write]
    assert sent.index("short") == 1 + 3


def test_more_than_the_kernel_takes_at_once_arrives_whole(site: Site) -> None:
    large = "x" * 3_000_000
    assert site.ask_all([("ECHO", large)], [("ECHO", "b")]) == [[large], ["b"]]
