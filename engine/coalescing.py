"""One connection to Redis for all threads of a process: what they ask at the same time goes in one round trip.

Who asks while nobody is under way leads: sends what has gathered, reads the answers and hands them out; the first of those
who came meanwhile leads next. A lone call waits for nobody, and the busier a process is, the fewer system calls a call costs.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import islice
from typing import Any

from hiredis import pack_command
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import ReadOnlyError, RedisError, ResponseError
from redis.retry import Retry

Command = tuple[str | bytes | int, ...]

SCRIPTS = ("EVALSHA", "EVAL")
"""Commands whose replies redis-py leaves as they are."""


ONCE = Retry(NoBackoff(), 0)

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
        failure: Exception | None = Disconnected("The thread that asked for all was interrupted")
        try:
            if self._connection is None:
                self._connection = self._redis.connection_pool.get_connection()
            self._answer_all(self._connection, calls)
            failure = None
        except Exception as error:
            failure = error
        finally:
            with self._mutex:
                if failure:
                    # Who came while Redis gave no answer would only wait as long for the same.
                    calls, self._gathered = calls + self._gathered, []
                following = self._gathered[:1]
                self._led = bool(following)
            for call in calls:
                if call.answers is None and call.failure is None:
                    call.failure = failure
            for call in following + calls:
                call.turn.release()

    def _answer_all(self, connection: Any, calls: Sequence[_Call]) -> None:
        """Raises: RedisError: nobody has an answer."""
        try:
            answers = iter(self._exchange(connection, calls))
        except RedisError:
            raise
        except Exception as error:
            # An answer that can't be read, say: it is of one call, and those beside it must not suffer.
            if len(calls) == 1:
                calls[0].failure = error
            else:
                for call in calls:
                    self._answer_all(connection, [call])
        else:
            for call in calls:
                call.answers = list(islice(answers, len(call.commands)))

    def _exchange(self, connection: Any, calls: Sequence[_Call]) -> list[Any]:
        packed = [call.packed for call in calls]

        def once() -> list[Any]:
            if connection.should_reconnect():
                # Marked by `Store.reconnect`: its server was demoted or replaced.
                connection.disconnect()
            connection.send_packed_command([b"".join(packed)])
            return [self._answer(connection, command) for call in calls for command in call.commands]

        # To connect anew is part of a try, and would otherwise be tried as often itself.
        retry, connection.retry = connection.retry, ONCE
        try:
            answers: list[Any] = retry.call_with_retry(once, lambda error: connection.disconnect())
        except BaseException:
            # Answers that nobody has read must not be taken for those of the next call.
            connection.disconnect()
            raise
        finally:
            connection.retry = retry
        if any(isinstance(answer, ReadOnlyError) for answer in answers):
            # A master that has become a replica is connected to anew, which certifies it anew.
            connection.disconnect()
        return answers

    def _answer(self, connection: Any, command: Command) -> Any:
        try:
            if command[0] in SCRIPTS:
                return connection.read_response()
            return self._redis.parse_response(connection, command[0])
        except ResponseError as refusal:
            return refusal
