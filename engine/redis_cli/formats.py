"""How replies are printed: redis-cli's formats for people and for programs, byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from functools import partial

from engine.redis_cli.replies import Kind, Reply
from engine.redis_cli.words import quoted


class Output(Enum):
    STANDARD = auto()
    RAW = auto()
    CSV = auto()
    JSON = auto()
    QUOTED_JSON = auto()


EMPTY = {
    Kind.ARRAY: b"(empty array)\n",
    Kind.SET: b"(empty set)\n",
    Kind.PUSH: b"(empty push)\n",
    Kind.MAP: b"(empty hash)\n",
}
SEPARATORS = {Kind.SET: b"~", Kind.MAP: b"#"}

JSON_ESCAPES = {ord(text): b"\\" + name for text, name in (("\\", b"\\"), ('"', b'"'), ("\n", b"n"), ("\f", b"f"))}
JSON_ESCAPES |= {ord(text): b"\\" + name for text, name in (("\r", b"r"), ("\t", b"t"), ("\b", b"b"))}
JSON = [JSON_ESCAPES.get(byte, b"\\u%04x" % byte if byte < 0x20 else bytes([byte])) for byte in range(256)]
"""How each byte is written in a JSON string. Bytes above 0x7f stay: text in UTF-8 is JSON then, anything else isn't."""


def formatted(reply: Reply, output: Output, delimiter: bytes, end: bytes) -> bytes:
    """All that is printed for a reply. `delimiter` stands between elements, `end` behind a reply, in raw output only."""
    match output:
        case Output.STANDARD:
            return standard(reply)
        case Output.RAW:
            return raw(reply, delimiter) + end
        case Output.CSV:
            return _csv(reply) + b"\n"
        case Output.JSON:
            return _json(reply, _json_string) + b"\n"
        case Output.QUOTED_JSON:
            return _json(reply, _quoted_json_string) + b"\n"


def raw(reply: Reply, delimiter: bytes) -> bytes:
    text = partial(raw, delimiter=delimiter)
    match reply.kind:
        case Kind.NIL:
            return b""
        case Kind.ERROR:
            return reply.text + b"\n"
        case Kind.TRUE:
            return b"(true)"
        case Kind.FALSE:
            return b"(false)"
        case Kind.MAP:
            return delimiter.join(text(key) + b" " + text(value) for key, value in _pairs(reply))
        case Kind.ARRAY | Kind.SET | Kind.PUSH:
            return delimiter.join(text(element) for element in reply.elements)
    return reply.text


def standard(reply: Reply, indent: bytes = b"") -> bytes:
    """Lines for a terminal. What an element begins with has been printed; `indent` goes before its further lines."""
    match reply.kind:
        case Kind.NIL:
            return b"(nil)\n"
        case Kind.ERROR:
            return b"(error) " + reply.text + b"\n"
        case Kind.INTEGER:
            return b"(integer) " + reply.text + b"\n"
        case Kind.DOUBLE:
            return b"(double) " + reply.text + b"\n"
        case Kind.STRING:
            return quoted(reply.text) + b"\n"
        case Kind.TRUE:
            return b"(true)\n"
        case Kind.FALSE:
            return b"(false)\n"
        case Kind.ARRAY | Kind.SET | Kind.PUSH | Kind.MAP:
            return _numbered(reply, indent)
    return reply.text + b"\n"


def _numbered(reply: Reply, indent: bytes) -> bytes:
    if not reply.elements:
        return EMPTY[reply.kind]
    is_map = reply.kind is Kind.MAP
    entries = list(_pairs(reply)) if is_map else [(element, None) for element in reply.elements]
    width = len(str(len(entries)))
    deeper = indent + b" " * (width + 2)
    lines = []
    for number, (element, value) in enumerate(entries, 1):
        lines.append(indent if number > 1 else b"")
        lines.append(b"%*d%b " % (width, number, SEPARATORS.get(reply.kind, b")")))
        lines.append(standard(element, deeper))
        if value is not None:
            lines[-1] = lines[-1].removesuffix(b"\n") + b" => "
            lines.append(b"\n" + deeper if _has_lines(value) else b"")
            lines.append(standard(value, deeper))
    return b"".join(lines)


def _has_lines(value: Reply) -> bool:
    """Whether a map's value takes more than one line; it begins on a line of its own then."""
    if not value.elements:
        return False
    alone = 2 if value.kind is Kind.MAP else 1
    return len(value.elements) > alone or _has_lines(value.elements[-1])


def _csv(reply: Reply) -> bytes:
    match reply.kind:
        case Kind.NIL:
            return b"NULL"
        case Kind.ERROR:
            return b"ERROR," + quoted(reply.text)
        case Kind.TRUE:
            return b"true"
        case Kind.FALSE:
            return b"false"
        case Kind.STATUS | Kind.STRING | Kind.VERBATIM:
            return quoted(reply.text)
        case Kind.INTEGER | Kind.DOUBLE | Kind.BIG_NUMBER:
            return reply.text
    return b",".join(_csv(element) for element in reply.elements)


def _json(reply: Reply, string: Callable[[bytes], bytes]) -> bytes:
    match reply.kind:
        case Kind.NIL:
            return b"null"
        case Kind.ERROR:
            return b"error:" + string(reply.text)
        case Kind.TRUE:
            return b"true"
        case Kind.FALSE:
            return b"false"
        case Kind.STATUS | Kind.STRING | Kind.VERBATIM:
            return string(reply.text)
        case Kind.INTEGER | Kind.DOUBLE | Kind.BIG_NUMBER:
            return reply.text
        case Kind.MAP:
            pairs = (_json_key(key, string) + b":" + _json(value, string) for key, value in _pairs(reply))
            return b"{" + b",".join(pairs) + b"}"
    return b"[" + b",".join(_json(element, string) for element in reply.elements) + b"]"


def _json_key(key: Reply, string: Callable[[bytes], bytes]) -> bytes:
    text = _json(key, string)
    return text if text.startswith((b'"', b"error:")) else b'"' + text + b'"'


def _json_string(text: bytes) -> bytes:
    return b'"' + b"".join(JSON[byte] for byte in text) + b'"'


def _quoted_json_string(text: bytes) -> bytes:
    return quoted(text).replace(b"\\", b"\\\\")


def _pairs(reply: Reply) -> zip[tuple[Reply, Reply]]:
    return zip(reply.elements[::2], reply.elements[1::2], strict=True)
