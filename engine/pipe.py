"""One connection to Redis for an event loop: what its greenlets ask in one turn goes in one write, and each gets its own answers.

redis-py makes the connection, in a thread, with all that belongs to it: address, login, TLS, the look whether the server is certified.
From then on the loop reads and writes its socket.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from greenlet import getcurrent, greenlet
from hiredis import PushNotification, Reader, pack_command
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import InvalidResponse, ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as TimedOut
from redis.retry import Retry

from engine.switch import Loop

Command = tuple[str | bytes | int, ...]

AS_THEY_ARE = ("EVALSHA", "EVAL", "SET")
"""Commands whose replies are taken as they are. Of the others redis-py makes what its own methods return."""

ONCE = Retry(NoBackoff(), 0)

MAX_BYTES_TOGETHER = 24 * 1024
"""Of one call that go out at once, less than a millisecond's work for Redis. A longer one goes in parts, so that nobody waits for all of it."""

MAX_BYTES_UNSENT = 8 * 1024
"""Of all calls of a turn. More is sent before its end."""

RECEIVED_BYTES = 262_144
AGAIN = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
UNREACHABLE = (Disconnected, TimedOut, OSError)


class _Call:
    """Some commands of one greenlet, packed, and what came back."""

    __slots__ = ("answers", "asked_s", "count", "packed", "sent_s", "waits")

    def __init__(self, packed: Sequence[bytes]) -> None:
        self.packed = b"".join(packed)
        self.count = len(packed)
        self.answers: list[Any] = []
        self.asked_s, self.sent_s = time.monotonic(), 0.0
        self.waits: greenlet = getcurrent()


