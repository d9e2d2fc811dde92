"""Replies as they came over the wire, RESP2 and RESP3.

redis-py's own parsers turn them into Python's types, which lose what redis-cli prints: status or string, how a double was written, the
order and the double keys of a map.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import BinaryIO


class Kind(Enum):
    STATUS = auto()
    ERROR = auto()
    INTEGER = auto()
    DOUBLE = auto()
    BIG_NUMBER = auto()
    STRING = auto()
    VERBATIM = auto()
    NIL = auto()
    TRUE = auto()
    FALSE = auto()
    ARRAY = auto()
    SET = auto()
    PUSH = auto()
    MAP = auto()


@dataclass(frozen=True)
class Reply:
    """`text` of a simple one, `elements` of the others. A map's are key, value, key, value …"""

    kind: Kind
    text: bytes = b""
    elements: tuple[Reply, ...] = ()


class Lost(Exception):
    """There is no reply: the connection has ended, or what came isn't RESP."""


NIL = Reply(Kind.NIL)

LINES = {b"+": Kind.STATUS, b"-": Kind.ERROR, b":": Kind.INTEGER, b",": Kind.DOUBLE, b"(": Kind.BIG_NUMBER}
BULKS = {b"$": Kind.STRING, b"=": Kind.VERBATIM, b"!": Kind.ERROR}
AGGREGATES = {b"*": Kind.ARRAY, b"~": Kind.SET, b">": Kind.PUSH, b"%": Kind.MAP}
ATTRIBUTE = b"|"


def read(stream: BinaryIO) -> Reply:
    """Wait for the next reply.

    Raises:
        Lost: the server has closed the connection, or doesn't speak RESP.
    """
    line = _line(stream)
    sign, text = line[:1], line[1:]
    if sign in LINES:
        return Reply(LINES[sign], text)
    if sign in BULKS:
        size = _number(text)
        if size < 0:
            return NIL
        bulk = _exactly(stream, size + 2)[:-2]
        # A verbatim string begins with its format, as in `txt:`.
        return Reply(BULKS[sign], bulk[4:] if sign == b"=" else bulk)
    if sign in AGGREGATES:
        count = _number(text) * (2 if sign == b"%" else 1)
        return Reply(AGGREGATES[sign], elements=tuple(read(stream) for _ in range(count))) if count >= 0 else NIL
    if sign == ATTRIBUTE:
        # It says something about the reply behind it, which redis-cli doesn't print.
        for _ in range(2 * _number(text)):
            read(stream)
        return read(stream)
    if sign == b"_":
        return NIL
    if sign == b"#":
        return Reply(Kind.TRUE if text == b"t" else Kind.FALSE)
    raise Lost(f'Protocol error, got "{sign.decode("ascii", "backslashreplace")}" as reply type byte')


def _line(stream: BinaryIO) -> bytes:
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise Lost("Server closed the connection")
    return line[:-2]


def _exactly(stream: BinaryIO, size: int) -> bytes:
    found = stream.read(size)
    if len(found) < size:
        raise Lost("Server closed the connection")
    return found


def _number(text: bytes) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise Lost("Protocol error, bad length") from error
