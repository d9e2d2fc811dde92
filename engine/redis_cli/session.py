"""One connection to the server: commands go out, replies are printed. It reconnects when the next command finds it lost."""

from __future__ import annotations

import ssl
import sys
import time
from dataclasses import replace
from typing import BinaryIO

from redis.connection import AbstractConnection
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeout

from engine.redis_cli import replies
from engine.redis_cli.formats import formatted, raw
from engine.redis_cli.options import Options, Protocol, Stop
from engine.redis_cli.replies import Kind, Lost, Reply

LISTENING = ("subscribe", "psubscribe", "ssubscribe")


class Session:
    """`interactive`: commands follow each other, so an error doesn't end it."""

    def __init__(self, options: Options, *, interactive: bool) -> None:
        self.options = options
        self.interactive = interactive
        self.in_transaction = False
        self._database = 0
        self._wanted_database = options.address.database
        self._database_before_multi = 0
        self._shuts_down = False
        self._connection: AbstractConnection | None = None
        self._stream: BinaryIO | None = None

    @property
    def prompt(self) -> str:
        if self._connection is None:
            return "not connected> "
        address = self.options.address
        database = f"[{self._database}]" if self._database else ""
        transaction = "(TX)" if self.in_transaction else ""
        return f"{f'redis {address}' if address.path else address}{database}{transaction}> "

    def connect(self) -> bool:
        """Connect and log in. What goes wrong is printed; a refused login leaves a connection that may log in later."""
        self.close()
        connection = self.options.address.connection()
        try:
            connection.connect()
        except RedisError as error:
            _complain(f"Could not connect to Redis at {self.options.address}: {_reason(error)}\n")
            return False
        socket = connection._get_socket()
        assert socket
        # redis-py's own parser never starts, so it takes nothing out of this stream.
        self._connection, self._stream = connection, socket.makefile("rb")
        try:
            return self._log_in() and self._select() and self._choose_protocol()
        except Lost as error:
            self._lose(error)
            return False

    def close(self) -> None:
        if self._stream:
            self._stream.close()
        if self._connection:
            self._connection.disconnect()
        self._connection = self._stream = None
        self._database = 0
        self.in_transaction = False

    def move(self, host: str, port: int) -> None:
        """Go on at another server."""
        address = replace(self.options.address, host=host, port=port)
        self.options = replace(self.options, address=address)
        self.connect()

    def issue(self, words: list[bytes], repeat: int) -> bool:
        """Send a command `repeat` times, for ever if that is negative, and print the replies. False: the connection failed.

        Raises:
            Stop: the command failed and that ends the program (`-e`), or the connection did where nothing follows.
        """
        if self._connection is None and not self.connect():
            return False
        try:
            while repeat:
                repeat -= 1 if repeat > 0 else 0
                self._call(words)
                if self.options.interval_s:
                    time.sleep(self.options.interval_s)
        except Lost as error:
            if self._shuts_down:
                self.close()
                return True
            self._lose(error)
            if not self.interactive:
                raise Stop("") from error
            return False
        return True

    def _call(self, words: list[bytes]) -> None:
        name = words[0].decode(errors="replace").lower()
        if name in ("sync", "psync"):
            raise Stop(f"redis-cli {name}: only the installed program shows a replica's stream\n")
        self._shuts_down = self._shuts_down or name == "shutdown"
        as_text = prints_as_text(words)
        self._send(words)
        if name == "monitor":
            while self._print(self._receive(), as_text).kind is not Kind.ERROR:
                pass
        elif name in LISTENING:
            self._listen()
        else:
            self._follow(name, words, self._print(self._receive(), as_text))

    def _listen(self) -> None:
        """Print what is published until somebody stops the program, or the server refuses."""
        if self.options.output is not self.options.output.RAW:
            write(b"Reading messages... (press Ctrl-C to quit)\n")
        while self._print(self._next()).kind is not Kind.ERROR:
            pass

    def _follow(self, name: str, words: list[bytes], reply: Reply) -> None:
        """Keep in mind what a command has done to the session, for the prompt and for the next connection."""
        failed = reply.kind is Kind.ERROR
        if name == "auth":
            self._select()
        elif name == "select" and len(words) == 2 and not failed and words[1].isdigit():
            self._database = self._wanted_database = int(words[1])
        elif name == "multi" and not failed:
            self.in_transaction, self._database_before_multi = True, self._database
        elif name == "exec" and self.in_transaction:
            self._end_transaction(undone=failed or reply.kind is Kind.NIL)
        elif name == "discard" and not failed:
            self._end_transaction(undone=True)
        elif name == "reset" and not failed:
            self.in_transaction, self._database, self._wanted_database = False, 0, 0

    def _end_transaction(self, *, undone: bool) -> None:
        self.in_transaction = False
        if undone:
            self._database = self._wanted_database = self._database_before_multi

    def _log_in(self) -> bool:
        address = self.options.address
        if address.password is None:
            return True
        names = [] if address.username is None else [address.username.encode()]
        return self._arrange(b"AUTH", *names, address.password.encode())

    def _select(self) -> bool:
        if self._wanted_database == self._database:
            return True
        done = self._arrange(b"SELECT", str(self._wanted_database).encode(), shown=2)
        self._database = self._wanted_database if done else self._database
        return done

    def _choose_protocol(self) -> bool:
        if self.options.protocol in (None, Protocol.RESP2):
            return True
        return self._arrange(b"HELLO", b"3", shown=2) or self.options.protocol is Protocol.RESP3_IF_POSSIBLE

    def _arrange(self, *words: bytes, shown: int = 1) -> bool:
        """Send what belongs to connecting. Of an error, only `shown` words are printed: the others may be secret."""
        self._send([*words])
        reply = self._receive()
        if reply.kind is Kind.ERROR:
            _complain(f"{_text(b' '.join(words[:shown]))} failed: {_text(reply.text)}\n")
        return reply.kind is not Kind.ERROR

    def _send(self, words: list[bytes]) -> None:
        assert self._connection
        try:
            self._connection.send_packed_command(self._connection.pack_command(*words), check_health=False)
        except RedisError as error:
            raise Lost(_reason(error)) from error

    def _receive(self) -> Reply:
        """The next reply; pushes that come before it are printed, if they are wanted."""
        while (reply := self._next()).kind is Kind.PUSH:
            if self.options.shows_pushes:
                write(self._push(reply))
        return reply

    def _next(self) -> Reply:
        assert self._stream
        try:
            return replies.read(self._stream)
        except OSError as error:
            raise Lost(error.strerror or str(error)) from error

    def _print(self, reply: Reply, as_text: bool = False) -> Reply:
        if reply.kind is Kind.ERROR and self.options.fails and not self.interactive:
            raise Stop(f"{_text(reply.text)}\n")
        write(raw(reply, self.options.delimiter) if as_text else self._formatted(reply))
        return reply

    def _push(self, reply: Reply) -> bytes:
        match reply.elements:
            case [Reply(text=b"invalidate"), Reply(kind=Kind.ARRAY, elements=keys)]:
                if self.options.output is self.options.output.STANDARD:
                    return b"-> invalidate: " + b", ".join(b"'%b'" % key.text for key in keys) + b"\n"
        return self._formatted(reply)

    def _formatted(self, reply: Reply) -> bytes:
        return formatted(reply, self.options.output, self.options.delimiter, self.options.end)

    def _lose(self, error: Lost) -> None:
        _complain(f"Error: {error}\n")
        self.close()