class Pipe:
    """Takes only commands that may be sent twice: they are, when an answer gets lost. Belongs to one loop's thread."""

    def __init__(self, redis: Redis, loop: Loop) -> None:
        pool: Any = redis.connection_pool
        self._pool = pool
        self._callbacks: Any = redis.response_callbacks
        self._loop = loop
        self._retry = pool.connection_kwargs["retry"]
        self._timeout_s: float = pool.connection_kwargs["socket_timeout"]
        self._connection: Any = None
        self._socket: Any = None
        self._reader: Any = None
        self._unsent: deque[_Call] = deque()
        self._sent: deque[_Call] = deque()
        self._left = b""
        self._flushes = self._connects = self._watches = False
        self._failures = 0
        self._unsent_bytes = 0
        self.turn = 0

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Send the commands in this order. Other calls may come in between.

        Returns: an answer for each. A ResponseError stands in its place and isn't raised.

        Raises:
            RedisError: no answer, after as many tries as the client makes.
        """
        # Here, so that what can't be packed harms nobody else.
        packed = [pack_command(command) for command in commands]  # type: ignore[arg-type]
        answers = [answer for part in _parts(packed) for answer in self._part(part)]
        for at, answer in enumerate(answers):
            if isinstance(answer, Exception):
                if not isinstance(answer, ResponseError):
                    raise answer
            elif (name := commands[at][0]) not in AS_THEY_ARE and (read := self._callbacks.get(name)):
                answers[at] = read(answer)
        return answers

    def oldest_s(self) -> float:
        """For how long the call that has waited longest has no answer."""
        call = self._sent[0] if self._sent else self._unsent[0] if self._unsent else None
        return time.monotonic() - call.asked_s if call else 0.0

    def flush_soon(self) -> None:
        """Send what waits at the end of this turn, and connect anew if the connection was marked for that."""
        if not self._flushes:
            self._flushes = True
            self._loop.asyncio.call_soon(self._flush)

    def close(self) -> None:
        if self._connection is not None:
            self._disconnect()

    def _part(self, packed: Sequence[bytes]) -> list[Any]:
        call = _Call(packed)
        self._unsent.append(call)
        self._unsent_bytes += len(call.packed)
        if self._unsent_bytes > MAX_BYTES_UNSENT and self._is_ready():
            # Redis works while others here prepare what they want of it.
            self._send()
        else:
            self.flush_soon()
        failure = self._loop.wait()
        if failure is None:
            return call.answers
        try:
            # Everybody who waits is told the same error, which has this frame in its traceback.
            raise failure.with_traceback(None)
        finally:
            del failure

    def _flush(self) -> None:
        self._flushes = False
        if self._connects:
            return
        if self._connection is not None and self._connection.should_reconnect():
            # Marked: its server was demoted or replaced. Whoever is under way gets an answer first.
            if self._sent:
                return
            self._disconnect()
        if self._connection is None:
            if self._unsent:
                self._connect()
            return
        if self._unsent:
            self._send()

    def _is_ready(self) -> bool:
        return self._connection is not None and not self._connection.should_reconnect()

    def _send(self) -> None:
        now_s = time.monotonic()
        for call in self._unsent:
            call.sent_s = now_s
        self.turn += 1
        data = self._left + b"".join([call.packed for call in self._unsent])
        self._sent += self._unsent
        self._unsent.clear()
        self._unsent_bytes = 0
        self._watch()
        self._write(data)

    def _write(self, data: bytes) -> None:
        """From whatever greenlet; so a connection that is found to be lost is given up by the loop."""
        try:
            self._left = data
            self._left = data[self._socket.send(data) :]
        except AGAIN:
            pass
        except OSError as error:
            self._loop.asyncio.call_soon(self._lost_if, self._connection, error)
            return
        if self._left:
            try:
                self._loop.asyncio.add_writer(self._socket, self._writable)
            except RuntimeError as error:
                # The loop watches a socket no more that had an error.
                self._loop.asyncio.call_soon(self._lost_if, self._connection, error)

    def _lost_if(self, connection: Any, error: Exception) -> None:
        if self._connection is connection:
            self._lost(Disconnected(str(error)))

    def _writable(self) -> None:
        try:
            done = self._socket.send(self._left)
        except AGAIN:
            return
        except OSError as error:
            self._lost(Disconnected(str(error)))
            return
        self._left = self._left[done:]
        if not self._left:
            self._loop.asyncio.remove_writer(self._socket)

    def _readable(self) -> None:
        connection, ends = self._connection, False
        while self._connection is connection and connection is not None:
            try:
                data = self._socket.recv(RECEIVED_BYTES)
            except AGAIN:
                if not ends:
                    return
                data = b""
            except OSError as error:
                self._lost(Disconnected(str(error)))
                return
            if not data:
                self._lost(Disconnected("Redis has closed the connection"))
                return
            # uvloop tells of a socket with an error once, and then watches it no more: what it still has is read now.
            ends = ends or bool(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
            self._reader.feed(data)
            self._take()
            # What TLS has read already no poller tells of.
            if not ends and not (isinstance(self._socket, ssl.SSLSocket) and self._socket.pending()):
                return

    def _take(self) -> None:
        """Hand out the answers that are there."""
        reader, sent, gone = self._reader, self._sent, self._connection
        while sent and self._connection is gone:
            try:
                answer = reader.gets()
            except UnicodeDecodeError as unreadable:
                answer = unreadable
            except InvalidResponse as error:
                # Nobody can tell where the next answer begins.
                self._lost(Disconnected(str(error)))
                return
            if answer is False or isinstance(answer, PushNotification):
                if answer is False:
                    return
                continue
            if isinstance(answer, Disconnected):
                self._lost(answer)
                return
            call = sent[0]
            call.answers.append(answer)
            if isinstance(answer, ReadOnlyError):
                # A master that has become a replica is connected to anew, which certifies it anew.
                self._connection.mark_for_reconnect()
            if len(call.answers) == call.count:
                sent.popleft()
                self._failures = 0
                call.waits.switch(None)
        if not sent and self._connection is gone and self._connection.should_reconnect():
            self.flush_soon()

    def _watch(self) -> None:
        """Look, as long as something is under way, whether it takes too long."""
        if not self._watches:
            self._watches = True
            self._loop.asyncio.call_later(self._timeout_s, self._look)

    def _look(self) -> None:
        self._watches = False
        if not self._sent:
            return
        left_s = self._timeout_s - (time.monotonic() - self._sent[0].sent_s)
        if left_s <= 0:
            self._lost(TimedOut("Redis doesn't answer in time"))
        else:
            self._watches = True
            self._loop.asyncio.call_later(left_s, self._look)

    def _connect(self) -> None:
        self._connects = True
        try:
            threading.Thread(target=self._connect_in_thread, name="redis", daemon=True).start()
        except RuntimeError as error:
            self._connected(None, Disconnected(f"No thread to connect to Redis: {error}"))

    def _connect_in_thread(self) -> None:
        connection, failure = None, None
        try:
            # Not one of the pool, which would count it, and give no more after a hundred.
            connection = self._pool.connection_class(**self._pool.connection_kwargs)
            connection.retry = ONCE
            connection.connect()
        except Exception as error:
            failure = error
        self._loop.asyncio.call_soon_threadsafe(self._connected, connection, failure)

    def _connected(self, connection: Any, failure: Exception | None) -> None:
        self._connects = False
        if failure is not None:
            self._failed(failure)
            return
        self._connection, self._socket = connection, connection._sock
        encoder = connection.encoder
        self._reader = Reader(
            protocolError=InvalidResponse,
            replyError=connection._parser.parse_error,
            encoding=encoder.encoding if encoder.decode_responses else None,
            errors=encoder.encoding_errors,
        )
        self._socket.setblocking(False)
        self._loop.asyncio.add_reader(self._socket, self._readable)
        self._flush()

    def mark(self) -> None:
        """Connect anew before the next command."""
        if self._connection is not None:
            self._connection.mark_for_reconnect()
            self.flush_soon()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        self._loop.asyncio.remove_reader(self._socket)
        self._loop.asyncio.remove_writer(self._socket)
        self._socket, self._left = None, b""
        connection.disconnect()

    def _lost(self, error: Exception) -> None:
        """What was sent is sent again, on another connection."""
        self._disconnect()
        for call in self._sent:
            call.answers.clear()
        self._unsent.extendleft(reversed(self._sent))
        self._sent.clear()
        self._failed(error)

    def _failed(self, error: Exception) -> None:
        """Try again, or tell all who wait: who came while Redis gave no answer would only wait as long for the same."""
        self._failures += 1
        if isinstance(error, UNREACHABLE) and self._failures <= self._retry._retries:
            pause_s = self._retry._backoff.compute(self._failures)
            if self._unsent:
                self._flushes = True
                self._loop.asyncio.call_later(pause_s, self._flush)
            return
        self._failures = 0
        calls, self._unsent_bytes = list(self._unsent), 0
        self._unsent.clear()
        for call in calls:
            call.waits.switch(error)


def _parts(packed: list[bytes]) -> Iterator[list[bytes]]:
    """One after another, each of `MAX_BYTES_TOGETHER` or a single command."""
    first = size = 0
    for at, command in enumerate(packed):
        size += len(command)
        if size > MAX_BYTES_TOGETHER and at > first:
            yield packed[first:at]
            first, size = at, len(command)
    yield packed[first:]
