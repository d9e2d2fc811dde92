"""Requests as they come in, gathered before they get a thread: so a slow client holds up nobody but itself."""

from __future__ import annotations

import errno
import re
import select
import socket
import time
from collections.abc import Iterable

from gunicorn_h1c import IncompleteError, ParseError, parse_request

SILENCE_SECONDS = 5.0
"""How long a client may send nothing in the midst of a request, take nothing of an answer, or wait before the first byte."""

REQUEST_SECONDS = 20.0
"""How long a client may take to send a whole request; and as long again to take its answer."""

MOST_GATHERED_BYTES = 128 * 1024
"""Of a request that has no thread yet. All bodies but large batches fit in beside their head."""

RECEIVED_BYTES = 65_536

ONLY_ONCE = {b"authorization", b"idempotency-key", b"stockade-signature", b"stockade-user"}
"""Headers that say who asks and what for. gunicorn would make one of two, with a comma, and a proxy may have looked at the other."""

BARE_NEWLINE = re.compile(rb"(?<!\r)\n")

SMALL = (b"/v1/", b"/healthz", b"/readyz", b"/metrics", b"/openapi.json", b"/console")
"""Paths whose answers the kernel takes off our hands at once, or that aren't for anybody.

Not those of the large ones: these could be written in other ways, as `/%64ocs/` or `http://host/docs/`.
"""

WATCHED = (b"/healthz", b"/readyz", b"/metrics")
"""Paths with threads of their own, so that they are answered however busy a worker is, and whatever the others wait for.

A balancer that takes out a node for being busy gives its load to the others, and they are next. And who watches must see it.
"""

MOST_DIGITS = 15
"""Of a length that is looked at. It could have zeros in front, as many as it likes."""


class Coming:
    """One request, as far as it is there. `streams`: whoever serves it has to wait for its client. `watches`: it is for one of `WATCHED`."""

    __slots__ = ("_wanted_bytes", "began_s", "data", "flaw", "last_s", "streams", "watches")

    def __init__(self) -> None:
        self.data = b""
        self.streams = self.watches = False
        self.flaw = ""
        self.began_s = self.last_s = 0.0
        self._wanted_bytes = 0

    def add(self, data: bytes) -> bool:
        """Take what came. Returns: whether it's time for a thread: all is there, or can't be gathered, or makes no sense."""
        seen, self.data = len(self.data), self.data + data
        self.last_s = time.monotonic()
        if not seen:
            self.began_s = self.last_s
        if not self._wanted_bytes:
            try:
                head = parse_request(self.data, last_len=seen, limit_request_line=MOST_GATHERED_BYTES)
            except IncompleteError:
                if len(self.data) > MOST_GATHERED_BYTES:
                    self.flaw = "The head is too large."
                return bool(self.flaw)
            except ParseError:
                return True  # gunicorn says what is wrong.
            self._judge(head["path"], head["headers"], head["consumed"])
        return self.streams or len(self.data) >= self._wanted_bytes

    def is_too_slow(self, now_s: float) -> bool:
        return now_s - self.last_s > SILENCE_SECONDS or now_s - self.began_s > REQUEST_SECONDS

    def _judge(self, path: bytes, headers: Iterable[tuple[bytes, bytes]], head_bytes: int) -> None:
        """Look how long the request will be. Where that can't be known, somebody has to read it."""
        length, once = 0, set()
        for given, value in headers:
            name = given.lower()
            if name == b"content-length":
                # gunicorn refuses what is no number.
                length = int(value) if value.isdigit() and len(value) <= MOST_DIGITS else 0
                self.streams = self.streams or len(value) > MOST_DIGITS
            elif name in (b"transfer-encoding", b"expect"):
                self.streams = True
            elif name in ONLY_ONCE:
                if name in once:
                    self.flaw = f"Duplicate header: {name.decode().title()}."
                once.add(name)
        if BARE_NEWLINE.search(self.data, 0, head_bytes):
            self.flaw = "A line of the head ends without CR."
        self._wanted_bytes = head_bytes + length
        self.streams = self.streams or self._wanted_bytes > MOST_GATHERED_BYTES or not path.startswith(SMALL)
        self.watches = not self.streams and path.partition(b"?")[0] in WATCHED


class PatientSocket(socket.socket):
    """A client that keeps a thread waiting for too long is as one that is gone."""

    __slots__ = ("_sends", "_until_s")

    def setblocking(self, flag: bool) -> None:
        """gunicorn says True when it begins to read a request."""
        self._sends, self._until_s = False, time.monotonic() + REQUEST_SECONDS
        self.settimeout(SILENCE_SECONDS if flag else 0.0)

    def recv(self, size: int, flags: int = 0) -> bytes:
        try:
            self._limit()
            return super().recv(size, flags)
        except TimeoutError as error:
            raise too_slow() from error

    def sendall(self, data: bytes, flags: int = 0) -> None:  # type: ignore[override]
        if not self._sends:
            self._sends, self._until_s = True, time.monotonic() + REQUEST_SECONDS
        try:
            self._limit()
            super().sendall(data, flags)
        except TimeoutError as error:
            raise too_slow() from error

    def has_room(self) -> bool:
        """Whether the client has taken enough of earlier answers for the kernel to take another."""
        poll = select.poll()
        poll.register(self, select.POLLOUT)
        return bool(poll.poll(0))

    def _limit(self) -> None:
        if self.gettimeout():
            left_s = self._until_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            self.settimeout(min(SILENCE_SECONDS, left_s))


def too_slow() -> ConnectionResetError:
    """What gunicorn takes calmly. A time-out it would log with a traceback."""
    return ConnectionResetError(errno.ECONNRESET, "The client is too slow")