def prints_as_text(words: list[bytes]) -> bool:
    """Whether redis-cli prints the answer as it is, in every format, because it is a text for people."""
    name, *arguments = (word.decode(errors="replace").lower() for word in words)
    first = arguments[0] if arguments else ""
    match name:
        case "info" | "lolwut":
            return True
        case "debug":
            return first in ("htstats", "htstats-key", "client-eviction")
        case "memory":
            return first in ("malloc-stats", "doctor")
        case "cluster":
            return len(arguments) == 1 and first in ("nodes", "info")
        case "client":
            return first in ("list", "info")
        case "latency":
            return (len(arguments), first) in ((2, "graph"), (1, "doctor"))
    return False


def write(text: bytes) -> None:
    """Print at once, so that whoever reads a pipe doesn't wait."""
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()


def _complain(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _text(reply: bytes) -> str:
    return reply.decode(errors="backslashreplace")


def _reason(error: RedisError) -> str:
    """What the system said, without redis-py's words around it."""
    if isinstance(error, RedisTimeout):
        return "Connection timed out"
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ssl.SSLError) and getattr(cause, "reason", None):
        return f"SSL_connect failed: {cause.reason.lower().replace('_', ' ')}"
    return (cause.strerror or str(cause)) if isinstance(cause, OSError) else str(error)
