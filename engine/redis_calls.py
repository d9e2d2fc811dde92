"""What is asked of Redis by commands that may be sent twice: on an event loop through its one connection, else on one of the pool."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from hiredis import pack_command
from redis import Redis
from redis.exceptions import ReadOnlyError, ResponseError

from engine import switch
from engine.pipe import AS_THEY_ARE, ONCE, Command, Pipe
from engine.switch import Loop


class RedisCalls:
    """Not shared between processes."""

    def __init__(self, redis: Redis) -> None:
        self._redis: Any = redis
        self._pipe_made: tuple[Loop, Pipe] | None = None

    def ask(self, *commands: Command) -> list[Any]:
        """Send the commands in this order.

        Returns: an answer for each. A ResponseError stands in its place and isn't raised.

        Raises:
            RedisError: no answer, after as many tries as the client makes.
        """
        if not commands:
            return []
        if loop := switch.current():
            return self._pipe(loop).ask(commands)
        pool = self._redis.connection_pool
        connection = pool.get_connection()
        try:
            return self._exchange(connection, commands)
        finally:
            pool.release(connection)

    def reconnect(self) -> None:
        """Reopen every connection before its next command, so that none stays with a server that was replaced. From any thread."""
        pool = self._redis.connection_pool
        pool.update_active_connections_for_reconnect()
        pool.disconnect_free_connections()
        if made := self._pipe_made:
            loop, pipe = made
            with suppress(RuntimeError):
                loop.asyncio.call_soon_threadsafe(pipe.mark)

    @property
    def turn(self) -> int:
        """Changes whenever something is sent over the loop's connection."""
        return self._pipe_made[1].turn if self._pipe_made else 0

    def oldest_s(self) -> float:
        """For how long the loop's oldest call has no answer yet."""
        return self._pipe_made[1].oldest_s() if self._pipe_made else 0.0

    def _pipe(self, loop: Loop) -> Pipe:
        if self._pipe_made is None or self._pipe_made[0] is not loop:
            self._pipe_made = loop, Pipe(self._redis, loop)
        return self._pipe_made[1]

    def _exchange(self, connection: Any, commands: tuple[Command, ...]) -> list[Any]:
        packed = b"".join([pack_command(command) for command in commands])  # type: ignore[arg-type]

        def once() -> list[Any]:
            if connection.should_reconnect():
                connection.disconnect()
            connection.send_packed_command([packed])
            return [self._answer(connection, command) for command in commands]

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
            if command[0] in AS_THEY_ARE:
                return connection.read_response()
            return self._redis.parse_response(connection, command[0])
        except ResponseError as refusal:
            return refusal
