"""One connection to Redis for all threads of a process: what they ask at the same time goes in one round trip.

Who asks while nobody is under way leads: sends what has gathered, reads the answers and hands them out; the first of those
who came meanwhile leads next. A lone call waits for nobody, and the busier a process is, the fewer system calls a call costs.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from hiredis import pack_command
from redis import Redis
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import ResponseError

Command = tuple[str | int, ...]

SCRIPTS = ("EVALSHA", "EVAL")
"""Commands whose replies redis-py leaves as they are."""


MOST_SHARED = 32
"""Commands of a call that travels with others. A longer one takes a connection for itself, so that nobody waits for it."""


class _Call:
    """What one thread asks. `turn` is released when it is answered, or has to lead."""

    __slots__ = ("answers", "commands", "failure", "packed", "turn")

    def __init__(self, commands: Sequence[Command]) -> None:
        self.commands = commands
        # Here, so that what can't be packed harms nobody else.
        self.packed = b"".join([pack_command(command) for command in commands])  # type: ignore[arg-type]
        self.answers: list[Any] | None = None
        self.failure: Exception | None = None
        self.turn = threading.Lock()
        self.turn.acquire()


class Coalescer:
    """Takes only commands that may be sent twice: they are, when an answer gets lost. Not shared between processes."""

    def __init__(self, redis: Redis) -> None:
        self._redis: Any = redis
        self._connection: Any = None
        self._mutex = threading.Lock()
        self._gathered: list[_Call] = []
        self._led = False

    def ask(self, *commands: Command) -> list[Any]:
        """Send the commands, in this order and with nothing in between that another thread asks.

        Returns: an answer for each. A ResponseError stands in its place and isn't raised.

        Raises:
            RedisError: no answer, after as many tries as the client makes.
        """
        if not commands:
            return []
        call = _Call(commands)
        if len(commands) > MOST_SHARED:
            return self._alone(call)
        with self._mutex:
            self._gathered.append(call)
            follows, self._led = self._led, True
        if follows:
            call.turn.acquire()
        if call.answers is None and call.failure is None:
            self._lead()
        if call.failure is not None:
            raise call.failure
        assert call.answers is not None
        return call.answers

    def _alone(self, call: _Call) -> list[Any]:
        pool = self._redis.connection_pool
        connection = pool.get_connection()
        try:
            return self._exchange(connection, [call])
        finally:
            pool.release(connection)

    def _lead(self) -> None:
        """Answer all that has gathered, this thread's own call among it, and let the next one lead."""
        with self._mutex:
            calls, self._gathered = self._gathered, []
        failure: Exception = Disconnected("The thread that asked for all was interrupted")
        answers: list[Any] = []
        try:
            if self._connection is None:
                self._connection = self._redis.connection_pool.get_connection()
            answers = self._exchange(self._connection, calls)
        except Exception as error:
            failure = error
        finally:
            at = 0
            for call in calls:
                call.answers, call.failure = answers[at : at + len(call.commands)], None if answers else failure
                at += len(call.commands)
            with self._mutex:
                following = self._gathered[:1]
                self._led = bool(following)
            for call in following + calls:
                call.turn.release()

    def _exchange(self, connection: Any, calls: Sequence[_Call]) -> list[Any]:
        packed = [call.packed for call in calls]

        def once() -> list[Any]:
            connection.send_packed_command([b"".join(packed)])
            return [self._answer(connection, command) for call in calls for command in call.commands]

        try:
            answers: list[Any] = connection.retry.call_with_retry(once, lambda error: connection.disconnect())
        except BaseException:
            # Answers that nobody has read must not be taken for those of the next call.
            connection.disconnect()
            raise
        return answers

    def _answer(self, connection: Any, command: Command) -> Any:
        try:
            if command[0] in SCRIPTS:
                return connection.read_response()
            return self._redis.parse_response(connection, command[0])
        except ResponseError as refusal:
            return refusal
