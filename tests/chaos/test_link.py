"""The wire does what its modes say, so that a fault that is named did happen."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.chaos.link import LONGEST_DELAY_SECONDS, Link, Mode
from tests.waiting import wait_until

SOON_SECONDS = 0.3


class Echo:
    """Says back what it was told, and keeps it."""

    def __init__(self, path: Path) -> None:
        self.heard: list[bytes] = []
        self.left = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=[connection], daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            while word := connection.recv(100):
                self.heard.append(word)
                connection.sendall(word)
            self.left.set()


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[Echo]:
    echo = Echo(tmp_path / "far.sock")
    yield echo
    echo.close()


@pytest.fixture
def link(echo: Echo, tmp_path: Path) -> Iterator[Link]:
    link = Link(tmp_path / "near.sock", tmp_path / "far.sock", seed=1)
    yield link
    link.stop()


def connected(link: Link) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    connection.connect(str(link.socket))
    return connection


def asked(connection: socket.socket, word: bytes) -> bytes:
    """The answer; nothing where the connection ended instead."""
    try:
        connection.sendall(word)
        return connection.recv(100)
    except OSError:
        return b""


@pytest.mark.parametrize("mode", [Mode.GOOD, Mode.DELAYING])
def test_everything_arrives(link: Link, mode: Mode) -> None:
    link.turn(mode)
    with connected(link) as connection:
        words = [b"one", b"two", b"three"]
        assert [asked(connection, word) for word in words] == words
    assert LONGEST_DELAY_SECONDS > 0


def test_an_answer_is_lost_after_what_was_asked_has_arrived(link: Link, echo: Echo) -> None:
    link.turn(Mode.LOSING_REPLIES)
    words = [b"%d" % number for number in range(1_000)]
    for word in words:
        with connected(link) as connection:
            if not asked(connection, word):
                assert echo.heard[-1] == word
                return
    raise AssertionError("no answer was lost")


def test_a_silent_wire_says_nothing_and_goes_on_when_it_is_good_again(link: Link, echo: Echo) -> None:
    with connected(link) as connection:
        assert asked(connection, b"before") == b"before"
        link.turn(Mode.HALF_OPEN)
        connection.settimeout(SOON_SECONDS)
        assert asked(connection, b"lost?") == b""
        link.turn(Mode.GOOD)
        connection.settimeout(10)
        assert connection.recv(100) == b"lost?"
    assert echo.heard == [b"before", b"lost?"]


def test_at_the_other_end_of_a_silent_wire_nobody_learns_that_this_one_hung_up(link: Link, echo: Echo) -> None:
    with connected(link) as connection:
        assert asked(connection, b"before") == b"before"
        link.turn(Mode.HALF_OPEN)
    assert not echo.left.wait(SOON_SECONDS)
    link.turn(Mode.GOOD)
    assert echo.left.wait(10)


def test_a_cut_wire_ends_every_connection_and_each_new_one(link: Link) -> None:
    with connected(link) as connection, connected(link) as other:
        assert asked(connection, b"before") == asked(other, b"before")
        link.turn(Mode.CUT)
        assert asked(connection, b"after") == asked(other, b"after") == b""
    with connected(link) as later:
        assert asked(later, b"after") == b""
    link.turn(Mode.GOOD)

    def again() -> bool:
        with connected(link) as connection:
            return asked(connection, b"again") == b"again"

    wait_until(again)
